"""Turns the registry's policy entries into rights; an agreement is judged here, once, when it arrives."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date
from typing import Any

from cryptography import x509
from google.protobuf.unknown_fields import UnknownFieldSet
from google.type import date_pb2

from npd.registry.v1 import agency_pb2, agreement_pb2, policy_pb2
from services.mesh.core import agreements
from services.mesh.core.authorities import Authority, AuthorityState, Revoked
from services.mesh.core.clock import Validity
from services.mesh.core.legal_clock import ClockUnit, LegalClock, WorkingCalendar
from services.mesh.core.rights import (
    Agency,
    Agreement,
    FieldDefinition,
    Lane,
    Mode,
    Policy,
    Provision,
    Purpose,
    State,
    System,
)

# A registry may be newer than this room: a mode that is not known here is granted to nobody here, and who is in a state
# that is not known may not act. A lane that is not known is the ordinary one; a clock that cannot be counted is none.
# An authority in a state that is not known counts as retired: it stays named, so that its host does not fall open.
_MODES = frozenset(mode.value for mode in Mode)
_LANES = {lane.value: lane for lane in Lane}
_UNITS = {unit.value: unit for unit in ClockUnit}
_UNREADABLE = object()
_AUTHORITY_STATES = {state.value: state for state in AuthorityState}
_SYSTEM_STATES = {
    agency_pb2.SYSTEM_STATE_ACTIVE: State.ACTIVE,
    agency_pb2.SYSTEM_STATE_SUSPENDED: State.SUSPENDED,
}
_AGREEMENT_STATES = {
    agreement_pb2.AGREEMENT_STATE_DRAFT: State.DRAFT,
    agreement_pb2.AGREEMENT_STATE_ACTIVE: State.ACTIVE,
    agreement_pb2.AGREEMENT_STATE_SUSPENDED: State.SUSPENDED,
}


def apply(
    policy: Policy, entries: Iterable[policy_pb2.PolicyEntry], environment: str, roots: Sequence[x509.Certificate]
) -> Policy:
    """The next policy: `policy` with the entries put in, or taken out where they are marked removed."""
    mappings = (
        "agencies",
        "systems",
        "agreements",
        "authorities",
        "revoked",
        "fields",
        "purposes",
        "provisions",
        "clocks",
        "calendars",
    )
    tables: dict[str, Any] = {name: dict(getattr(policy, name)) for name in mappings}
    tables["officers"] = dict.fromkeys(policy.officers)
    tables["operators"] = dict.fromkeys(policy.operators)
    for entry in entries:
        kind = entry.WhichOneof("value")
        if kind is None:
            continue  # a kind of entry that this version does not know grants nothing
        table, key, value = _READERS[kind](getattr(entry, kind), environment, roots)
        if entry.removed or value is _UNREADABLE:
            tables[table].pop(key, None)
        else:
            tables[table][key] = value
    officers, operators = frozenset(tables.pop("officers")), frozenset(tables.pop("operators"))
    return replace(policy, officers=officers, operators=operators, **tables)


def date_of(wire: date_pb2.Date) -> date:
    """A whole date."""
    return date(wire.year, wire.month, wire.day)


def validity_of(message: Any) -> Validity:
    """Start and end of a message with start_date and end_date; an absent end is open."""
    end = date_of(message.end_date) if message.HasField("end_date") else None
    return Validity(date_of(message.start_date), end)


def signature_of(wire: agreement_pb2.AgreementSignature) -> agreements.Signature:
    """A party's signature."""
    return agreements.Signature(tuple(wire.certificate_chain), wire.sign_time.ToDatetime(UTC), wire.signature)


def signed_terms_of(wire: agreement_pb2.Agreement) -> agreements.SignedTerms:
    """An agreement's bytes and signatures."""
    agency = signature_of(wire.agency_signature) if wire.HasField("agency_signature") else None
    operator = signature_of(wire.operator_signature) if wire.HasField("operator_signature") else None
    state = _AGREEMENT_STATES.get(wire.state, State.SUSPENDED)
    return agreements.SignedTerms(wire.terms, agency, operator, state, wire.cause)


