"""Commands that revoke certificates: one for good, or all that one selector names, after they were shown."""

from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from npd_client.channel import RotatingChannel
from services.cli.naming import (
    ISSUER,
    TIMEOUT,
    CertificateName,
    IssuerKeyOption,
    ReasonOption,
    authority_key_id,
    certificate_name,
    identity_uri,
    whole_name,
)
from services.cli.options import AddressOption, DirectoryOption, EndpointsOption, JsonOption, one_room
from services.cli.outcome import print_json, told

if TYPE_CHECKING:
    from npd.issuer.v1 import certificate_pb2

_REGISTRY = "registry"
_NAMED = 5


def revoke(
    reason: ReasonOption,
    certificate: Annotated[
        str, typer.Argument(metavar="[FILE|SERIAL]", help="PEM file (tls.crt), or serial number in hex.")
    ] = "",
    issuer_key_id: IssuerKeyOption = "",
    serial: Annotated[str, typer.Option(help="The serial number, hex, instead of the argument.")] = "",
    at_registry: Annotated[
        bool,
        typer.Option(
            "--at-registry", help="Tell the registry alone: for a room's certificate, or if the issuer is away."
        ),
    ] = False,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a certificate for good: its open streams are cut within a second, its calls are refused.

    With key_compromise its key is blocked for ever, and all certificates of that key are revoked.

    Example: npd cert revoke .npd/agencies/tax/core/tls.crt --reason key_compromise

    Example: npd cert revoke --issuer-key-id 3fa1... --serial 4c02... --reason superseded

    Example: npd cert revoke .npd/rooms/sharing/tls.crt --reason superseded --at-registry
    """
    if bool(certificate) == bool(serial):
        raise typer.BadParameter("name a certificate by its file, or by its serial number")
    with told(as_json=as_json):
        name = certificate_name(certificate or serial, issuer_key_id)
    if at_registry and not name.issuer_key_id:
        raise typer.BadParameter("at the registry the issuer must be told: add it to the file, or give --issuer-key-id")
    room, act = (_REGISTRY, _revoke_at_registry) if at_registry else (ISSUER, _revoke_at_issuer)
    with one_room(room, directory, endpoints, address, as_json=as_json) as channel:
        act(channel, name, reason.name, as_json=as_json)


def revoke_all(
    reason: ReasonOption,
    agency: Annotated[str, typer.Option(help="All certificates of an agency.")] = "",
    identity: Annotated[
        str, typer.Option(help="All of an identity: AGENCY/SYSTEM, an operator's name, or a URI.")
    ] = "",
    key_id: Annotated[str, typer.Option(help="All of a key: SHA-256 of its SubjectPublicKeyInfo, hex.")] = "",
    issuer: Annotated[str, typer.Option(help="All of an issuing CA: its key id, or the begin of it.")] = "",
    orphaned_intents: Annotated[
        bool, typer.Option("--orphaned-intents", help="All that were to be issued, and nobody knows whether they were.")
    ] = False,
    execute: Annotated[bool, typer.Option("--execute", help="Do it. Without it they are only shown.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again before it is done.")] = False,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke all unexpired certificates that one selector names; without --execute they are only shown.

    Example: npd cert revoke-all --agency tax --reason cessation_of_operation

    Example: npd cert revoke-all --agency tax --reason cessation_of_operation --execute
    """
    from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
    from npd.registry.v1 import revocation_pb2
    from services.cli import issuer_views, views

    if sum(map(bool, (agency, identity, key_id, issuer, orphaned_intents))) != 1:
        raise typer.BadParameter("give just one of --agency, --identity, --key-id, --issuer and --orphaned-intents")
    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        request = certificate_pb2.RevokeCertificatesRequest(
            request_id=str(uuid4()), reason=revocation_pb2.RevocationReason.Value(f"REVOCATION_REASON_{reason.name}")
        )
        if agency:
            request.agency_id = agency
        elif identity:
            request.identity = identity_uri(channel, identity)
        elif key_id:
            request.key_id = key_id.strip().lower()
        elif issuer:
            request.issuer_key_id = authority_key_id(channel, issuer)
        else:
            request.orphaned_intents = True
        stub = certificate_pb2_grpc.CertificateServiceStub(channel)
        answer = stub.RevokeCertificates(request, timeout=TIMEOUT)
        if execute and answer.certificate_count:
            if not yes:
                _confirm(answer, reason.value)
            request.request_id, request.execute = str(uuid4()), True
            answer = stub.RevokeCertificates(request, timeout=10 * TIMEOUT)
        if as_json:
            print_json(views.json_of(answer))
            return
        more = answer.certificate_count - len(answer.certificates)
        issuer_views.show_certificates(answer.certificates, more=more)
        if answer.is_executed:
            typer.echo(f"{answer.certificate_count:,} certificates are revoked")
        elif answer.certificate_count:
            typer.echo("Nothing was revoked. The same command with --execute revokes them for good.")


def _confirm(answer: "certificate_pb2.RevokeCertificatesResponse", reason: str) -> None:
    """Say what would be revoked, and ask; without a yes the command ends, and nothing is done."""
    identities = sorted({one.identity for one in answer.certificates})
    named = ", ".join(identities[:_NAMED]) + (f", {len(identities) - _NAMED} more" if len(identities) > _NAMED else "")
    question = f"Revoke {answer.certificate_count:,} certificates for good ({reason}), of {named}?"
    typer.confirm(question, abort=True, err=True)


def _revoke_at_issuer(channel: RotatingChannel, given: CertificateName, reason: str, *, as_json: bool) -> None:
    from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
    from npd.registry.v1 import revocation_pb2
    from services.cli import views

    name = whole_name(channel, given)
    answer = certificate_pb2_grpc.CertificateServiceStub(channel).RevokeCertificate(
        certificate_pb2.RevokeCertificateRequest(
            request_id=str(uuid4()),
            issuer_key_id=name.issuer_key_id,
            serial_number=name.serial_number,
            reason=revocation_pb2.RevocationReason.Value(f"REVOCATION_REASON_{reason}"),
        ),
        timeout=TIMEOUT,
    )
    if as_json:
        print_json(views.json_of(answer))
        return
    for one in answer.certificates:
        is_asked = one.serial_number == name.serial_number
        sibling = "" if is_asked else ", of the same key,"
        typer.echo(f"certificate {one.serial_number}{sibling} is revoked since {views.time_text(one.revoke_time)}")


def _revoke_at_registry(channel: RotatingChannel, name: CertificateName, reason: str, *, as_json: bool) -> None:
    from npd.registry.v1 import revocation_pb2, revocation_pb2_grpc
    from services.cli import views

    answer = revocation_pb2_grpc.RevocationServiceStub(channel).RevokeCertificate(
        revocation_pb2.RevokeCertificateRequest(
            request_id=str(uuid4()),
            issuer_key_id=name.issuer_key_id,
            serial_number=name.serial_number,
            reason=revocation_pb2.RevocationReason.Value(f"REVOCATION_REASON_{reason}"),
        ),
        timeout=TIMEOUT,
    )
    if as_json:
        facts = {"issuer_key_id": name.issuer_key_id, "serial_number": name.serial_number}
        print_json({**facts, **views.json_of(answer)})
    else:
        typer.echo(f"certificate {name.serial_number} is revoked since {views.time_text(answer.revoke_time)}")
