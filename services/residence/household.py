"""What a household is: those who live together, one of them at its head at most. Knows no store and no wire."""

from dataclasses import dataclass, replace
from uuid import UUID, uuid5

from services.mesh.core.errors import Kind, MeshError, StateNotAllowed
from services.mesh.core.people import KnownPerson, Name

MEMBERS_LIMIT = 200
"""How many a household may be. Each member's record names them all, and `sharing` refuses items above 64 KiB."""

_ADOPTED = UUID("5b8b4f34-6b0e-4d8c-9a51-2f4f1c0c7d11")


class HouseholdUnknown(MeshError):
    """There is no such household, or nobody lives in it any more."""

    kind, reason = Kind.NOT_FOUND, "HOUSEHOLD_UNKNOWN"


class PersonNotInHousehold(MeshError):
    """The person is not a member of the household."""

    kind, reason = Kind.FAILED_PRECONDITION, "PERSON_NOT_IN_HOUSEHOLD"


class HeadAlready(StateNotAllowed):
    """The person is the head of the household already."""


class HouseholdFull(MeshError):
    """The household has as many members as it may have."""

    kind, reason = Kind.FAILED_PRECONDITION, "STATE_NOT_ALLOWED"


@dataclass(frozen=True, slots=True)
class Relation:
    """A member's relation to the head, of a code list that is provisional."""

    code: str
    list_version: str
    alternative_name: str


@dataclass(frozen=True, slots=True)
class Joining:
    """How a person joins a household; without an id he founds one, as its head."""

    household_id: UUID | None
    relation: Relation | None


@dataclass(frozen=True, slots=True)
class Member:
    """A member. `relation` is None of the head, and of a former one."""

    subject_id: UUID
    pin: str
    name: Name
    relation: Relation | None = None
    is_head: bool = False

    @classmethod
    def of(cls, person: KnownPerson, relation: Relation | None = None, *, is_head: bool = False) -> "Member":
        """A person as a member."""
        return cls(person.subject_id, person.pin, person.name, relation, is_head)


@dataclass(frozen=True, slots=True)
class Household:
    """A household as it is composed. `is_adopted`: this room knows it from the record alone, and never told of it."""

    household_id: UUID
    members: tuple[Member, ...]
    is_adopted: bool = False

    @property
    def head(self) -> Member | None:
        """Its head, if it has one."""
        return next((member for member in self.members if member.is_head), None)

    @property
    def in_order(self) -> tuple[Member, ...]:
        """Its members, the head first, then by name."""
        return tuple(sorted(self.members, key=lambda one: (not one.is_head, one.name.full, one.pin)))

    @property
    def is_full(self) -> bool:
        """Whether nobody else may join it."""
        return len(self.members) >= MEMBERS_LIMIT

    def member(self, subject_id: UUID) -> Member | None:
        """A person as its member."""
        return next((member for member in self.members if member.subject_id == subject_id), None)

    def with_member(self, member: Member) -> "Household":
        """The household when somebody has joined it."""
        return replace(self, members=(*self.without(member.subject_id).members, member))

    def without(self, subject_id: UUID) -> "Household":
        """The household when somebody has left it."""
        return replace(self, members=tuple(one for one in self.members if one.subject_id != subject_id))

    def headed_by(self, subject_id: UUID) -> "Household":
        """The household under a head, one of its members; nobody has stated how the others are related to him.

        Raises PersonNotInHousehold, HeadAlready.
        """
        named, former = self.member(subject_id), self.head
        if named is None:
            raise PersonNotInHousehold()
        if named is former:
            raise HeadAlready(object=f"household {self.household_id}", state="headed by this person")
        members = (replace(one, relation=None, is_head=one is named) for one in self.members)
        return replace(self, members=tuple(members), is_adopted=False)


@dataclass(frozen=True, slots=True)
class HeldMembership:
    """What the record holds of a person's household: the number of its head, and the relation to him; empty: none."""

    head_pin: str
    relation: Relation | None

    @property
    def household_id(self) -> UUID:
        """The id under which a household is first known from the record: whoever of its members comes first."""
        return uuid5(_ADOPTED, self.head_pin)


@dataclass(frozen=True, slots=True)
class HouseholdAct:
    """A household as an act left it."""

    household: Household
    act_id: UUID


@dataclass(frozen=True, slots=True)
class Rehousing:
    """What a person's departure from one household and arrival in another left: each as it is composed then."""

    left: Household | None = None
    joined: Household | None = None
    was_head: bool = False

    @property
    def is_headless(self) -> bool:
        """Whether he left others behind without their head."""
        return self.was_head and self.left is not None and bool(self.left.members)