def judged(signed: agreements.SignedTerms, environment: str, roots: Sequence[x509.Certificate]) -> Agreement:
    """An agreement as rights, with the defect of its signatures or of its environment, if any."""
    terms = agreement_pb2.AgreementTerms.FromString(signed.terms)
    defect = agreements.defect_of(signed, environment, terms.agency_id, terms.system_id, roots)
    if len(UnknownFieldSet(terms)) or any(len(UnknownFieldSet(grant)) for grant in terms.grants):
        defect = "the agreement holds terms that this version does not know"  # a limit that is not kept grants too much
    if terms.environment != environment:
        defect = "the agreement is for another environment"
    return Agreement(
        agreement_id=terms.agreement_id,
        agency_id=terms.agency_id,
        system_id=terms.system_id,
        purpose=terms.purpose,
        provision=terms.provision,
        grants={Mode(grant.mode): frozenset(grant.fields.paths) for grant in terms.grants if grant.mode in _MODES},
        validity=validity_of(terms),
        state=signed.state,
        cause=signed.cause,
        defect=defect,
    )


def _agency(wire: agency_pb2.Agency, *_: object) -> tuple[str, object, object]:
    return "agencies", wire.agency_id, Agency(wire.name, wire.contact)


def _system(wire: agency_pb2.System, *_: object) -> tuple[str, object, object]:
    state = _SYSTEM_STATES.get(wire.state, State.SUSPENDED)
    system = System(wire.agency_id, wire.system_id, wire.name, state, wire.cause, wire.state_time.ToDatetime(UTC))
    return "systems", (wire.agency_id, wire.system_id), system


def _officer(wire: policy_pb2.RosteredOfficer, *_: object) -> tuple[str, object, object]:
    return "officers", (wire.agency_id, wire.officer_id), None


def _agreement(
    wire: agreement_pb2.Agreement, environment: str, roots: Sequence[x509.Certificate]
) -> tuple[str, object, object]:
    agreement = judged(signed_terms_of(wire), environment, roots)
    return "agreements", agreement.agreement_id, agreement


def _revoked(wire: policy_pb2.RevokedCertificate, *_: object) -> tuple[str, object, object]:
    revoked = Revoked(wire.revoke_time.ToDatetime(UTC), wire.reason, wire.key_id)
    return "revoked", (wire.issuer_key_id, wire.serial_number), revoked


def _authority(wire: policy_pb2.CertificateAuthority, *_: object) -> tuple[str, object, object]:
    state = _AUTHORITY_STATES.get(wire.state, AuthorityState.RETIRED)
    return "authorities", wire.key_id, Authority(wire.key_id, wire.host, state, wire.state_time.ToDatetime(UTC))


def _operator(wire: policy_pb2.Operator, *_: object) -> tuple[str, object, object]:
    return "operators", wire.name, None


def _field(wire: policy_pb2.FieldDefinition, *_: object) -> tuple[str, object, object]:
    return (
        "fields",
        wire.path,
        FieldDefinition(
            path=wire.path,
            provision=wire.provision,
            sensitive=wire.sensitive,
            authority=tuple(wire.authority),
            validity=validity_of(wire),
            followers=frozenset(wire.followers),
            lane=_LANES.get(wire.lane, Lane.NORMAL),
        ),
    )


def _purpose(wire: policy_pb2.Purpose, *_: object) -> tuple[str, object, object]:
    paths = frozenset(wire.paths)
    return "purposes", wire.code, Purpose(wire.code, wire.title, wire.provision, paths, validity_of(wire))


def _provision(wire: policy_pb2.Provision, *_: object) -> tuple[str, object, object]:
    provision = Provision(wire.provision_id, wire.citation, wire.summary, validity_of(wire))
    return "provisions", wire.provision_id, provision


def _clock(wire: policy_pb2.Clock, *_: object) -> tuple[str, object, object]:
    unit = _UNITS.get(wire.unit)
    if unit is None or wire.amount < 1:
        return "clocks", wire.code, _UNREADABLE
    clock = LegalClock(
        code=wire.code,
        title=wire.title,
        provision=wire.provision,
        start_act=wire.start_act,
        end_act=wire.end_act,
        amount=wire.amount,
        unit=unit,
        validity=validity_of(wire),
    )
    return "clocks", wire.code, clock


def _calendar(wire: policy_pb2.WorkingCalendar, *_: object) -> tuple[str, object, object]:
    rest_days, holidays = frozenset(wire.rest_days), frozenset(map(date_of, wire.holidays))
    return "calendars", wire.code, WorkingCalendar(wire.code, rest_days, holidays, validity_of(wire))


_READERS: dict[str, Callable[..., tuple[str, object, object]]] = {
    "agency": _agency,
    "system": _system,
    "officer": _officer,
    "agreement": _agreement,
    "authority": _authority,
    "revoked_certificate": _revoked,
    "operator": _operator,
    "field": _field,
    "purpose": _purpose,
    "provision": _provision,
    "clock": _clock,
    "calendar": _calendar,
}
