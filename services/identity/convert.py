"""The identity room's wire and its domain, turned into each other. Malformed input raises InvalidField."""

import re
from collections.abc import Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import date_pb2

from npd.common.v1 import person_pb2
from npd.common.v1.evidence_pb2 import Outcome
from npd.identity.v1 import card_pb2, number_pb2
from services.identity.domain import (
    OFFICERS_REASONS,
    BirthFacts,
    Cancellation,
    Card,
    CardAct,
    CardsShown,
    Confirmation,
    Document,
    RegistrationPlace,
    Reservation,
    Resolution,
    SuccessionGround,
)
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.clock import legal_date
from services.mesh.core.errors import InvalidField
from services.mesh.core.following import FollowedChange
from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate, partial_date
from services.mesh.core.rights import Access
from services.mesh.wire.access import access_from_wire
from services.mesh.wire.person import day_from_wire, partial_to_wire

_DOCUMENT_NUMBER = re.compile(r"[A-Z0-9]{6,20}", re.ASCII)
_OFFICE_LIMIT = 200
_STATED_NUMBER_LIMIT = 64
_DEATHS = (
    person_pb2.DEATH_OR_MISSING_KIND_DEAD,
    person_pb2.DEATH_OR_MISSING_KIND_DECLARED_DEAD,
)
_SEXES = (person_pb2.SEX_MALE, person_pb2.SEX_FEMALE)


def birth_from_wire(wire: number_pb2.BirthFacts, now: datetime) -> BirthFacts:
    """What a number is built from."""
    if wire.sex not in _SEXES:
        raise InvalidField("birth.sex", "must be male or female")
    place = wire.registration_place
    return BirthFacts(
        sex=int(wire.sex),
        birth_date=partial_date(wire.birth_date, "birth.birth_date", latest=legal_date(now)),
        registration_place=RegistrationPlace(place.unit_code, place.unit_list_version, place.country_code),
    )


def ground_from_wire(ground: int) -> SuccessionGround:
    """On which ground a number is succeeded."""
    try:
        return SuccessionGround(ground)
    except ValueError:
        raise InvalidField("ground", "must be a ground of the contract") from None


def resolver_access(request: number_pb2.ResolvePinRequest, caller: Caller) -> Access | None:
    """The ground of an agency that resolves a number, if it states one; a room needs none."""
    if caller.kind is not CallerKind.AGENCY or not request.HasField("access"):
        return None
    return access_from_wire(request.access)


def reservation_to_wire(reservation: Reservation) -> number_pb2.ReservePinResponse:
    """A reservation."""
    return number_pb2.ReservePinResponse(
        pin=reservation.pin,
        subject_id=str(reservation.subject_id),
        expire_time=_instant(reservation.expire_time),
    )


def confirmation_to_wire(confirmed: Confirmation) -> number_pb2.ConfirmPinResponse:
    """The state of a number that was to be confirmed."""
    return number_pb2.ConfirmPinResponse(
        state=confirmed.state.value  # type: ignore[arg-type]  # a test holds the numbers equal
    )


def resolution_to_wire(resolution: Resolution) -> number_pb2.ResolvePinResponse:
    """What became of a number."""
    wire = number_pb2.ResolvePinResponse(
        state=resolution.state.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        current_pin=resolution.current_pin,
        subject_id=str(resolution.subject_id or ""),
    )
    if resolution.ground is not None:
        wire.ground = resolution.ground.value  # type: ignore[assignment]  # a test holds the numbers equal
    return wire


def document_from_wire(wire: card_pb2.IssueCardRequest) -> Document:
    """The document that a card becomes."""
    issue_date = _day(wire.issue_date, "issue_date")
    expiry_date = _day(wire.expiry_date, "expiry_date") if wire.HasField("expiry_date") else None
    if expiry_date is not None and expiry_date.first_day() < issue_date.first_day():
        raise InvalidField("expiry_date", "must not lie before the day of issue")
    return Document(
        document_number=_new_document_number(wire.document_number),
        issue_date=issue_date,
        issuing_office=_line(wire.issuing_office, "issuing_office", _OFFICE_LIMIT),
        expiry_date=expiry_date,
    )


def document_number_from_wire(value: str) -> str:
    """The serial of a document that exists, maybe one older than this room and its form."""
    return _line(value, "document_number", _STATED_NUMBER_LIMIT)


