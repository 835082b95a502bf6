"""Turns changes of the policy into the entries that rooms receive; `services.mesh.wire.policy_entries` reads them."""

from npd.registry.v1 import policy_pb2
from services.mesh.core.authorities import Authority
from services.mesh.core.legal_clock import LegalClock, WorkingCalendar
from services.mesh.core.rights import FieldDefinition, Provision, Purpose, System
from services.registry import convert
from services.registry.domain import Agency, Agreement, Change, Officer, Operator, PolicyObject, Revocation


def entry_to_wire(change: Change) -> policy_pb2.PolicyEntry:
    """An entry. A removed one carries its last value, which names it."""
    entry = _entry(change.subject)
    entry.removed = change.removed
    return entry


def _entry(subject: PolicyObject) -> policy_pb2.PolicyEntry:
    match subject:
        case Agency():
            key = f"agency/{subject.agency_id}"
            return policy_pb2.PolicyEntry(key=key, agency=convert.agency_to_wire(subject))
        case System():
            key = f"system/{subject.agency_id}/{subject.system_id}"
            return policy_pb2.PolicyEntry(key=key, system=convert.system_to_wire(subject))
        case Officer(agency_id, officer_id):
            officer = policy_pb2.RosteredOfficer(agency_id=agency_id, officer_id=officer_id)
            return policy_pb2.PolicyEntry(key=f"officer/{agency_id}/{officer_id}", officer=officer)
        case Agreement():
            key = f"agreement/{subject.agreement_id}"
            return policy_pb2.PolicyEntry(key=key, agreement=convert.agreement_to_wire(subject))
        case Revocation():
            key = f"revoked_certificate/{subject.issuer_key_id}/{subject.serial_number}"
            return policy_pb2.PolicyEntry(key=key, revoked_certificate=_revoked(subject))
        case Authority():
            key = f"authority/{subject.key_id}"
            return policy_pb2.PolicyEntry(key=key, authority=_authority(subject))
        case Operator(name):
            return policy_pb2.PolicyEntry(key=f"operator/{name}", operator=policy_pb2.Operator(name=name))
        case FieldDefinition():
            return policy_pb2.PolicyEntry(key=f"field/{subject.path}", field=_field(subject))
        case Purpose():
            return policy_pb2.PolicyEntry(key=f"purpose/{subject.code}", purpose=_purpose(subject))
        case Provision():
            return policy_pb2.PolicyEntry(key=f"provision/{subject.provision_id}", provision=_provision(subject))
        case LegalClock():
            return policy_pb2.PolicyEntry(key=f"clock/{subject.code}", clock=_clock(subject))
        case WorkingCalendar():
            return policy_pb2.PolicyEntry(key=f"calendar/{subject.code}", calendar=_calendar(subject))


def _revoked(revocation: Revocation) -> policy_pb2.RevokedCertificate:
    return policy_pb2.RevokedCertificate(
        issuer_key_id=revocation.issuer_key_id,
        serial_number=revocation.serial_number,
        reason=revocation.reason.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        revoke_time=convert.instant_to_wire(revocation.revoke_time),
        key_id=revocation.key_id,
    )


def _authority(authority: Authority) -> policy_pb2.CertificateAuthority:
    return policy_pb2.CertificateAuthority(
        key_id=authority.key_id,
        host=authority.host,
        state=authority.state.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        state_time=convert.instant_to_wire(authority.state_time),
    )


def _field(field: FieldDefinition) -> policy_pb2.FieldDefinition:
    return policy_pb2.FieldDefinition(
        path=field.path,
        provision=field.provision,
        sensitive=field.sensitive,
        authority=field.authority,
        start_date=convert.date_to_wire(field.validity.start),
        end_date=convert.date_to_wire(field.validity.end),
        followers=sorted(field.followers),
        lane=field.lane.value,  # type: ignore[arg-type]  # a test holds the numbers equal
    )


def _purpose(purpose: Purpose) -> policy_pb2.Purpose:
    return policy_pb2.Purpose(
        code=purpose.code,
        title=purpose.title,
        provision=purpose.provision,
        paths=sorted(purpose.paths),
        start_date=convert.date_to_wire(purpose.validity.start),
        end_date=convert.date_to_wire(purpose.validity.end),
    )


def _provision(provision: Provision) -> policy_pb2.Provision:
    return policy_pb2.Provision(
        provision_id=provision.provision_id,
        citation=provision.citation,
        summary=provision.summary,
        start_date=convert.date_to_wire(provision.validity.start),
        end_date=convert.date_to_wire(provision.validity.end),
    )


def _clock(clock: LegalClock) -> policy_pb2.Clock:
    return policy_pb2.Clock(
        code=clock.code,
        title=clock.title,
        provision=clock.provision,
        start_act=clock.start_act,
        end_act=clock.end_act,
        amount=clock.amount,
        unit=clock.unit.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        start_date=convert.date_to_wire(clock.validity.start),
        end_date=convert.date_to_wire(clock.validity.end),
    )


def _calendar(calendar: WorkingCalendar) -> policy_pb2.WorkingCalendar:
    return policy_pb2.WorkingCalendar(
        code=calendar.code,
        rest_days=sorted(calendar.rest_days),  # DayOfWeek has the numbers of ISO weekdays
        holidays=map(convert.date_to_wire, sorted(calendar.holidays)),
        start_date=convert.date_to_wire(calendar.validity.start),
        end_date=convert.date_to_wire(calendar.validity.end),
    )
