"""Commands about applications for certificates: made with a signing request, decided by another operator, fetched."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from services.cli.naming import ISSUER, TIMEOUT, ProfileName, ProfileOption, identity_uri
from services.cli.options import (
    AddressOption,
    DirectoryOption,
    EndpointsOption,
    JsonOption,
    one_room,
    uuid_argument,
)
from services.cli.outcome import fail, print_json

if TYPE_CHECKING:
    from cryptography import x509

    from npd.issuer.v1 import certificate_pb2

_PAGE = 1000


class StateName(StrEnum):
    """State of an application."""

    PENDING = "pending"
    APPROVED = "approved"
    ISSUED = "issued"
    DENIED = "denied"
    EXPIRED = "expired"


def apply(
    request: Annotated[Path, typer.Argument(metavar="CSR", help="PKCS #10 signing request in PEM; never a key.")],
    identity: Annotated[
        str, typer.Option(help="For whom: AGENCY/SYSTEM, an operator's name, or an identity URI.", show_default=False)
    ],
    profile: ProfileOption = ProfileName.CLIENT_TLS,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Apply for a certificate. An operator other than you approves it, then it is issued by itself.

    Example: npd cert apply core.csr --identity tax/core --profile client_tls
    """
    from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
    from services.cli import issuer_views, views

    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        csr = request.read_bytes()
        if b"PRIVATE KEY" in csr:
            raise typer.BadParameter(f"{request} holds a private key, which nobody may send; name the signing request")
        answer = certificate_pb2_grpc.CertificateServiceStub(channel).ApplyForCertificate(
            certificate_pb2.ApplyForCertificateRequest(
                request_id=str(uuid4()),
                identity=identity_uri(channel, identity),
                profile=certificate_pb2.CertificateProfile.Value(f"CERTIFICATE_PROFILE_{profile.name}"),
                csr=csr,
            ),
            timeout=TIMEOUT,
        )
        made = answer.application
        if as_json:
            print_json(views.json_of(made))
            return
        issuer_views.show_application(made)
        typer.echo(f"Another operator decides: npd approval show {ISSUER} {made.application_id}")
        typer.echo(f"Then fetch it: npd cert application {made.application_id} --out DIRECTORY")


def list_(
    state: Annotated[StateName | None, typer.Option(help="Only those in this state.")] = None,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """List applications for certificates, newest first.

    Example: npd cert applications --state pending
    """
    from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
    from services.cli import issuer_views, views

    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        stub = certificate_pb2_grpc.CertificateServiceStub(channel)
        request = certificate_pb2.ListApplicationsRequest(page_size=_PAGE)
        if state is not None:
            request.state = certificate_pb2.ApplicationState.Value(f"APPLICATION_STATE_{state.name}")
        found: list[certificate_pb2.Application] = []
        while True:
            answer = stub.ListApplications(request, timeout=TIMEOUT)
            found += answer.applications
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
        if as_json:
            print_json({"applications": [views.json_of(one) for one in found]})
        else:
            issuer_views.show_applications(found)


def show(
    application: Annotated[str, typer.Argument(metavar="ID", help="The application's id.", callback=uuid_argument)],
    out: Annotated[
        Path | None,
        typer.Option(help="Write tls.crt and ca.crt into this directory, to lie beside the key.", show_default=False),
    ] = None,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an application; with --out fetch the certificate that was issued for it.

    Exit code 1 with --out: it is not issued.

    Example: npd cert application 6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21 --out .
    """
    from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
    from services.cli import issuer_views, views

    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        request = certificate_pb2.GetApplicationRequest(application_id=application)
        answer = certificate_pb2_grpc.CertificateServiceStub(channel).GetApplication(request, timeout=TIMEOUT)
        chain = answer.certificate.certificate_chain
        if out is not None and not chain:
            state = issuer_views.application_state_of(answer.application)
            because = f" ({answer.application.reason})" if answer.application.reason else ""
            fail(f"The application is {state}{because}: there is no certificate to write yet.", as_json=as_json)
        written = _write(out, answer, channel.credentials.files.root_certificates) if out is not None else ()
        if as_json:
            print_json({**views.json_of(answer), "files": [str(place) for place in written]})
            return
        issuer_views.show_application(answer.application)
        if chain:
            issuer_views.show_certificate(answer.certificate)
        for place in written:
            typer.echo(f"wrote {place}")


def _write(out: Path, answer: "certificate_pb2.GetApplicationResponse", trusted: bytes) -> tuple[Path, ...]:
    """Write the certificate with its chain, and the roots, if a root that we trust signed them.

    Raises typer.BadParameter, and writes nothing, if a key lies there that is not the certificate's.
    """
    from cryptography import x509

    from npd_client.credentials import AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE
    from npd_client.receipts import write_whole
    from npd_client.trust import read_trust_bundle

    chain = answer.certificate.certificate_chain
    if not _may_lie_beside(out / KEY_FILE, x509.load_pem_x509_certificate(chain)):
        raise typer.BadParameter(f"{out / KEY_FILE} is another key than that of the application; name its directory")
    files = {CERTIFICATE_FILE: chain}
    if answer.trust_bundle:
        anchors = x509.load_pem_x509_certificates(trusted)
        files[AUTHORITIES_FILE] = read_trust_bundle(answer.trust_bundle, anchors).roots_pem()
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(out / name, content)
    return tuple(out / name for name in files)


def _may_lie_beside(key: Path, leaf: "x509.Certificate") -> bool:
    """Whether no key is there, or the certificate's, or one that cannot be read without a passphrase."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not key.exists():
        return True
    try:
        held = load_pem_private_key(key.read_bytes(), None)
    except (TypeError, ValueError):
        return True
    return held.public_key() == leaf.public_key()
