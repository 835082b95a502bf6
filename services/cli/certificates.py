"""Commands by which operators find certificates: listed, shown, reported to whom it concerns. They change nothing."""

import sys
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from services.cli.naming import (
    ISSUER,
    TIMEOUT,
    CertificateArgument,
    IssuerKeyOption,
    authority_key_id,
    certificate_name,
    identity_uri,
    whole_name,
)
from services.cli.options import AddressOption, DirectoryOption, EndpointsOption, JsonOption, duration, one_room
from services.cli.outcome import print_json

if TYPE_CHECKING:
    from npd.issuer.v1 import certificate_pb2

_PAGE = 1000


class StateName(StrEnum):
    """State of a certificate."""

    INTENT = "intent"
    ISSUED = "issued"
    EXPIRED = "expired"
    REVOKED = "revoked"


CsvOption: TypeAlias = Annotated[
    bool, typer.Option("--csv", help="Print CSV with all facts, for a spreadsheet.", rich_help_panel="Output")
]


def list_(
    agency: Annotated[str, typer.Option(help="Only those of an agency.")] = "",
    system: Annotated[str, typer.Option(help="Only those of a system of that agency; or AGENCY/SYSTEM.")] = "",
    identity: Annotated[str, typer.Option(help="Only those of an identity: a URI, or an operator's name.")] = "",
    expires_within: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="TIME", help="Only those that expire within 30d, 72h, ..."),
    ] = None,
    status: Annotated[StateName | None, typer.Option(help="Only those in this state.")] = None,
    issuer: Annotated[str, typer.Option(help="Only those of an issuing CA: its key id, or the begin of it.")] = "",
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List certificates by their end, soonest first. All that is stated must hold.

    Example: npd cert list --agency tax --expires-within 30d

    Example: npd cert list --status revoked --csv > revoked.csv
    """
    from npd.issuer.v1 import certificate_pb2
    from services.cli import issuer_views, views

    _require_one_form(as_json=as_json, as_csv=as_csv)
    if "/" in system:
        agency, _, system = system.partition("/")
    if system and not agency:
        raise typer.BadParameter("name the agency too: --system AGENCY/SYSTEM", param_hint="--system")
    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        request = certificate_pb2.ListCertificatesRequest(
            agency_id=agency,
            system_id=system,
            identity=identity_uri(channel, identity) if identity else "",
            issuer_key_id=authority_key_id(channel, issuer) if issuer else "",
            page_size=_PAGE,
        )
        if expires_within is not None:
            request.expires_within.FromTimedelta(expires_within)
        if status is not None:
            request.state = certificate_pb2.CertificateState.Value(f"CERTIFICATE_STATE_{status.name}")
        found = list(_counted(_pages(channel, request)))
        if as_json:
            print_json({"certificates": [views.json_of(one) for one in found]})
        else:
            issuer_views.write_csv(found) if as_csv else issuer_views.show_certificates(found)


def show(
    certificate: CertificateArgument,
    issuer_key_id: IssuerKeyOption = "",
    pem: Annotated[bool, typer.Option("--pem", help="Print the certificate and its issuing CA in PEM.")] = False,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the issuer knows of a certificate.

    Example: npd cert show .npd/agencies/tax/core/tls.crt

    Example: npd cert show 4c0255a1 --pem > tls.crt
    """
    from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
    from services.cli import issuer_views, views

    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        name = whole_name(channel, certificate_name(certificate, issuer_key_id))
        request = certificate_pb2.GetCertificateRequest(
            issuer_key_id=name.issuer_key_id, serial_number=name.serial_number
        )
        found = certificate_pb2_grpc.CertificateServiceStub(channel).GetCertificate(request, timeout=TIMEOUT)
        if as_json:
            print_json(views.json_of(found.certificate))
        elif pem:
            typer.echo(found.certificate.certificate_chain.decode(), nl=False)
        else:
            issuer_views.show_certificate(found.certificate)


def expiring(
    within: Annotated[
        timedelta | None, typer.Option(parser=duration, metavar="TIME", help="How soon; by default 30d.")
    ] = None,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Report by agency which certificates expire soon and have no successor yet, and whom to call about them.

    Example: npd cert report expiring --within 30d
    """
    from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
    from services.cli import issuer_views, views

    _require_one_form(as_json=as_json, as_csv=as_csv)
    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        request = certificate_pb2.ReportExpiringRequest()
        if within is not None:
            request.within.FromTimedelta(within)
        answer = certificate_pb2_grpc.CertificateServiceStub(channel).ReportExpiring(request, timeout=TIMEOUT)
        if as_json:
            print_json(views.json_of(answer))
        elif as_csv:
            issuer_views.write_expiring_csv(answer.agencies)
        else:
            issuer_views.show_expiring(answer.agencies)
        if answer.is_partial and not as_json:
            typer.echo("These are the first of more: ask for a shorter time, or list by agency.", err=True)


def _pages(channel: Any, request: "certificate_pb2.ListCertificatesRequest") -> "Iterator[certificate_pb2.Certificate]":
    """All pages of a list."""
    from npd.issuer.v1 import certificate_pb2_grpc

    stub = certificate_pb2_grpc.CertificateServiceStub(channel)
    while True:
        answer = stub.ListCertificates(request, timeout=TIMEOUT)
        yield from answer.certificates
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def _counted(found: "Iterator[certificate_pb2.Certificate]") -> "Iterator[certificate_pb2.Certificate]":
    """The same; on a terminal with a count while they come."""
    from rich.console import Console

    screen = Console(stderr=True)
    if not (sys.stderr.isatty() and sys.stdout.isatty()):
        yield from found
        return
    with screen.status("reading certificates") as status:
        for number, one in enumerate(found, 1):
            if number % _PAGE == 0:
                status.update(f"{number:,} certificates")
            yield one


def _require_one_form(*, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise typer.BadParameter("choose --json or --csv")
