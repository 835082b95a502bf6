"""The registry's wire and its domain, turned into each other. Malformed input raises InvalidField."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import date_pb2

from npd.common.v1 import error_reason_pb2
from npd.registry.v1 import agency_pb2, agreement_pb2, revocation_pb2, rights_pb2
from services.mesh.core.agreements import Signature
from services.mesh.core.authorities import RevocationReason
from services.mesh.core.caller import Leaf
from services.mesh.core.clock import Validity
from services.mesh.core.errors import InvalidField
from services.mesh.core.rights import Mode, State, System, require_code
from services.mesh.wire import paging
from services.registry import domain, formats

SYSTEM_STATES = {
    State.ACTIVE: agency_pb2.SYSTEM_STATE_ACTIVE,
    State.SUSPENDED: agency_pb2.SYSTEM_STATE_SUSPENDED,
}
"""The numbers of a system's states."""

_AGREEMENT_STATES = {
    State.DRAFT: agreement_pb2.AGREEMENT_STATE_DRAFT,
    State.ACTIVE: agreement_pb2.AGREEMENT_STATE_ACTIVE,
    State.SUSPENDED: agreement_pb2.AGREEMENT_STATE_SUSPENDED,
}
_MAX_PATHS = 100
_MAX_CHAIN = 4


def page_from_wire(size: int, token: str, *, default: int, most: int, keys: int) -> domain.Page:
    """Which part of a list; its token is made of `keys` key columns. Raises InvalidField, PageTokenInvalid."""
    return domain.Page(paging.page_size(size, default=default, most=most), paging.from_token(token, keys) or None)


def page_token(page: domain.Page, count: int, *last_key: str) -> str:
    """Token of the next page; empty when this page was not full."""
    return paging.to_token(*last_key) if count == page.limit else ""


def agency_filter_from_wire(agency_id: str) -> str:
    """The agency whose items a list shall hold; empty for all."""
    return formats.require_identifier("agency_id", agency_id) if agency_id else ""


def system_key_from_wire(
    wire: agency_pb2.SuspendSystemRequest | agency_pb2.ResumeSystemRequest,
) -> tuple[str, str]:
    """Agency and id of the system that a request names."""
    agency_id = formats.require_identifier("agency_id", wire.agency_id)
    return agency_id, formats.require_identifier("system_id", wire.system_id)


def roster_from_wire(
    wire: agency_pb2.AddOfficersRequest | agency_pb2.RemoveOfficersRequest,
) -> list[domain.Officer]:
    """The officers whom a request names, each once."""
    agency_id = formats.require_identifier("agency_id", wire.agency_id)
    officer_ids = formats.require_officers("officer_ids", wire.officer_ids)
    return [domain.Officer(agency_id, officer_id) for officer_id in officer_ids]


def revision_from_wire(revision: int) -> int:
    """A revision that a room holds; 0 for none."""
    if revision < 0:
        raise InvalidField("revision", "must not be negative")
    return revision


def agency_from_wire(wire: agency_pb2.Agency) -> domain.Agency:
    """An agency to register."""
    agency_id = formats.require_identifier("agency.agency_id", wire.agency_id)
    name = formats.require_name("agency.name", wire.name)
    return domain.Agency(
        agency_id, name, formats.require_contact("agency.contact", wire.contact) if wire.contact else ""
    )


def agency_to_wire(agency: domain.Agency) -> agency_pb2.Agency:
    """An agency."""
    return agency_pb2.Agency(agency_id=agency.agency_id, name=agency.name, contact=agency.contact)


def agencies_to_wire(agencies: Sequence[domain.Agency], page: domain.Page) -> agency_pb2.ListAgenciesResponse:
    """A page of agencies."""
    last = agencies[-1].agency_id if agencies else ""
    return agency_pb2.ListAgenciesResponse(
        agencies=map(agency_to_wire, agencies), next_page_token=page_token(page, len(agencies), last)
    )


