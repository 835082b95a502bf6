"""Acts of civil status, what they say, and the rules they obey. No I/O."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import IntEnum
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.clock import LEGAL_ZONE
from services.mesh.core.errors import InvalidField, Kind, MeshError
from services.mesh.core.people import Name
from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import PlaceCodeUnknown, StatedIdentity
from services.mesh.core.places import list_version, units_of
from services.mesh.core.rights import Access

ROOM_NAME: Final = "civil_status"
FIRST_YEAR, LAST_YEAR = 1900, 2399


class BirthAlreadyRegistered(MeshError):
    """A birth of the same name, day, sex and mother is registered."""

    kind, reason = Kind.ALREADY_EXISTS, "BIRTH_ALREADY_REGISTERED"


class PersonMarried(MeshError):
    """The person is married."""

    kind, reason = Kind.FAILED_PRECONDITION, "PERSON_MARRIED"


class SamePerson(MeshError):
    """The act needs two persons, and names one twice."""

    kind, reason = Kind.INVALID_ARGUMENT, "SAME_PERSON"


class NothingCorrected(MeshError):
    """The correction changes nothing."""

    kind, reason = Kind.FAILED_PRECONDITION, "NOTHING_CORRECTED"


class ActKind(IntEnum):
    """Kinds of acts, with the numbers of npd.civil_status.v1.ActKind."""

    BIRTH = 1
    MARRIAGE = 2
    DEATH = 3
    CORRECTION = 4
    ANNULMENT = 5


class MaritalStatus(IntEnum):
    """Marital status, with the numbers of npd.common.v1.MaritalStatus."""

    UNKNOWN = 0
    SINGLE = 1
    MARRIED = 2
    DIVORCED = 3
    WIDOWED = 4


class Role(IntEnum):
    """Which parent somebody is."""

    MOTHER = 1
    FATHER = 2


@dataclass(frozen=True, slots=True)
class Place:
    """A unit of a list, or a country. Unlike an address it has no text."""

    unit_code: str
    unit_list_version: str
    country_code: str


@dataclass(frozen=True, slots=True)
class Coded:
    """A value of a code list."""

    code: str
    list_version: str
    alternative_name: str


@dataclass(frozen=True, slots=True)
class Relative:
    """Another person as a record names him; `pin` and `nationality` may be empty."""

    name: Name
    pin: str
    nationality: str = ""


@dataclass(frozen=True, slots=True)
class BirthFacts:
    """What a birth registration says. A parent whose name is empty is named by his PIN alone."""

    name: Name
    birth_date: date
    sex: int
    place_of_birth: Place
    registration_place: Place
    hometown: Place
    ethnicity: Coded
    nationalities: tuple[str, ...]
    mother: Relative | None
    father: Relative | None
    entry_number: str


@dataclass(frozen=True, slots=True)
class MarriageFacts:
    """What the record of a marriage says."""

    first: StatedIdentity
    second: StatedIdentity
    day: date
    entry_number: str


@dataclass(frozen=True, slots=True)
class DeathFacts:
    """What the registration of a death says."""

    identity: StatedIdentity
    day: date
    entry_number: str


@dataclass(frozen=True, slots=True)
class CorrectedValues:
    """The values that a correction names, by the paths of Person; None: not corrected."""

    full_name: Name | None = None
    birth_date: date | None = None
    place_of_birth: Place | None = None
    hometown: Place | None = None
    ethnicity: Coded | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """What is corrected."""
        return tuple(name for name in self.__slots__ if getattr(self, name) is not None)


@dataclass(frozen=True, slots=True)
class CorrectionFacts:
    """What a correction of a birth registration says."""

    identity: StatedIdentity
    values: CorrectedValues
    decision_date: date
    entry_number: str


@dataclass(frozen=True, slots=True)
class AnnulmentFacts:
    """Which act is annulled, and by which decision."""

    act_id: UUID
    decision_date: date
    entry_number: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What this room tells of a person; a field that its act does not tell stays as it is here."""

    full_name: Name | None = None
    birth_date: date | None = None
    sex: int = 0
    place_of_birth: Place | None = None
    birth_registration_place: Place | None = None
    hometown: Place | None = None
    ethnicity: Coded | None = None
    nationalities: tuple[str, ...] = ()
    marital_status: MaritalStatus = MaritalStatus.UNKNOWN
    mother: Relative | None = None
    father: Relative | None = None
    children: tuple[Relative, ...] = ()
    spouses: tuple[Relative, ...] = ()
    death_date: date | None = None


FactsToBytes = Callable[[Facts], bytes]
"""Makes a serialised npd.common.v1.Person of what is told."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A number that the room `identity` keeps for a birth until `expire_time`."""

    pin: str
    subject_id: UUID
    expire_time: datetime


ReservePin = Callable[[UUID, Access, BirthFacts], Reservation]
"""Asks the room `identity` for a number, under a request id. Raises PeerUnavailable, or what that room refuses."""


@dataclass(frozen=True, slots=True)
class RegisteredAct:
    """An act as registered; `event_date` is the day in life, of a correction or annulment that of the decision."""

    act_id: UUID
    kind: ActKind
    event_date: date
    register_time: datetime
    entry_number: str
    annulled_by: UUID | None = None


@dataclass(frozen=True, slots=True)
class RegisteredBirth:
    """A birth as registered, with the child's number."""

    act: RegisteredAct
    pin: str


