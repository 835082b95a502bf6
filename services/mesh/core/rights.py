"""Rights: what the policy in force lets a caller do. Pure decisions over an immutable snapshot; no I/O."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from enum import Enum

from services.mesh.core.authorities import Authority, Revoked
from services.mesh.core.clock import Validity
from services.mesh.core.errors import InvalidField, Kind, MaskEmpty, MeshError
from services.mesh.core.legal_clock import LegalClock, WorkingCalendar
from services.mesh.core.person.pin import holds_pin

_CODE = re.compile(r"[!-~]{1,64}", re.ASCII)
NEVER = datetime.min.replace(tzinfo=UTC)


class SystemUnknown(MeshError):
    """The caller's system is not registered."""

    kind, reason = Kind.PERMISSION_DENIED, "SYSTEM_UNKNOWN"


class SystemSuspended(MeshError):
    """The caller's system is suspended."""

    kind, reason = Kind.PERMISSION_DENIED, "SYSTEM_SUSPENDED"


class OperatorUnknown(MeshError):
    """The operator is not on the registry's list."""

    kind, reason = Kind.PERMISSION_DENIED, "OPERATOR_UNKNOWN"


class AgreementUnknown(MeshError):
    """No such agreement is known."""

    kind, reason = Kind.PERMISSION_DENIED, "AGREEMENT_UNKNOWN"


class AgreementForeign(MeshError):
    """The agreement belongs to another system."""

    kind, reason = Kind.PERMISSION_DENIED, "AGREEMENT_FOREIGN"


class AgreementSuspended(MeshError):
    """The agreement is suspended."""

    kind, reason = Kind.PERMISSION_DENIED, "AGREEMENT_SUSPENDED"


class AgreementExpired(MeshError):
    """The agreement's last day has passed."""

    kind, reason = Kind.PERMISSION_DENIED, "AGREEMENT_EXPIRED"


class AgreementNotYetValid(MeshError):
    """The agreement's first day has not come."""

    kind, reason = Kind.PERMISSION_DENIED, "AGREEMENT_NOT_YET_VALID"


class AgreementSignatureInvalid(MeshError):
    """The agreement lacks a valid signature of one of its parties."""

    kind, reason = Kind.PERMISSION_DENIED, "AGREEMENT_SIGNATURE_INVALID"


class ModeNotGranted(MeshError):
    """The agreement does not grant the mode."""

    kind, reason = Kind.PERMISSION_DENIED, "MODE_NOT_GRANTED"


class FieldNotGranted(MeshError):
    """A field lies outside the agreement's grant."""

    kind, reason = Kind.PERMISSION_DENIED, "FIELD_NOT_GRANTED"


class FieldOutsidePurpose(MeshError):
    """A field lies outside what the purpose can need."""

    kind, reason = Kind.PERMISSION_DENIED, "FIELD_OUTSIDE_PURPOSE"


class PurposeUnknown(MeshError):
    """The purpose is not known or not in force."""

    kind, reason = Kind.INVALID_ARGUMENT, "PURPOSE_UNKNOWN"


class OfficerNotOnRoster(MeshError):
    """The officer is not on the agency's roster."""

    kind, reason = Kind.PERMISSION_DENIED, "OFFICER_NOT_ON_ROSTER"


class Mode(Enum):
    """Modes of an agreement, with the numbers of npd.common.v1.AccessMode."""

    VERIFY = 1
    LOOKUP = 2
    BATCH = 3
    MATCH = 4
    CHANGES = 5
    EXTRACT = 6
    EXCHANGE = 7
    CONTRIBUTE = 8
    USAGE = 9
    REGISTER = 10


class Lane(Enum):
    """Lanes of the feed, with the numbers of npd.common.v1.Lane."""

    VITAL = 1
    NORMAL = 2


class State(Enum):
    """State of a system or an agreement."""

    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


@dataclass(frozen=True, slots=True)
class Access:
    """The ground of a request as its caller states it: agreement, case, officer.

    `origin` is the system on whose behalf a room calls, as that room asserts it; it authorises nothing.
    """

    agreement_id: str
    case_reference: str
    officer_id: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """The ground of a request as the policy confirms it; goes into evidence as it stands."""

    access: Access
    mode: Mode
    purpose: str
    provision: str


@dataclass(frozen=True, slots=True)
class Agency:
    """An agency's name, and where its administrators are reached; empty if it never said."""

    name: str
    contact: str = ""


@dataclass(frozen=True, slots=True)
class System:
    """A system's standing."""

    agency_id: str
    system_id: str
    name: str
    state: State
    cause: str
    state_time: datetime


