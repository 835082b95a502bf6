"""How operators name what the issuer knows: certificates by file or serial, authorities by the begin of a key id.

What they type is made into the contract's spelling here, once for all commands.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from npd_client.channel import RotatingChannel
from services.cli.options import system_parts

if TYPE_CHECKING:
    from npd.issuer.v1 import authority_pb2

ISSUER = "issuer"
TIMEOUT = 30.0
"""Seconds for a call to the issuer."""

CertificateArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="FILE|SERIAL",
        help="PEM file of the certificate (tls.crt), or its serial number in hex.",
        show_default=False,
    ),
]
IssuerKeyOption: TypeAlias = Annotated[
    str, typer.Option("--issuer-key-id", help="Issuing CA of a serial number, by key id; else all CAs are asked.")
]

_HEX = re.compile(r"[0-9a-f]{1,40}")
_KEY_ID = re.compile(r"[0-9a-f]{8,64}")
_WHOLE_KEY_ID = 64


class Reason(StrEnum):
    """Why a certificate is revoked (RFC 5280 5.3.1)."""

    KEY_COMPROMISE = "key_compromise"
    AFFILIATION_CHANGED = "affiliation_changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation_of_operation"
    PRIVILEGE_WITHDRAWN = "privilege_withdrawn"


class ProfileName(StrEnum):
    """What a certificate is for."""

    CLIENT_TLS = "client_tls"
    SIGNING = "signing"


ReasonOption: TypeAlias = Annotated[
    Reason, typer.Option("--reason", help="Why.", case_sensitive=False, show_default=False)
]
ProfileOption: TypeAlias = Annotated[
    ProfileName, typer.Option("--profile", help="What it is for: to call the mesh, or to sign agreements.")
]


@dataclass(frozen=True, slots=True)
class CertificateName:
    """What names a certificate: SHA-256 of its issuer's SubjectPublicKeyInfo and its serial number, lower-case hex.

    `issuer_key_id` is empty if it was not told.
    """

    issuer_key_id: str
    serial_number: str


def certificate_name(given: str, issuer_key_id: str = "") -> CertificateName:
    """The certificate that is meant, by file or serial number. Raises typer.BadParameter, OSError."""
    place = Path(given)
    if place.is_file():
        return _name_in(place, issuer_key_id.lower())
    digits = re.sub(r"[:\s]", "", given).lower().removeprefix("0x").lstrip("0")
    if not _HEX.fullmatch(digits):
        raise typer.BadParameter(f"{given!r} is neither a file nor a serial number in hex")
    return CertificateName(issuer_key_id.lower(), digits)


def whole_name(channel: RotatingChannel, name: CertificateName) -> CertificateName:
    """The same certificate with its issuer; where that was not told, each authority is asked. Raises grpc.RpcError.

    Raises typer.BadParameter if none of them knows the serial number.
    """
    import grpc

    from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc
    from npd_client.errors import refusal_of

    if name.issuer_key_id:
        return name
    stub = certificate_pb2_grpc.CertificateServiceStub(channel)
    for authority in authorities(channel):
        request = certificate_pb2.GetCertificateRequest(
            issuer_key_id=authority.key_id, serial_number=name.serial_number
        )
        try:
            found = stub.GetCertificate(request, timeout=TIMEOUT).certificate
        except grpc.RpcError as error:
            if refusal_of(error).reason != "CERTIFICATE_UNKNOWN":
                raise
            continue
        return CertificateName(found.issuer_key_id, found.serial_number)
    raise typer.BadParameter(
        f"no authority of the issuer knows a certificate {name.serial_number}; give its file, or --issuer-key-id too"
    )


def authorities(channel: RotatingChannel) -> "list[authority_pb2.Authority]":
    """The authorities as the issuer lists them. Raises grpc.RpcError."""
    from npd.issuer.v1 import authority_pb2, authority_pb2_grpc

    stub = authority_pb2_grpc.AuthorityServiceStub(channel)
    return list(stub.ListAuthorities(authority_pb2.ListAuthoritiesRequest(), timeout=TIMEOUT).authorities)


def authority_key_id(channel: RotatingChannel, given: str) -> str:
    """The key id of an authority, of which the first 8 digits are enough. Raises typer.BadParameter, grpc.RpcError."""
    digits = given.strip().lower()
    if not _KEY_ID.fullmatch(digits):
        raise typer.BadParameter("an authority is named by its key id in hex, at least the first 8 digits of it")
    if len(digits) == _WHOLE_KEY_ID:
        return digits
    return _only([one.key_id for one in authorities(channel) if one.key_id.startswith(digits)], digits)


def identity_uri(channel: RotatingChannel, given: str) -> str:
    """An identity: a URI as it is; AGENCY/SYSTEM or an operator's name, in the environment of the caller's own."""
    from npd_client.credentials import identity_of

    if "://" in given:
        return given
    environment = identity_of(channel.credentials.leaf).partition("://")[2].partition("/")[0].partition(".")[2]
    if "/" in given:
        agency_id, system_id = system_parts(given)
        return f"spiffe://agency.{environment}/{agency_id}/{system_id}"
    return f"spiffe://operator.{environment}/{given}"


def _name_in(place: Path, issuer_key_id: str) -> CertificateName:
    from cryptography import x509

    from services.mesh.core.caller import key_id

    try:
        leaf, *issuers = x509.load_pem_x509_certificates(place.read_bytes())
    except ValueError:
        raise typer.BadParameter(f"{place} holds no certificate in PEM form") from None
    told = key_id(issuers[0]) if issuers else ""
    if issuer_key_id and told and issuer_key_id != told:
        raise typer.BadParameter(f"the certificate in {place} was issued by {told}, not by {issuer_key_id}")
    return CertificateName(told or issuer_key_id, f"{leaf.serial_number:x}")


def _only(found: Iterable[str], digits: str) -> str:
    key_ids = list(found)
    if len(key_ids) != 1:
        said = "no authority has a key id" if not key_ids else f"{len(key_ids)} authorities have key ids"
        raise typer.BadParameter(f"{said} that begins with {digits}; see: npd authority list")
    return key_ids[0]
