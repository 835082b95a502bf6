"""What the registry keeps, and the rules by which it changes. Knows no wire, no store and no clock."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import Enum
from typing import TypeAlias

from services.mesh.core import rights
from services.mesh.core.agreements import Signature
from services.mesh.core.authorities import Authority, AuthorityState, RevocationReason
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.clock import CLOCKS_APART, Validity
from services.mesh.core.contacts import Backlog, Lag
from services.mesh.core.errors import InvalidField, Kind, MaskEmpty, MaskUnknownPath, MeshError, StateNotAllowed
from services.mesh.core.legal_clock import LegalClock, WorkingCalendar
from services.mesh.core.rights import (
    FieldDefinition,
    FieldOutsidePurpose,
    Mode,
    Provision,
    Purpose,
    PurposeUnknown,
    State,
    System,
)

_LONGEST_ECHO = 64


class AgencyUnknown(MeshError):
    """No such agency is registered."""

    kind, reason = Kind.NOT_FOUND, "AGENCY_UNKNOWN"


class ProvisionUnknown(MeshError):
    """The provision is not known or not in force."""

    kind, reason = Kind.INVALID_ARGUMENT, "PROVISION_UNKNOWN"


class Side(Enum):
    """The two sides of an agreement."""

    AGENCY = "agency"
    OPERATOR = "operator"


class ConnectionState(Enum):
    """How well a system or a room is connected, with the numbers of npd.registry.v1.ConnectionState."""

    CONNECTED = 1
    DEGRADED = 2
    SILENT = 3


@dataclass(frozen=True, slots=True)
class Agency:
    """An agency, and where its administrators are reached; empty if it never said."""

    agency_id: str
    name: str
    contact: str = ""


@dataclass(frozen=True, slots=True)
class NewSystem:
    """A system as it is to be registered."""

    agency_id: str
    system_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Officer:
    """An officer on an agency's roster."""

    agency_id: str
    officer_id: str


@dataclass(frozen=True, slots=True)
class RosterChange:
    """How many officers a change of a roster added or removed."""

    count: int


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of the National Population Database."""

    name: str


@dataclass(frozen=True, slots=True)
class CertificateName:
    """What names a certificate: its issuer's key and its serial number."""

    issuer_key_id: str
    serial_number: str


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revoked certificate: its issuer's key, its serial number, why and since when; a compromised key, if told."""

    issuer_key_id: str
    serial_number: str
    reason: RevocationReason
    revoke_time: datetime
    key_id: str = ""

    @property
    def certificate(self) -> CertificateName:
        """The certificate that is revoked."""
        return CertificateName(self.issuer_key_id, self.serial_number)


@dataclass(frozen=True, slots=True)
class CertificateAct:
    """What the issuer did with a certificate or an authority. `digest` is the SHA-256 of the act as it was told."""

    act_id: str
    digest: bytes
    method: str
    actor: str
    object: str
    act_time: datetime
    revocations: tuple[Revocation, ...]
    authority: Authority | None


@dataclass(frozen=True, slots=True)
class RecordedAct:
    """An act that is recorded."""

    act_id: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Fields granted in one mode, in the order in which the agreement names them."""

    mode: Mode
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is agreed. `agreement_id` and `environment` are empty until the agreement is drawn up."""

    agency_id: str
    system_id: str
    purpose: str
    provision: str
    grants: tuple[Grant, ...]
    validity: Validity
    agreement_id: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """An agreement as it is kept: the bytes that are signed, who signed them, and which side suspends it and why."""

    agreement_id: str
    agency_id: str
    system_id: str
    terms: bytes
    signatures: Mapping[Side, Signature]
    suspended_by: Mapping[Side, str]

    @property
    def state(self) -> State:
        """DRAFT until both sides signed, then ACTIVE unless a side suspends it."""
        if len(self.signatures) < len(Side):
            return State.DRAFT
        return State.SUSPENDED if self.suspended_by else State.ACTIVE

    @property
    def cause(self) -> str:
        """Why it is suspended; the operator's cause before the agency's."""
        return self.suspended_by.get(Side.OPERATOR) or self.suspended_by.get(Side.AGENCY, "")

    def side_of(self, caller: Caller) -> Side | None:
        """The side for which a caller acts: an operator, or the very system; None for anybody else."""
        if caller.kind is CallerKind.OPERATOR:
            return Side.OPERATOR
        is_party = (caller.agency_id, caller.system_id) == (self.agency_id, self.system_id)
        return Side.AGENCY if caller.kind is CallerKind.AGENCY and is_party else None

    def signed(self, side: Side, signature: Signature) -> "Agreement":
        """The agreement with a side's signature. Raises StateNotAllowed if that side has signed."""
        if side in self.signatures:
            raise self._state_not_allowed()
        return replace(self, signatures={**self.signatures, side: signature})

    def suspended(self, side: Side, cause: str) -> "Agreement":
        """The agreement as a side suspends it. StateNotAllowed for a draft, or if that side suspends it already."""
        if self.state is State.DRAFT or side in self.suspended_by:
            raise self._state_not_allowed()
        return replace(self, suspended_by={**self.suspended_by, side: cause})

    def resumed(self, side: Side) -> "Agreement":
        """The agreement without a side's suspension. Raises StateNotAllowed if that side does not suspend it."""
        if side not in self.suspended_by:
            raise self._state_not_allowed()
        return replace(self, suspended_by={other: cause for other, cause in self.suspended_by.items() if other != side})

    def _state_not_allowed(self) -> StateNotAllowed:
        return StateNotAllowed(object=f"agreement {self.agreement_id}", state=self.state.name)