def system_from_wire(wire: agency_pb2.System) -> domain.NewSystem:
    """A system to register."""
    return domain.NewSystem(
        formats.require_identifier("system.agency_id", wire.agency_id),
        formats.require_identifier("system.system_id", wire.system_id),
        formats.require_name("system.name", wire.name),
    )


def system_to_wire(system: System) -> agency_pb2.System:
    """A system and its state."""
    return agency_pb2.System(
        agency_id=system.agency_id,
        system_id=system.system_id,
        name=system.name,
        state=SYSTEM_STATES[system.state],
        cause=system.cause,
        state_time=instant_to_wire(system.state_time),
    )


def systems_to_wire(systems: Sequence[System], page: domain.Page) -> agency_pb2.ListSystemsResponse:
    """A page of systems."""
    last = (systems[-1].agency_id, systems[-1].system_id) if systems else ()
    return agency_pb2.ListSystemsResponse(
        systems=map(system_to_wire, systems), next_page_token=page_token(page, len(systems), *last)
    )


def terms_from_wire(wire: agreement_pb2.AgreementTerms) -> domain.Terms:
    """Terms to draw up; their id and environment are given by the registry, not by the caller."""
    return domain.Terms(
        agency_id=formats.require_identifier("terms.agency_id", wire.agency_id),
        system_id=formats.require_identifier("terms.system_id", wire.system_id),
        purpose=require_code("terms.purpose", wire.purpose),
        provision=require_code("terms.provision", wire.provision),
        grants=tuple(_grant_from_wire(f"terms.grants[{index}]", grant) for index, grant in enumerate(wire.grants)),
        validity=Validity(
            _whole_date("terms.start_date", wire.start_date), _whole_date("terms.end_date", wire.end_date)
        ),
    )


def terms_to_bytes(terms: domain.Terms) -> bytes:
    """The bytes that both parties sign."""
    wire = agreement_pb2.AgreementTerms(
        agreement_id=terms.agreement_id,
        environment=terms.environment,
        agency_id=terms.agency_id,
        system_id=terms.system_id,
        purpose=terms.purpose,
        provision=terms.provision,
        start_date=date_to_wire(terms.validity.start),
        end_date=date_to_wire(terms.validity.end),
    )
    for grant in terms.grants:
        added = wire.grants.add(mode=grant.mode.value)  # a test holds the numbers equal
        added.fields.paths.extend(grant.paths)
    return wire.SerializeToString(deterministic=True)


def signature_from_wire(wire: agreement_pb2.AgreementSignature) -> Signature:
    """A party's signature."""
    if wire.sign_time.nanos:
        raise InvalidField("signature.sign_time", "must be in whole seconds")
    if len(wire.certificate_chain) > _MAX_CHAIN:
        raise InvalidField("signature.certificate_chain", "must be the leaf, then its issuing CA")
    sign_time = instant_from_wire("signature.sign_time", wire.sign_time)
    return Signature(tuple(wire.certificate_chain), sign_time, wire.signature)


def agreement_to_wire(agreement: domain.Agreement) -> agreement_pb2.Agreement:
    """An agreement with its terms as they were signed."""
    wire = agreement_pb2.Agreement(
        terms=agreement.terms, state=_AGREEMENT_STATES[agreement.state], cause=agreement.cause
    )
    for side, target in ((domain.Side.AGENCY, "agency_signature"), (domain.Side.OPERATOR, "operator_signature")):
        if side in agreement.signatures:
            getattr(wire, target).CopyFrom(_signature_to_wire(agreement.signatures[side]))
    return wire


def agreements_to_wire(
    agreements: Sequence[domain.Agreement], page: domain.Page
) -> agreement_pb2.ListAgreementsResponse:
    """A page of agreements."""
    last = agreements[-1].agreement_id if agreements else ""
    return agreement_pb2.ListAgreementsResponse(
        agreements=map(agreement_to_wire, agreements), next_page_token=page_token(page, len(agreements), last)
    )