@dataclass(frozen=True, slots=True)
class Agreement:
    """An agreement whose signatures this room has checked itself; `defect` says what is wrong with them."""

    agreement_id: str
    agency_id: str
    system_id: str
    purpose: str
    provision: str
    grants: Mapping[Mode, frozenset[str]]
    validity: Validity
    state: State
    cause: str
    defect: str = ""


@dataclass(frozen=True, slots=True)
class FieldDefinition:
    """A field of the catalogue: who may write it, in the order of authority, and since when it is one.

    `followers` are the rooms that see its changes, `lane` is where these travel in the feed.
    """

    path: str
    provision: str
    sensitive: bool
    authority: tuple[str, ...]
    validity: Validity
    followers: frozenset[str] = frozenset()
    lane: Lane = Lane.NORMAL


@dataclass(frozen=True, slots=True)
class Purpose:
    """A purpose and the fields that it can need."""

    code: str
    title: str
    provision: str
    paths: frozenset[str]
    validity: Validity


@dataclass(frozen=True, slots=True)
class Provision:
    """A provision of law."""

    provision_id: str
    citation: str
    summary: str
    validity: Validity


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything the registry has told, at one revision. Never changed: `apply` makes the next one.

    `authorities` are by key id, `revoked` by the issuer's key id and the serial number. `forgotten` and `given_up` are
    what a registry that was restored from a backup told before and tells no more: revocations, and authorities as
    REVOKED. `governed_hosts` follows from the authorities of both kinds: no other issues identities of these hosts.
    """

    revision: int = 0
    issue_time: datetime = NEVER
    agencies: Mapping[str, Agency] = field(default_factory=dict)
    systems: Mapping[tuple[str, str], System] = field(default_factory=dict)
    officers: frozenset[tuple[str, str]] = frozenset()
    agreements: Mapping[str, Agreement] = field(default_factory=dict)
    authorities: Mapping[str, Authority] = field(default_factory=dict)
    revoked: Mapping[tuple[str, str], Revoked] = field(default_factory=dict)
    forgotten: Mapping[tuple[str, str], Revoked] = field(default_factory=dict)
    given_up: Mapping[str, Authority] = field(default_factory=dict)
    operators: frozenset[str] = frozenset()
    fields: Mapping[str, FieldDefinition] = field(default_factory=dict)
    purposes: Mapping[str, Purpose] = field(default_factory=dict)
    provisions: Mapping[str, Provision] = field(default_factory=dict)
    clocks: Mapping[str, LegalClock] = field(default_factory=dict)
    calendars: Mapping[str, WorkingCalendar] = field(default_factory=dict)
    governed_hosts: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # every call asks for them, so they are gathered once a policy
        named = (*self.authorities.values(), *self.given_up.values())
        object.__setattr__(self, "governed_hosts", frozenset(one.host for one in named))

    def fresh_at(self, issue_time: datetime) -> "Policy":
        """The same policy, confirmed by the registry at a later time."""
        return replace(self, issue_time=max(issue_time, self.issue_time))

    def remembering(self, held: "Policy") -> "Policy":
        """A whole policy that takes the place of one that was held: what was revoked stays so, whoever forgets it."""
        revoked = {**held.forgotten, **held.revoked}
        given_up = {**held.given_up, **{key_id: one for key_id, one in held.authorities.items() if one.is_revoked}}
        return replace(
            self,
            forgotten={name: one for name, one in revoked.items() if name not in self.revoked},
            given_up={
                key_id: one
                for key_id, one in given_up.items()
                if key_id not in self.authorities or not self.authorities[key_id].is_revoked
            },
        )

    def forgets_more_than(self, held: "Policy") -> bool:
        """Whether the registry told of revocations until the policy that was held, and tells of them no more."""
        lost = (self.forgotten.keys() - held.forgotten.keys(), self.given_up.keys() - held.given_up.keys())
        return any(lost)

    def revocation_of(self, issuer_key_id: str, serial_number: str) -> Revoked | None:
        """The revocation of a certificate, if it is revoked."""
        name = issuer_key_id, serial_number
        return self.revoked.get(name) or self.forgotten.get(name)

    def authority(self, key_id: str) -> Authority | None:
        """An authority in the state that counts."""
        return self.given_up.get(key_id) or self.authorities.get(key_id)

    def require_system_active(self, agency_id: str, system_id: str) -> System:
        """The system, or SystemUnknown, SystemSuspended."""
        system = self.systems.get((agency_id, system_id))
        if system is None:
            raise SystemUnknown(system=f"{agency_id}/{system_id}")
        if system.state is not State.ACTIVE:
            raise SystemSuspended(
                system=f"{agency_id}/{system_id}", cause=system.cause, suspend_time=system.state_time.isoformat()
            )
        return system

    def require_operator(self, name: str) -> None:
        """Raises OperatorUnknown unless he is on the list."""
        if name not in self.operators:
            raise OperatorUnknown(operator=name)

    def followed_by(self, room: str, day: date) -> frozenset[str]:
        """The paths of which a room sees the changes."""
        return frozenset(path for path, definition in self.fields_in_force(day).items() if room in definition.followers)

    def field_in_force(self, path: str, day: date) -> FieldDefinition | None:
        """The catalogue's definition of a path on a day."""
        definition = self.fields.get(path)
        return definition if definition is not None and definition.validity.covers(day) else None

    def fields_in_force(self, day: date) -> dict[str, FieldDefinition]:
        """The catalogue on a day, by path."""
        return {path: definition for path, definition in self.fields.items() if definition.validity.covers(day)}

    def purpose_in_force(self, code: str, day: date) -> Purpose:
        """The purpose on a day, or PurposeUnknown."""
        purpose = self.purposes.get(code)
        if purpose is None or not purpose.validity.covers(day):
            raise PurposeUnknown(purpose=code)
        return purpose

    def require_agreement(self, agency_id: str, system_id: str, agreement_id: str, day: date) -> Agreement:
        """The agreement, if it is this system's, properly signed, active and in force on the day; else the reason."""
        agreement = self.agreements.get(agreement_id)
        if agreement is None:
            raise AgreementUnknown(agreement=agreement_id)
        if (agreement.agency_id, agreement.system_id) != (agency_id, system_id):
            raise AgreementForeign(agreement=agreement_id)
        if agreement.defect:
            raise AgreementSignatureInvalid(agreement=agreement_id, defect=agreement.defect)
        if agreement.state is not State.ACTIVE:
            raise AgreementSuspended(agreement=agreement_id, cause=agreement.cause)
        if day < agreement.validity.start:
            raise AgreementNotYetValid(agreement=agreement_id, start_date=agreement.validity.start)
        if not agreement.validity.covers(day):
            raise AgreementExpired(agreement=agreement_id, end_date=agreement.validity.end)
        return agreement

    def usable_paths(self, agreement: Agreement, mode: Mode, day: date) -> frozenset[str]:
        """Grant and purpose intersected: the top-level paths the mode may use on the day. ModeNotGranted if none."""
        granted = agreement.grants.get(mode)
        if granted is None:
            raise ModeNotGranted(agreement=agreement.agreement_id, mode=mode.name)
        return granted & self.purpose_in_force(agreement.purpose, day).paths

    def authorise(
        self, agency_id: str, system_id: str, access: Access, mode: Mode, paths: Iterable[str], day: date
    ) -> Ground:
        """Confirm the ground of a request for some paths of Person (deeper paths count by their first segment).

        1. The agreement is this system's, properly signed, active, in force.
        2. The officer is on the agency's roster.
        3. The agreement grants the mode, and every path, within the purpose.

        Raises the reason; for a path it names the field and the rule.
        """
        agreement = self.require_agreement(agency_id, system_id, access.agreement_id, day)  # (1)
        if (agency_id, access.officer_id) not in self.officers:  # (2)
            raise OfficerNotOnRoster(officer=access.officer_id)
        usable = self.usable_paths(agreement, mode, day)  # (3)
        for path in paths:
            if path.partition(".")[0] not in usable:
                raise self._path_refusal(agreement, mode, path)
        return Ground(access, mode, agreement.purpose, agreement.provision)

    def _path_refusal(self, agreement: Agreement, mode: Mode, path: str) -> MeshError:
        granted = agreement.grants[mode]
        if path.partition(".")[0] in granted:
            rule = f"purpose {agreement.purpose} by {self.purposes[agreement.purpose].provision}"
            return FieldOutsidePurpose(purpose=agreement.purpose, field=path, rule=rule)
        rule = f"agreement {agreement.agreement_id} grants {mode.name} of {', '.join(sorted(granted))}"
        return FieldNotGranted(agreement=agreement.agreement_id, mode=mode.name, field=path, rule=rule)


def require_code(field: str, value: str) -> str:
    """The code of a purpose, or the id of a provision. Raises InvalidField."""
    if not _CODE.fullmatch(value) or holds_pin(value):
        raise InvalidField(field, "must be 1 to 64 visible ASCII characters without blanks, and hold no PIN")
    return value


def require_paths(paths: Iterable[str], known: Iterable[str], name: str) -> frozenset[str]:
    """Top-level paths as a set. Raises MaskEmpty for none, InvalidField for one that is not known."""
    given = frozenset(paths)
    if not given:
        raise MaskEmpty(name, "must name at least one field")
    unknown = sorted(given - frozenset(known))
    if unknown:
        raise InvalidField(name, f"{unknown[0]} is not a field of the catalogue")
    return given