@dataclass(frozen=True, slots=True)
class Standing:
    """Who a caller is to the mesh; empty where it is no system, or not a registered one."""

    caller: Caller
    agency_name: str
    system: System | None


@dataclass(frozen=True, slots=True)
class AgreementRights:
    """What an agreement grants on a day: modes with their paths, or the reason why it grants nothing."""

    agreement: rights.Agreement
    refusal: str
    modes: Mapping[Mode, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Rights:
    """What a system's agreements grant, at a revision of the policy."""

    agreements: tuple[AgreementRights, ...]
    policy_revision: int


PolicyObject: TypeAlias = (
    Agency
    | System
    | Officer
    | Agreement
    | Revocation
    | Authority
    | Operator
    | FieldDefinition
    | Purpose
    | Provision
    | LegalClock
    | WorkingCalendar
)


@dataclass(frozen=True, slots=True)
class Change:
    """An object of the policy as it is now, or its removal."""

    subject: PolicyObject
    removed: bool


@dataclass(frozen=True, slots=True)
class LawInForce:
    """The law that an agreement is measured by, on one day."""

    provision: Provision | None
    purpose: Purpose | None
    fields: Mapping[str, FieldDefinition]


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: `limit` items after a key; None begins the list."""

    limit: int
    after: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class LastContact:
    """When a system or a room was last heard of, and last served."""

    name: str
    contact_time: datetime
    success_time: datetime | None


@dataclass(frozen=True, slots=True)
class LastFlow:
    """How far messages and changes of a system or a room have flowed, by the last report of each kind.

    None: it never contributed, hands nothing on, follows nothing. `policy_revision` is 0 for who never told of one.
    """

    contribution_time: datetime | None = None
    backlog: Backlog | None = None
    lag: Lag | None = None
    policy_revision: int = 0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """After how long without a served call a connection is degraded, and without any call silent."""

    degraded_after: timedelta
    silent_after: timedelta

    def judge(self, contact: LastContact | None, now: datetime) -> ConnectionState:
        """How well it is connected."""
        if contact is None or now - contact.contact_time > self.silent_after:
            return ConnectionState.SILENT
        if contact.success_time is None or now - contact.success_time > self.degraded_after:
            return ConnectionState.DEGRADED
        return ConnectionState.CONNECTED


@dataclass(frozen=True, slots=True)
class Connection:
    """A system (`system_state` set) or a room in the directory."""

    name: str
    title: str
    state: ConnectionState
    system_state: State | None
    contact: LastContact | None
    flow: LastFlow


def require_within_law(terms: Terms, law: LawInForce) -> None:
    """Measure the terms of an agreement by the law in force on its first day.

    1. It does not end before it begins.
    2. Its provision and its purpose are known and in force.
    3. Each mode is granted once, with at least one field.
    4. Every field is in the catalogue, and one that the purpose can need.

    Raises InvalidField, ProvisionUnknown, PurposeUnknown, MaskEmpty, MaskUnknownPath, FieldOutsidePurpose.
    """
    start, end = terms.validity.start, terms.validity.end
    if end is None or end < start:  # (1)
        raise InvalidField("terms.end_date", "must not lie before start_date")
    if law.provision is None or not law.provision.validity.covers(start):  # (2)
        raise ProvisionUnknown(provision=terms.provision)
    if law.purpose is None or not law.purpose.validity.covers(start):
        raise PurposeUnknown(purpose=terms.purpose)
    if len({grant.mode for grant in terms.grants}) < len(terms.grants):  # (3)
        raise InvalidField("terms.grants", "must name each mode once")
    for index, grant in enumerate(terms.grants):
        _require_grant(grant, f"terms.grants[{index}].fields", start, law.purpose, law.fields)  # (4)


def _require_grant(
    grant: Grant, name: str, start: date, purpose: Purpose, fields: Mapping[str, FieldDefinition]
) -> None:
    if not grant.paths:
        raise MaskEmpty(name, "must name at least one field")
    for path in grant.paths:
        definition = fields.get(path)
        if definition is None or not definition.validity.covers(start):
            raise MaskUnknownPath(name, "must name fields of the catalogue in force", field=path[:_LONGEST_ECHO])
        if path not in purpose.paths:
            rule = f"purpose {purpose.code} by {purpose.provision}"
            raise FieldOutsidePurpose(purpose=purpose.code, field=path, rule=rule)


def authority_after(known: Authority | None, told: Authority, now: datetime) -> Authority:
    """The authority once the issuer has told of it.

    REVOKED is for good, and counts whenever it comes: acts may come late, and the issuer's store may be a restored one.
    Of other states an older one changes nothing; a time ahead of our clock is not waited for. The host stays, for it is
    part of the authority's certificate.
    """
    if known is None:
        return told
    is_old = told.state_time < known.state_time <= now
    if known.state is AuthorityState.REVOKED or (is_old and told.state is not AuthorityState.REVOKED):
        return known
    return replace(told, host=known.host)


def is_timely(signature: Signature, now: datetime) -> bool:
    """Whether a signature was not made in the future, as far as two clocks may lie apart."""
    return signature.sign_time <= now + CLOCKS_APART