def certificate_from_wire(wire: revocation_pb2.RevokeCertificateRequest) -> domain.CertificateName:
    """The certificate to revoke."""
    return domain.CertificateName(
        formats.require_issuer_key_id("issuer_key_id", wire.issuer_key_id),
        formats.require_serial_number("serial_number", wire.serial_number),
    )


def revocation_reason_from_wire(reason: int, field: str = "reason") -> RevocationReason:
    """Why a certificate is revoked."""
    try:
        return RevocationReason(reason)
    except ValueError:
        raise InvalidField(field, "must be a reason of the contract") from None


def standing_to_wire(standing: domain.Standing, leaf: Leaf) -> rights_pb2.WhoAmIResponse:
    """Who the caller is, by its certificate and by the registry."""
    caller, system = standing.caller, standing.system
    return rights_pb2.WhoAmIResponse(
        identity=caller.identity,
        agency_id=caller.agency_id,
        agency_name=standing.agency_name,
        system_id=caller.system_id,
        state=agency_pb2.SYSTEM_STATE_UNSPECIFIED if system is None else SYSTEM_STATES[system.state],
        cause="" if system is None else system.cause,
        certificate_expire_time=instant_to_wire(leaf.expire_time),
        certificate_serial_number=leaf.serial_number,
    )


def rights_to_wire(rights: domain.Rights) -> rights_pb2.DescribeRightsResponse:
    """What the caller's agreements grant."""
    return rights_pb2.DescribeRightsResponse(
        agreements=map(_agreement_rights_to_wire, rights.agreements), policy_revision=rights.policy_revision
    )


def instant_to_wire(instant: datetime) -> Timestamp:
    """An instant."""
    wire = Timestamp()
    wire.FromDatetime(instant)
    return wire


def instant_from_wire(field: str, wire: Timestamp) -> datetime:
    """An instant, aware, in UTC."""
    try:
        return wire.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidField(field, "must be a time from year 1 to 9999") from None


def date_to_wire(day: date | None) -> date_pb2.Date | None:
    """A whole date; None stays absent."""
    return None if day is None else date_pb2.Date(year=day.year, month=day.month, day=day.day)


def _whole_date(field: str, wire: date_pb2.Date) -> date:
    try:
        return date(wire.year, wire.month, wire.day)
    except ValueError:
        raise InvalidField(field, "must be a whole date of the calendar") from None


def _grant_from_wire(field: str, wire: agreement_pb2.Grant) -> domain.Grant:
    try:
        mode = Mode(wire.mode)
    except ValueError:
        raise InvalidField(f"{field}.mode", "must be a mode of the contract") from None
    if len(wire.fields.paths) > _MAX_PATHS:
        raise InvalidField(f"{field}.fields", f"must name {_MAX_PATHS} fields at most")
    return domain.Grant(mode, tuple(dict.fromkeys(wire.fields.paths)))


def _signature_to_wire(signature: Signature) -> agreement_pb2.AgreementSignature:
    return agreement_pb2.AgreementSignature(
        certificate_chain=signature.chain,
        sign_time=instant_to_wire(signature.sign_time),
        signature=signature.signature,
    )


def _agreement_rights_to_wire(rights: domain.AgreementRights) -> rights_pb2.AgreementRights:
    agreement = rights.agreement
    wire = rights_pb2.AgreementRights(
        agreement_id=agreement.agreement_id,
        purpose=agreement.purpose,
        provision=agreement.provision,
        start_date=date_to_wire(agreement.validity.start),
        end_date=date_to_wire(agreement.validity.end),
    )
    if rights.refusal:
        wire.refusal = error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{rights.refusal}")
    for mode, paths in sorted(rights.modes.items(), key=lambda item: item[0].value):
        wire.modes.add(mode=mode.value, paths=sorted(paths))  # a test holds the numbers equal
    return wire
