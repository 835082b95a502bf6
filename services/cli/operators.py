"""Commands by which operators act on the mesh, over the registry's RPCs and with an operator's certificate."""

import re
from typing import Annotated
from uuid import uuid4

import typer

from services.cli.options import (
    AddressOption,
    DirectoryOption,
    EndpointsOption,
    JsonOption,
    SystemArgument,
    registry,
    system_parts,
)
from services.cli.outcome import print_json

_REASONS = ("key_compromise", "affiliation_changed", "superseded", "cessation_of_operation", "privilege_withdrawn")


def connections(
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the connected databases: how well each is connected, and when it was last heard of.

    Example: npd connections --json
    """
    from npd.registry.v1 import directory_pb2, directory_pb2_grpc
    from services.cli import views

    with registry(directory, endpoints, address, as_json=as_json) as channel:
        stub = directory_pb2_grpc.DirectoryServiceStub(channel)
        answer = stub.ListConnections(directory_pb2.ListConnectionsRequest())
        print_json(views.json_of(answer)) if as_json else views.show_connections(answer.connections)


def suspend(
    system: SystemArgument,
    cause: Annotated[str, typer.Option(help="Why, for the suspended to read; no personal data.")],
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suspend a system: its open streams are cut within a second, its calls are refused with the cause.

    Example: npd system suspend tax/core --cause "Unusual number of lookups; call the operator"
    """
    from npd.registry.v1 import agency_pb2, agency_pb2_grpc
    from services.cli import views

    agency_id, system_id = system_parts(system)
    with registry(directory, endpoints, address, as_json=as_json) as channel:
        answer = agency_pb2_grpc.SystemServiceStub(channel).SuspendSystem(
            agency_pb2.SuspendSystemRequest(
                request_id=str(uuid4()), agency_id=agency_id, system_id=system_id, cause=cause
            )
        )
        print_json(views.json_of(answer)) if as_json else typer.echo(views.sentence_of(answer.system))


def resume(
    system: SystemArgument,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Resume a suspended system.

    Example: npd system resume tax/core
    """
    from npd.registry.v1 import agency_pb2, agency_pb2_grpc
    from services.cli import views

    agency_id, system_id = system_parts(system)
    with registry(directory, endpoints, address, as_json=as_json) as channel:
        answer = agency_pb2_grpc.SystemServiceStub(channel).ResumeSystem(
            agency_pb2.ResumeSystemRequest(request_id=str(uuid4()), agency_id=agency_id, system_id=system_id)
        )
        print_json(views.json_of(answer)) if as_json else typer.echo(views.sentence_of(answer.system))


def revoke(
    reason: Annotated[str, typer.Option(help=f"One of: {', '.join(_REASONS)}.")],
    certificate: Annotated[
        str, typer.Argument(metavar="FILE", help="PEM file of the certificate, followed by its issuer's (tls.crt).")
    ] = "",
    issuer_key_id: Annotated[
        str, typer.Option(help="Instead of a file: SHA-256 of the issuer's SubjectPublicKeyInfo, hex.")
    ] = "",
    serial: Annotated[str, typer.Option(help="Instead of a file: the serial number, hex.")] = "",
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a certificate for good: its open streams are cut within a second, its calls are refused.

    Example: npd cert revoke .npd/agencies/tax/core/tls.crt --reason key_compromise

    Example: npd cert revoke --issuer-key-id 3fa1... --serial 4c02... --reason superseded
    """
    from npd.registry.v1 import revocation_pb2, revocation_pb2_grpc
    from services.cli import views
    from services.cli.outcome import told

    name = reason.strip().upper().replace("-", "_")
    if name.lower() not in _REASONS:
        raise typer.BadParameter(f"a reason is one of: {', '.join(_REASONS)}", param_hint="--reason")
    with told(as_json=as_json):
        issuer_key_id, serial = _named(certificate, issuer_key_id, serial)
    with registry(directory, endpoints, address, as_json=as_json) as channel:
        answer = revocation_pb2_grpc.RevocationServiceStub(channel).RevokeCertificate(
            revocation_pb2.RevokeCertificateRequest(
                request_id=str(uuid4()),
                issuer_key_id=issuer_key_id,
                serial_number=serial,
                reason=revocation_pb2.RevocationReason.Value(f"REVOCATION_REASON_{name}"),
            )
        )
        if as_json:
            print_json({"issuer_key_id": issuer_key_id, "serial_number": serial, **views.json_of(answer)})
        else:
            typer.echo(f"certificate {serial} is revoked since {views.time_text(answer.revoke_time)}")


def _named(certificate: str, issuer_key_id: str, serial: str) -> tuple[str, str]:
    """Issuer key id and serial number of the certificate that is meant. Raises OSError for a file."""
    from pathlib import Path

    from cryptography import x509

    from services.mesh.core.caller import key_id

    if certificate and not (issuer_key_id or serial):
        try:
            leaf, *issuers = x509.load_pem_x509_certificates(Path(certificate).read_bytes())
        except ValueError:
            raise typer.BadParameter(f"{certificate} holds no certificate in PEM form") from None
        if not issuers:
            raise typer.BadParameter(
                f"{certificate} holds no issuer after the certificate: give --issuer-key-id and --serial instead"
            )
        return key_id(issuers[0]), f"{leaf.serial_number:x}"
    if issuer_key_id and serial and not certificate:
        digits = re.sub(r"[:\s]", "", serial).lower().removeprefix("0x").lstrip("0")
        return issuer_key_id.lower(), digits
    raise typer.BadParameter("name a certificate's file, or --issuer-key-id and --serial")
