"""Certificates and applications, from the wire and onto it."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from npd.issuer.v1 import certificate_pb2
from npd.registry.v1 import revocation_pb2
from services.issuer.domain import (
    Application,
    ApplicationState,
    Approvable,
    Certificate,
    CertificateName,
    CertificateState,
    ExpiringReport,
    Issued,
    Profile,
    ProfileNotEntitled,
    RenewalWindow,
    RevokedMany,
    Wanted,
)
from services.issuer.repository.applications import Place as ApplicationPlace
from services.issuer.repository.certificates import Place as CertificatePlace
from services.mesh.core.authorities import RevocationReason
from services.mesh.core.errors import InvalidField, PageTokenInvalid
from services.mesh.wire import paging
from services.mesh.wire.access import uuid_from_wire

_KEY_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SERIAL_NUMBER = re.compile(r"[1-9a-f][0-9a-f]{0,39}", re.ASCII)
_SEGMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_ORPHANED_AFTER = timedelta(hours=1)
_SOON = timedelta(days=30)
_LONGEST_IDENTITY = 400


def profile_from_wire(value: int) -> Profile:
    """A profile. Raises ProfileNotEntitled for one that the contract does not have."""
    try:
        return Profile(value)
    except ValueError:
        raise ProfileNotEntitled(profile=value) from None


def name_from_wire(issuer_key_id: str, serial_number: str) -> CertificateName:
    """What names a certificate."""
    if not _SERIAL_NUMBER.fullmatch(serial_number):
        raise InvalidField("serial_number", "must be lower-case hex without leading zeros, 40 digits at most")
    return CertificateName(key_id_from_wire(issuer_key_id, "issuer_key_id"), serial_number)


def key_id_from_wire(value: str, field: str) -> str:
    """The id of a key."""
    if not _KEY_ID.fullmatch(value):
        raise InvalidField(field, "must be 64 lower-case hex digits")
    return value


def segment_from_wire(value: str, field: str) -> str:
    """The id of an agency or system."""
    if not _SEGMENT.fullmatch(value):
        raise InvalidField(field, "must be 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit")
    return value


def reason_from_wire(value: int) -> RevocationReason:
    """Why a certificate is revoked."""
    try:
        return RevocationReason(value)
    except ValueError:
        raise InvalidField("reason", "must be a reason of the contract") from None


def application_id_from_wire(value: str) -> UUID:
    """The id of an application."""
    return UUID(uuid_from_wire(value, "application_id"))


def application_state_from_wire(value: int) -> ApplicationState | None:
    """A state of applications; None for any."""
    try:
        return ApplicationState(value) if value else None
    except ValueError:
        raise InvalidField("state", "must be a state of the contract") from None


def certificate_state_from_wire(value: int) -> CertificateState | None:
    """A state of certificates; None for any."""
    try:
        return CertificateState(value) if value else None
    except ValueError:
        raise InvalidField("state", "must be a state of the contract") from None


def span_from_wire(wire: Duration, field: str) -> timedelta:
    """A time to come. Raises InvalidField unless it is more than nothing and less than a life."""
    span: timedelta = wire.ToTimedelta() if -(10**9) < wire.seconds < 10**9 else timedelta()
    if span <= timedelta():
        raise InvalidField(field, "must be more than nothing, and less than thirty years")
    return span


def wanted_from_wire(wire: certificate_pb2.ListCertificatesRequest, now: datetime) -> Wanted:
    """Which certificates are looked for."""
    before = now + span_from_wire(wire.expires_within, "expires_within") if wire.HasField("expires_within") else None
    return Wanted(
        agency_id=segment_from_wire(wire.agency_id, "agency_id") if wire.agency_id else "",
        system_id=segment_from_wire(wire.system_id, "system_id") if wire.system_id else "",
        identity=_identity(wire.identity) if wire.identity else "",
        issuer_key_id=key_id_from_wire(wire.issuer_key_id, "issuer_key_id") if wire.issuer_key_id else "",
        state=certificate_state_from_wire(wire.state),
        expire_before=before,
    )


def within_from_wire(wire: certificate_pb2.ReportExpiringRequest) -> timedelta:
    """How soon a certificate has to expire to be reported."""
    return span_from_wire(wire.within, "within") if wire.HasField("within") else _SOON


def selected_from_wire(wire: certificate_pb2.RevokeCertificatesRequest, now: datetime) -> Wanted:
    """Which certificates one selector names; none, or an empty one, never means all. Raises InvalidField."""
    match wire.WhichOneof("selector"):
        case "agency_id":
            return Wanted(agency_id=segment_from_wire(wire.agency_id, "agency_id"))
        case "identity":
            return Wanted(identity=_identity(wire.identity))
        case "key_id":
            return Wanted(key_id=key_id_from_wire(wire.key_id, "key_id"))
        case "issuer_key_id":
            return Wanted(issuer_key_id=key_id_from_wire(wire.issuer_key_id, "issuer_key_id"))
        case "orphaned_intents" if wire.orphaned_intents:
            return Wanted(state=CertificateState.INTENT, intent_before=now - _ORPHANED_AFTER)
    raise InvalidField("selector", "must be exactly one of them, and not empty")


def _identity(value: str) -> str:
    if not value.startswith("spiffe://") or len(value) > _LONGEST_IDENTITY or not value.isprintable():
        raise InvalidField("identity", "must be an identity URI, spiffe://agency.<environment>/tax/core")
    return value


def certificate_place(token: str) -> CertificatePlace | None:
    """Where a page of certificates begins."""
    key = paging.from_token(token, 3)
    return (_token_time(key[0]), key[1], key[2]) if key else None


def place_of(token: str) -> ApplicationPlace | None:
    """Where a page of applications, or of enrolments, begins."""
    key = paging.from_token(token, 2)
    try:
        return (_token_time(key[0]), UUID(key[1])) if key else None
    except ValueError:
        raise PageTokenInvalid("page_token", "must be the next_page_token of the answer before") from None


def _token_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PageTokenInvalid("page_token", "must be the next_page_token of the answer before") from None


def instant(moment: datetime | None) -> Timestamp | None:
    """An instant on the wire, or none."""
    if moment is None:
        return None
    wire = Timestamp()
    wire.FromDatetime(moment)
    return wire


def certificate_to_wire(one: Certificate, now: datetime, chain: bytes = b"") -> certificate_pb2.Certificate:
    """A certificate, if need be with its chain (PEM)."""
    return certificate_pb2.Certificate(
        issuer_key_id=one.name.issuer_key_id,
        serial_number=one.name.serial_number,
        identity=one.identity,
        profile=one.profile.value,  # type: ignore[arg-type]  # a test holds the numbers equal, here and below
        state=one.state_at(now).value,  # type: ignore[arg-type]
        start_time=instant(one.start_time),
        expire_time=instant(one.expire_time),
        key_id=one.key_id,
        revoke_time=instant(one.revoke_time),
        revocation_reason=_reason(one.revocation_reason),
        certificate_chain=chain,
        application_id=str(one.application_id or ""),
    )


def _reason(reason: RevocationReason | None) -> revocation_pb2.RevocationReason.ValueType:
    return reason.value if reason else revocation_pb2.REVOCATION_REASON_UNSPECIFIED  # type: ignore[return-value]


def window_to_wire(window: RenewalWindow | None) -> certificate_pb2.RenewalWindow | None:
    """When to renew, if there is something to."""
    if window is None:
        return None
    return certificate_pb2.RenewalWindow(
        start_time=instant(window.start_time), end_time=instant(window.end_time), is_urgent=window.is_urgent
    )


def application_to_wire(one: Application) -> certificate_pb2.Application:
    """An application, as it stands."""
    wire = _application(one)
    wire.state = one.state.value  # type: ignore[assignment]
    wire.reason = one.reason
    return wire


def _application(one: Application) -> certificate_pb2.Application:
    """What never changes of an application."""
    return certificate_pb2.Application(
        application_id=str(one.application_id),
        identity=one.identity,
        profile=one.profile.value,  # type: ignore[arg-type]
        profile_version=one.profile_version,
        csr_digest=one.csr_digest,
        key_id=one.key_id,
        applicant=one.applicant,
        apply_time=instant(one.apply_time),
        expire_time=instant(one.expire_time),
    )


def approvable(one: Application) -> Approvable:
    """An application as its approver reads it: what it is for, by which request and terms, without how it stands."""
    packed = Packed()
    packed.Pack(_application(one), deterministic=True)
    return Approvable(packed.SerializeToString(deterministic=True), sha256(packed.value).digest())


def renewed_to_wire(issued: Issued, now: datetime, bundle: bytes) -> certificate_pb2.RenewCertificateResponse:
    """What a holder gets who renewed."""
    return certificate_pb2.RenewCertificateResponse(
        certificate=issued_to_wire(issued, now), window=window_to_wire(issued.window), trust_bundle=bundle
    )


def issued_to_wire(issued: Issued, now: datetime) -> certificate_pb2.Certificate | None:
    """The certificate of an application with its chain, once issued."""
    return certificate_to_wire(issued.certificate, now, issued.chain) if issued.certificate else None


def shown_to_wire(issued: Issued, now: datetime, bundle: bytes) -> certificate_pb2.GetApplicationResponse:
    """An application with its certificate."""
    return certificate_pb2.GetApplicationResponse(
        application=application_to_wire(issued.application),
        certificate=issued_to_wire(issued, now),
        trust_bundle=bundle if issued.certificate else b"",
    )


def applications_to_wire(found: list[Application], limit: int) -> certificate_pb2.ListApplicationsResponse:
    """A page of applications."""
    last = found[-1] if len(found) == limit else None
    token = paging.to_token(last.apply_time.isoformat(), str(last.application_id)) if last else ""
    return certificate_pb2.ListApplicationsResponse(applications=map(application_to_wire, found), next_page_token=token)


def certificates_to_wire(
    found: list[Certificate], limit: int, now: datetime
) -> certificate_pb2.ListCertificatesResponse:
    """A page of certificates, without their chains."""
    last = found[-1] if len(found) == limit else None
    token = (
        paging.to_token(last.expire_time.isoformat(), last.name.issuer_key_id, last.name.serial_number) if last else ""
    )
    return certificate_pb2.ListCertificatesResponse(certificates=light(found, now), next_page_token=token)


def light(found: Iterable[Certificate], now: datetime) -> list[certificate_pb2.Certificate]:
    """Certificates without their chains."""
    return [certificate_to_wire(one, now) for one in found]


def revoked_to_wire(revoked: RevokedMany, now: datetime) -> certificate_pb2.RevokeCertificatesResponse:
    """What an act on many revoked, or would revoke."""
    return certificate_pb2.RevokeCertificatesResponse(
        certificate_count=revoked.count, is_executed=revoked.is_executed, certificates=light(revoked.certificates, now)
    )


def expiring_to_wire(report: ExpiringReport, now: datetime) -> certificate_pb2.ReportExpiringResponse:
    """What expires soon, by agency."""
    wire = certificate_pb2.ReportExpiringResponse(is_partial=report.is_partial)
    for one in report.agencies:
        wire.agencies.add(
            agency_id=one.agency_id,
            agency_name=one.agency_name,
            contact=one.contact,
            certificates=light(one.certificates, now),
        )
    return wire