@dataclass(frozen=True, slots=True)
class Status:
    """A person's marital status as this room holds it.

    `act_id` is the act of this room that gave it; None: history, or nothing known. `is_own`: this room has told it, so
    that others' words do not count. `spouse_id` is set while MARRIED to somebody known here; of a marriage of history
    `act_id` is then an id that follows from the couple (`adopted_marriage_id`). The last two are the event
    times of this room's latest word: the record follows the latest, so that no later act may tell an earlier one.
    """

    subject_id: UUID
    marital: MaritalStatus = MaritalStatus.UNKNOWN
    spouse_id: UUID | None = None
    act_id: UUID | None = None
    is_own: bool = False
    told_time: datetime | None = None
    death_told_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """What a spouse was before a marriage."""

    subject_id: UUID
    marital: MaritalStatus
    act_id: UUID | None


@dataclass(frozen=True, slots=True)
class Marriage:
    """A marriage, and what its annulment returns to."""

    act_id: UUID
    first: Before
    second: Before


@dataclass(frozen=True, slots=True)
class Death:
    """A death, and the marriage that it ended, if it ended one of this room."""

    act_id: UUID
    subject_id: UUID
    spouse_id: UUID | None = None
    marriage_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class BirthTies:
    """What of a birth never changes, and tells it from others of the same name and day.

    `mother_name` is a key of a name; empty if she is not known. `unit_code` says where the birth is registered.
    """

    sex: int
    mother_id: UUID | None
    mother_name: str
    unit_code: str


@dataclass(frozen=True, slots=True)
class CivilStatus:
    """What an officer is shown: of a marriage in force the spouse, of a death in force the day."""

    marital: MaritalStatus
    spouse: Relative | None
    death_date: date | None
    acts: tuple[RegisteredAct, ...]


def adopted_marriage_id(one: UUID, other: UUID) -> UUID:
    """The id under which both spouses of a marriage of history are tied together."""
    return uuid5(NAMESPACE_URL, "/".join(sorted((str(one), str(other)))))


def day_start(day: date) -> datetime:
    """The instant at which a calendar day begins where the law counts days."""
    return datetime.combine(day, time(), LEGAL_ZONE).astimezone(UTC)


def event_time(day: date, told: datetime | None) -> datetime:
    """When an event of that day is told to have happened: never before this room's latest word on the same."""
    start = day_start(day)
    return max(start, told) if told else start


def birth_keys(name: str, birth_date: date, ties: BirthTies) -> tuple[bytes, ...]:
    """What makes two registrations the same birth: name, day and sex, and the mother.

    She is told by her number, and always by her name beside the place of registration too: whoever states her by name
    alone meets who stated her number, and mothers of one name in two places stay two.
    """
    child = (text.name_key(name), birth_date.isoformat(), str(ties.sex))
    mothers = [f"{ties.mother_name}\x1f{ties.unit_code}"]
    if ties.mother_id is not None:
        mothers.append(str(ties.mother_id))
    return tuple(hashlib.sha256("\x1f".join((*child, mother)).encode()).digest() for mother in mothers)


def require_number_year(birth_date: date, field: str) -> None:
    """A birth of another year has no number, and so no correction leads there. Raises InvalidField.

    Source: Decree 137/2015 Art. 13, as DOMAIN.md 5.1 gives it.
    """
    if not FIRST_YEAR <= birth_date.year <= LAST_YEAR:
        raise InvalidField(field, f"must have a year from {FIRST_YEAR} to {LAST_YEAR}: others have no number")


def require_born_before(parent: PartialDate, child: date, field: str) -> None:
    """A parent is born before the child, as far as his birth is known. Raises InvalidField."""
    if parent.year and parent.first_day() >= child:
        raise InvalidField(field, "must fit a parent who is born before the child")


def require_not_before(day: date, earliest: date | None, field: str, what: str) -> None:
    """An event does not lie before the day of another (None: not known) that it follows. Raises InvalidField."""
    if earliest is not None and day < earliest:
        raise InvalidField(field, f"must not lie before {what}")


def reservation_id(caller: Caller, key: AnswerKey, attempt: int) -> UUID:
    """The id under which a request asks for its number: a repeat of the request gets the same number."""
    return uuid5(NAMESPACE_URL, f"{caller.identity}/{key.request_id.lower()}/{key.payload_hash.hex()}/{attempt}")


def require_units(birth: BirthFacts, today: date) -> None:
    """Every place of a registration is a unit of the list in force, or a country. Raises PlaceCodeUnknown.

    The place of registration is a unit: the number is built from it. Source: DOMAIN.md 5.1, 5.4.
    """
    version = list_version(today)
    for place, name in (
        (birth.place_of_birth, "birth.place_of_birth"),
        (birth.registration_place, "birth.registration_place"),
        (birth.hometown, "birth.hometown"),
    ):
        is_unit = place.unit_list_version == version and place.unit_code in units_of(version)
        is_country = not place.unit_code and name != "birth.registration_place"
        if not is_unit and not is_country:
            raise PlaceCodeUnknown(field=name)


def require_unit_of_its_list(place: Place, name: str) -> None:
    """A corrected place is a unit of the list that it names: what happened long ago stands in an old list.

    Raises InvalidField.
    """
    if place.unit_code and place.unit_code not in units_of(place.unit_list_version):
        raise InvalidField(f"{name}.unit_code", "must be a unit of the list that unit_list_version names")
