"""Numbers and cards: what they are, what may become of them, and how this room refuses. No I/O."""

from calendar import monthrange
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import Enum
from uuid import UUID

from services.mesh.core.chain import Causation
from services.mesh.core.errors import Kind, MeshError, StateNotAllowed
from services.mesh.core.person.dates import PartialDate

ROOM_NAME = "identity"
REGISTRAR = "civil_status"
"""The room that registers births: it asks for numbers, and confirms those that a birth took."""


class NumberUnknown(MeshError):
    """The number was never given."""

    kind, reason = Kind.NOT_FOUND, "NUMBER_UNKNOWN"


class NumberSpaceExhausted(MeshError):
    """The place, sex and year have no number left."""

    kind, reason = Kind.RESOURCE_EXHAUSTED, "NUMBER_SPACE_EXHAUSTED"


class CardUnknown(MeshError):
    """No such card."""

    kind, reason = Kind.NOT_FOUND, "CARD_UNKNOWN"


class CardAlreadyRequested(MeshError):
    """The person has requested a card already."""

    kind, reason = Kind.ALREADY_EXISTS, "CARD_ALREADY_REQUESTED"


class NumberState(Enum):
    """State of a number, with the numbers of npd.identity.v1.NumberState."""

    RESERVED = 1
    ACTIVE = 2
    CANCELLED = 3


class SuccessionGround(Enum):
    """Why a number was cancelled and another given, with the numbers of npd.identity.v1.SuccessionGround."""

    SEX_REDETERMINED = 1
    BIRTH_YEAR_CORRECTED = 2
    ENTRY_ERROR = 3
    FALSE_INFORMATION = 4


@dataclass(frozen=True, slots=True)
class PostponedSuccession:
    """A correction that asked for another number before all numbers of history were known; `cause` is its place."""

    subject_id: UUID
    ground: SuccessionGround
    cause: Causation


class CardState(Enum):
    """State of a card, with the numbers of npd.identity.v1.CardState."""

    REQUESTED = 1
    ISSUED = 2
    CANCELLED = 3


class Cancellation(Enum):
    """Why a card was cancelled, with the numbers of npd.identity.v1.CardCancellation."""

    LOST = 1
    DAMAGED = 2
    REPLACED = 3
    HOLDER_DECEASED = 4
    NUMBER_SUCCEEDED = 5
    WITHDRAWN = 6


OFFICERS_REASONS = (Cancellation.LOST, Cancellation.DAMAGED, Cancellation.WITHDRAWN)
"""On which an officer cancels a card; the others follow from other acts."""


@dataclass(frozen=True, slots=True)
class RegistrationPlace:
    """Where a birth is registered: a unit of a list; `country_code` empty or "VN" for Viet Nam."""

    unit_code: str
    list_version: str
    country_code: str


@dataclass(frozen=True, slots=True)
class BirthFacts:
    """What a number is built from. `sex` as npd.common.v1.Sex: 1 male, 2 female."""

    sex: int
    birth_date: PartialDate
    registration_place: RegistrationPlace


@dataclass(frozen=True, slots=True)
class Number:
    """A number and whose it is. Birth date (year 0) and sex (0) are not known of numbers older than this room.

    `expire_time` is set while it is RESERVED, `successor` once it is CANCELLED; `ground` is None then only if this room
    learnt of the succession from the record.
    """

    pin: str
    subject_id: UUID
    state: NumberState
    birth_date: PartialDate
    sex: int
    state_time: datetime
    expire_time: datetime | None = None
    ground: SuccessionGround | None = None
    successor: str = ""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A number that waits for its birth."""

    pin: str
    subject_id: UUID
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The state of a number that was to be confirmed."""

    state: NumberState


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of a number. `current_pin` is empty while it has no person; `subject_id` None for agencies."""

    state: NumberState
    current_pin: str
    ground: SuccessionGround | None
    subject_id: UUID | None


@dataclass(frozen=True, slots=True)
class Succession:
    """The number that a person was given instead of another, and the act that did it."""

    pin: str
    act_id: UUID


@dataclass(frozen=True, slots=True)
class Document:
    """A card as printed. Dates may be partial on cards older than this room; `expiry_date` None: it does not expire."""

    document_number: str
    issue_date: PartialDate | None
    issuing_office: str
    expiry_date: PartialDate | None

    def has_expired(self, day: date) -> bool:
        """Whether its last day of validity, as far as known, lies before a day."""
        last = self.expiry_date
        if last is None:
            return False
        month = last.month or 12
        return date(last.year, month, last.day or monthrange(last.year, month)[1]) < day

    @property
    def age_order(self) -> tuple[int, int, int]:
        """Sorts documents by their day of issue."""
        issued = self.issue_date or PartialDate(0)
        return issued.year, issued.month, issued.day


@dataclass(frozen=True, slots=True)
class Card:
    """A card, from its request on; `document` once it was issued, `cancellation` once it was cancelled."""

    card_id: UUID
    subject_id: UUID
    state: CardState
    request_time: datetime
    state_time: datetime
    document: Document | None = None
    cancellation: Cancellation | None = None

    def issued(self, document: Document, now: datetime) -> "Card":
        """The card, issued. Raises StateNotAllowed unless it was requested."""
        self._require(CardState.REQUESTED)
        return replace(self, state=CardState.ISSUED, document=document, state_time=now)

    def cancelled(self, reason: Cancellation, now: datetime) -> "Card":
        """The card, in force no more, or not to be issued any more. Raises StateNotAllowed if it is cancelled."""
        if self.state is CardState.CANCELLED:
            raise self._state_not_allowed()
        return replace(self, state=CardState.CANCELLED, cancellation=reason, state_time=now)

    def _require(self, state: CardState) -> None:
        if self.state is not state:
            raise self._state_not_allowed()

    def _state_not_allowed(self) -> StateNotAllowed:
        return StateNotAllowed(object=f"card {self.card_id}", state=self.state.name)


@dataclass(frozen=True, slots=True)
class CardAct:
    """A card as an act left it, and the act."""

    card: Card
    act_id: UUID


@dataclass(frozen=True, slots=True)
class CardsShown:
    """A person's cards, newest first; None if the identity did not match."""

    cards: tuple[Card, ...] | None
