"""What a residence is, and which may stand beside which. Knows no store and no wire."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from typing import TypeAlias
from uuid import UUID, uuid4

from services.mesh.core import places
from services.mesh.core.errors import InvalidField, Kind, MeshError, StateNotAllowed
from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import PlaceCodeUnknown, StatedIdentity
from services.residence.household import Household, Joining, Relation


class ResidenceUnknown(MeshError):
    """There is no such residence."""

    kind, reason = Kind.NOT_FOUND, "RESIDENCE_UNKNOWN"


class ResidenceInSameCommune(MeshError):
    """A temporary residence would lie in the commune of the permanent one."""

    kind, reason = Kind.FAILED_PRECONDITION, "RESIDENCE_IN_SAME_COMMUNE"


class AlreadyResident(MeshError):
    """The person resides there already, or has a temporary residence."""

    kind, reason = Kind.ALREADY_EXISTS, "ALREADY_RESIDENT"


class ResidenceKind(Enum):
    """Kinds of residence, with the numbers of npd.residence.v1.ResidenceKind."""

    PERMANENT = 1
    TEMPORARY = 2

    @property
    def path(self) -> str:
        """The path of the record that holds it."""
        return f"{self.name.lower()}_residence"


class ResidenceState(Enum):
    """States of a residence, with the numbers of npd.residence.v1.ResidenceState."""

    ACTIVE = 1
    CLOSED = 2


class ClosingGround(Enum):
    """Why a residence was closed, with the numbers of npd.residence.v1.ClosingGround.

    Source: Residence Law 68/2020 Art. 24, 29.
    """

    DEATH = 1
    MOVED = 2
    EMIGRATED = 3
    ABSENT = 4
    DWELLING_LOST = 5
    CANCELLED = 6
    EXPIRED = 7


@dataclass(frozen=True, slots=True)
class Address:
    """An address as it was declared. Of one that comes from the record, any part may be empty (year 0: not stated)."""

    unit_code: str
    unit_list_version: str
    country_code: str
    detail_text: str
    as_of_date: PartialDate

    def is_in_commune_of(self, other: "Address") -> bool:
        """Whether both lie in one commune.

        A commune's code outlives changes of the list: the unit that has it later holds the one that had it before.
        """
        return len(self.unit_code) == _COMMUNE_DIGITS and self.unit_code == other.unit_code

    def is_same_as(self, other: "Address") -> bool:
        """Whether both are one address, as it is compared."""
        return self.is_in_commune_of(other) and text.comparable(self.detail_text) == text.comparable(other.detail_text)

    def require_commune(self, day: date) -> None:
        """Raises PlaceCodeUnknown unless it lies in a commune of the list that was in force on the day."""
        if self.unit_list_version != places.list_version(day):
            raise PlaceCodeUnknown(field="address.place.unit_list_version")
        unit = places.units_of(self.unit_list_version).get(self.unit_code)
        if unit is None or unit.level != "COMMUNE":
            raise PlaceCodeUnknown(field="address.place.unit_code")
        if self.country_code not in ("", "VN"):
            raise PlaceCodeUnknown(field="address.place.country_code")


_COMMUNE_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Residence:
    """A residence. `is_adopted`: this room knows it from the record alone, which may not tell its days."""

    residence_id: UUID
    subject_id: UUID
    kind: ResidenceKind
    address: Address
    start_date: date | None
    end_date: date | None = None
    household_id: UUID | None = None
    state: ResidenceState = ResidenceState.ACTIVE
    ground: ClosingGround | None = None
    closing_date: date | None = None
    is_adopted: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it is in force."""
        return self.state is ResidenceState.ACTIVE

    def is_expired(self, today: date) -> bool:
        """Whether its planned last day has passed while it was in force."""
        return self.is_active and self.end_date is not None and self.end_date < today

    def closed(self, ground: ClosingGround, day: date) -> "Residence":
        """As it stands when it is closed. Raises StateNotAllowed, InvalidField for a day before its first."""
        if not self.is_active:
            raise StateNotAllowed(object=f"residence {self.residence_id}", state=self.state.name)
        if self.start_date is not None and day < self.start_date:
            raise InvalidField("closing_date", "must not lie before the first day of the residence")
        return replace(self, state=ResidenceState.CLOSED, ground=ground, closing_date=day)