def reason_from_wire(reason: int) -> Cancellation:
    """Why an officer cancels a card."""
    for known in OFFICERS_REASONS:
        if known.value == reason:
            return known
    raise InvalidField("reason", "must be LOST, DAMAGED or WITHDRAWN: the other reasons follow from other acts")


def request_to_wire(act: CardAct) -> card_pb2.RequestCardResponse:
    """A request that was taken in."""
    return card_pb2.RequestCardResponse(card=_card_to_wire(act.card), act_id=str(act.act_id))


def issue_to_wire(act: CardAct) -> card_pb2.IssueCardResponse:
    """A card that was issued."""
    return card_pb2.IssueCardResponse(card=_card_to_wire(act.card), act_id=str(act.act_id))


def cancellation_to_wire(act: CardAct) -> card_pb2.CancelCardResponse:
    """A card that was cancelled."""
    return card_pb2.CancelCardResponse(card=_card_to_wire(act.card), act_id=str(act.act_id))


def cards_to_wire(shown: CardsShown) -> card_pb2.GetCardsResponse:
    """A person's cards."""
    if shown.cards is None:
        return card_pb2.GetCardsResponse(outcome=Outcome.OUTCOME_NO_MATCH)
    return card_pb2.GetCardsResponse(outcome=Outcome.OUTCOME_DISCLOSED, cards=map(_card_to_wire, shown.cards))


def pin_to_bytes(pin: str) -> bytes:
    """What the record is told of a number."""
    return person_pb2.Person(pin=pin).SerializeToString(deterministic=True)


def cards_to_bytes(documents: Sequence[Document]) -> bytes:
    """What the record is told of cards in force; of none: that what was told is taken back."""
    return person_pb2.Person(id_cards=map(_document_to_wire, documents)).SerializeToString(deterministic=True)


def pin_told(change: FollowedChange) -> str:
    """The number that a change tells; empty if it tells none."""
    return person_pb2.Person.FromString(change.person).pin if "pin" in change.paths else ""


def is_death_told(change: FollowedChange) -> bool:
    """Whether a change tells of a death, registered or declared; a person declared missing keeps his card."""
    told = person_pb2.Person.FromString(change.person).death_or_missing
    return "death_or_missing" in change.paths and told.kind in _DEATHS


def documents_told(change: FollowedChange) -> list[Document]:
    """The cards that a change tells, as they are."""
    if "id_cards" not in change.paths:
        return []
    told = person_pb2.Person.FromString(change.person).id_cards
    return [
        Document(
            document_number=card.document_number,
            issue_date=_as_known(card.issue_date),
            issuing_office=card.issuing_office,
            expiry_date=_as_known(card.expiry_date),
        )
        for card in told
    ]


def _card_to_wire(card: Card) -> card_pb2.Card:
    wire = card_pb2.Card(
        card_id=str(card.card_id),
        state=card.state.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        state_time=_instant(card.state_time),
    )
    if card.document is not None:
        wire.document.CopyFrom(_document_to_wire(card.document))
    if card.cancellation is not None:
        wire.cancellation = card.cancellation.value  # type: ignore[assignment]  # a test holds the numbers equal
    return wire


def _document_to_wire(document: Document) -> person_pb2.IdentityCard:
    wire = person_pb2.IdentityCard(document_number=document.document_number, issuing_office=document.issuing_office)
    if document.issue_date is not None:
        wire.issue_date.CopyFrom(partial_to_wire(document.issue_date))
    if document.expiry_date is not None:
        wire.expiry_date.CopyFrom(partial_to_wire(document.expiry_date))
    return wire


def _day(wire: date_pb2.Date, field: str) -> PartialDate:
    day = day_from_wire(wire, field)
    return PartialDate(day.year, day.month, day.day)


def _as_known(wire: date_pb2.Date) -> PartialDate | None:
    return PartialDate(wire.year, wire.month, wire.day) if wire.year else None


def _new_document_number(value: str) -> str:
    if not _DOCUMENT_NUMBER.fullmatch(value):
        raise InvalidField("document_number", "must be 6 to 20 capital letters A-Z and digits")
    return value


def _line(value: str, field: str, limit: int) -> str:
    if not value.strip() or len(value) > limit or not value.isprintable():
        raise InvalidField(field, f"must be 1 to {limit} printable characters on one line")
    return text.stored(value)


def _instant(instant: datetime) -> Timestamp:
    wire = Timestamp()
    wire.FromDatetime(instant)
    return wire
