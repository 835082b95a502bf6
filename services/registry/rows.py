"""The policy's objects as rows of their tables, and back."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Row, Table

from services.mesh.core.agreements import Signature
from services.mesh.core.authorities import Authority, AuthorityState, RevocationReason
from services.mesh.core.clock import Validity
from services.mesh.core.legal_clock import ClockUnit, LegalClock, WorkingCalendar
from services.mesh.core.rights import FieldDefinition, Lane, Provision, Purpose, State, System
from services.registry.domain import Agency, Agreement, Officer, Operator, PolicyObject, Revocation, Side
from services.registry.tables import (
    AGENCIES,
    AGREEMENTS,
    CALENDARS,
    CERTIFICATE_AUTHORITIES,
    CLOCKS,
    FIELDS,
    OFFICERS,
    OPERATORS,
    PROVISIONS,
    PURPOSES,
    REVOCATIONS,
    SYSTEMS,
)


def row_of(subject: PolicyObject) -> tuple[Table, dict[str, object]]:
    """Where an object stands, and its columns."""
    match subject:
        case Agency(agency_id, name, contact):
            return AGENCIES, {"agency_id": agency_id, "name": name, "contact": contact}
        case System():
            return SYSTEMS, {
                "agency_id": subject.agency_id,
                "system_id": subject.system_id,
                "name": subject.name,
                "state": subject.state.value,
                "cause": subject.cause,
                "state_time": subject.state_time,
            }
        case Officer(agency_id, officer_id):
            return OFFICERS, {"agency_id": agency_id, "officer_id": officer_id}
        case Agreement():
            return AGREEMENTS, _agreement_row(subject)
        case Revocation():
            return REVOCATIONS, {
                "issuer_key_id": subject.issuer_key_id,
                "serial_number": subject.serial_number,
                "reason": subject.reason.value,
                "revoke_time": subject.revoke_time,
                "key_id": subject.key_id,
            }
        case Authority():
            return CERTIFICATE_AUTHORITIES, {
                "key_id": subject.key_id,
                "host": subject.host,
                "state": subject.state.name,
                "state_time": subject.state_time,
            }
        case Operator(name):
            return OPERATORS, {"name": name}
        case FieldDefinition():
            own: dict[str, object] = {"path": subject.path, "provision": subject.provision}
            own |= {"sensitive": subject.sensitive, "authority": list(subject.authority)}
            own |= {"followers": sorted(subject.followers), "lane": subject.lane.name}
            return FIELDS, own | _validity_row(subject.validity)
        case Purpose():
            own = {"code": subject.code, "title": subject.title, "provision": subject.provision}
            return PURPOSES, own | {"paths": sorted(subject.paths)} | _validity_row(subject.validity)
        case Provision():
            own = {"provision_id": subject.provision_id, "citation": subject.citation, "summary": subject.summary}
            return PROVISIONS, own | _validity_row(subject.validity)
        case LegalClock():
            return CLOCKS, _clock_row(subject)
        case WorkingCalendar():
            own = {"code": subject.code, "rest_days": sorted(subject.rest_days), "holidays": sorted(subject.holidays)}
            return CALENDARS, own | _validity_row(subject.validity)


def _agreement_row(agreement: Agreement) -> dict[str, object]:
    row: dict[str, object] = {
        "agreement_id": agreement.agreement_id,
        "agency_id": agreement.agency_id,
        "system_id": agreement.system_id,
        "terms": agreement.terms,
    }
    for side in Side:
        signature = agreement.signatures.get(side)
        row[f"{side.value}_chain"] = None if signature is None else list(signature.chain)
        row[f"{side.value}_sign_time"] = None if signature is None else signature.sign_time
        row[f"{side.value}_signature"] = None if signature is None else signature.signature
        row[f"{side.value}_suspends"] = agreement.suspended_by.get(side)
    return row


def _clock_row(clock: LegalClock) -> dict[str, object]:
    return {
        "code": clock.code,
        "title": clock.title,
        "provision": clock.provision,
        "start_act": clock.start_act,
        "end_act": clock.end_act,
        "amount": clock.amount,
        "unit": clock.unit.name,
        **_validity_row(clock.validity),
    }


def _validity_row(validity: Validity) -> dict[str, object]:
    return {"start_date": validity.start, "end_date": validity.end}


def agency_of(row: Row[Any]) -> Agency:
    """An agency."""
    return Agency(row.agency_id, row.name, row.contact)


def system_of(row: Row[Any]) -> System:
    """A system."""
    return System(row.agency_id, row.system_id, row.name, State(row.state), row.cause, row.state_time)


def officer_of(row: Row[Any]) -> Officer:
    """An officer."""
    return Officer(row.agency_id, row.officer_id)


def agreement_of(row: Row[Any]) -> Agreement:
    """An agreement."""
    columns = row._mapping
    signatures = {
        side: Signature(
            tuple(columns[f"{side.value}_chain"]),
            columns[f"{side.value}_sign_time"],
            columns[f"{side.value}_signature"],
        )
        for side in Side
        if columns[f"{side.value}_signature"] is not None
    }
    causes = {side: columns[f"{side.value}_suspends"] for side in Side}
    suspended_by = {side: cause for side, cause in causes.items() if cause is not None}
    return Agreement(row.agreement_id, row.agency_id, row.system_id, row.terms, signatures, suspended_by)


def revocation_of(row: Row[Any]) -> Revocation:
    """A revocation."""
    reason = RevocationReason(row.reason)
    return Revocation(row.issuer_key_id, row.serial_number, reason, row.revoke_time, row.key_id)


def authority_of(row: Row[Any]) -> Authority:
    """A certification authority."""
    return Authority(row.key_id, row.host, AuthorityState[row.state], row.state_time)


def operator_of(row: Row[Any]) -> Operator:
    """An operator."""
    return Operator(row.name)


def field_of(row: Row[Any]) -> FieldDefinition:
    """A field of the catalogue."""
    validity = Validity(row.start_date, row.end_date)
    followers, lane = frozenset(row.followers), Lane[row.lane]
    return FieldDefinition(row.path, row.provision, row.sensitive, tuple(row.authority), validity, followers, lane)


def purpose_of(row: Row[Any]) -> Purpose:
    """A purpose."""
    validity = Validity(row.start_date, row.end_date)
    return Purpose(row.code, row.title, row.provision, frozenset(row.paths), validity)


def provision_of(row: Row[Any]) -> Provision:
    """A provision."""
    return Provision(row.provision_id, row.citation, row.summary, Validity(row.start_date, row.end_date))


def clock_of(row: Row[Any]) -> LegalClock:
    """A legal clock."""
    return LegalClock(
        code=row.code,
        title=row.title,
        provision=row.provision,
        start_act=row.start_act,
        end_act=row.end_act,
        amount=row.amount,
        unit=ClockUnit[row.unit],
        validity=Validity(row.start_date, row.end_date),
    )


def calendar_of(row: Row[Any]) -> WorkingCalendar:
    """A calendar."""
    validity = Validity(row.start_date, row.end_date)
    return WorkingCalendar(row.code, frozenset(row.rest_days), frozenset(row.holidays), validity)


READERS: Mapping[Table, Callable[[Row[Any]], PolicyObject]] = {
    AGENCIES: agency_of,
    SYSTEMS: system_of,
    OFFICERS: officer_of,
    AGREEMENTS: agreement_of,
    REVOCATIONS: revocation_of,
    CERTIFICATE_AUTHORITIES: authority_of,
    OPERATORS: operator_of,
    FIELDS: field_of,
    PURPOSES: purpose_of,
    PROVISIONS: provision_of,
    CLOCKS: clock_of,
    CALENDARS: calendar_of,
}
"""How the rows of each table of the policy are read."""