@dataclass(frozen=True, slots=True)
class NewResidence:
    """A residence that is to be registered; `follows` is the act that asks for it by law, if one does."""

    identity: StatedIdentity
    kind: ResidenceKind
    address: Address
    start_date: date
    end_date: date | None
    joining: Joining | None
    follows: UUID | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that its agreement must grant."""
        return (self.kind.path, *(("household", "relation_to_head") if self.joining else ()))

    def is_joining(self, household_id: UUID | None) -> bool:
        """Whether it is a household that exists, this one, that is to be joined."""
        return self.joining is not None and household_id is not None and self.joining.household_id == household_id

    def residence_of(self, subject_id: UUID) -> "Residence":
        """The residence that somebody gets by it, in no household yet."""
        return Residence(uuid4(), subject_id, self.kind, self.address, self.start_date, self.end_date)


@dataclass(frozen=True, slots=True)
class Closing:
    """A residence that is to be closed by an officer."""

    residence_id: UUID
    ground: ClosingGround
    closing_date: date


@dataclass(frozen=True, slots=True)
class HeldResidence:
    """What the record holds of a kind of residence; no `address`: nothing."""

    kind: ResidenceKind
    address: Address | None
    start_date: date | None = None
    end_date: date | None = None


@dataclass(frozen=True, slots=True)
class History:
    """All residences of one person."""

    residences: tuple[Residence, ...]

    def active(self, kind: ResidenceKind) -> Residence | None:
        """The one in force."""
        return next((one for one in self.residences if one.kind is kind and one.is_active), None)

    def with_each(self, *changed: Residence) -> "History":
        """The history with residences as they stand now."""
        now = {one.residence_id: one for one in (*self.residences, *changed)}
        return History(tuple(now.values()))

    def has_word_on(self, kind: ResidenceKind) -> bool:
        """Whether this room itself registered or closed a residence of the kind: then the record's is of no account."""
        return any(one.kind is kind and not (one.is_adopted and one.is_active) for one in self.residences)

    def home_of(self, new: NewResidence) -> Residence | None:
        """The permanent residence that stays as it is, because a new household at the same address is all that is new.

        Raises InvalidField for a first day before that of the residence.
        """
        permanent = self.active(ResidenceKind.PERMANENT)
        if new.kind is not ResidenceKind.PERMANENT or new.joining is None or permanent is None:
            return None
        if not permanent.address.is_same_as(new.address):
            return None
        self._require_later(new)
        return permanent

    def closed_by(self, new: NewResidence, today: date) -> list[Residence]:
        """The residences that a new one ends, as they stand then.

        A permanent one replaces the permanent one, and a temporary one in its own commune; either ends a temporary one
        that has expired. Raises AlreadyResident, ResidenceInSameCommune, InvalidField for a first day before the end of
        what went before, or a last day that has passed. Source: Residence Law 68/2020; DOMAIN.md 2.4.
        """
        if new.end_date is not None and new.end_date < today:
            raise InvalidField("end_date", "must not lie before today")
        expired = [
            # the record may have told a last day before the first
            one.closed(ClosingGround.EXPIRED, max(one.end_date or today, one.start_date or date.min))
            for one in self.residences
            if one.is_expired(today)
        ]
        return [*expired, *self.with_each(*expired)._replaced_by(new)]

    def _replaced_by(self, new: NewResidence) -> list[Residence]:
        permanent, temporary = self.active(ResidenceKind.PERMANENT), self.active(ResidenceKind.TEMPORARY)
        if new.kind is ResidenceKind.TEMPORARY:
            if temporary is not None:
                raise AlreadyResident()
            if permanent is not None and permanent.address.is_in_commune_of(new.address):
                raise ResidenceInSameCommune()
            self._require_later(new)
            return []
        if permanent is not None and permanent.address.is_same_as(new.address):
            raise AlreadyResident()
        self._require_later(new)
        ended = [permanent] if permanent is not None else []
        if temporary is not None and temporary.address.is_in_commune_of(new.address):
            ended.append(temporary)
        # a temporary one may have begun after the first day of a permanent one that is registered late
        return [one.closed(ClosingGround.MOVED, max(new.start_date, one.start_date or date.min)) for one in ended]

    def _require_later(self, new: NewResidence) -> None:
        # a residence closed by a death does not stand in the way: the death may have been annulled
        for one in self.residences:
            bound = one.start_date if one.is_active else one.closing_date
            if one.kind is new.kind and one.ground is not ClosingGround.DEATH and bound and new.start_date < bound:
                raise InvalidField("start_date", "must not lie before the residence that went before, or its end")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the record is to hold of a person after an act; what is not set is held no more. Only told paths count."""

    permanent: Address | None = None
    temporary: Residence | None = None
    household: Household | None = None
    relation: Relation | None = None

    @property
    def current(self) -> Address | None:
        """Where the person lives now: the temporary residence, else the permanent one."""
        return self.temporary.address if self.temporary is not None else self.permanent


Serialise: TypeAlias = Callable[[Facts, Collection[str]], bytes]
"""Turns the facts of some paths into the bytes of a person: the wire's form, which operations do not know."""


@dataclass(frozen=True, slots=True)
class ResidenceAct:
    """A residence as an act left it."""

    residence: Residence
    act_id: UUID


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What a read found: nothing at all, if the stated identity did not match."""

    is_match: bool
    residences: tuple[Residence, ...] = ()
    household: Household | None = None
