"""The identity room's rows, inside a transaction: domain objects in, domain objects out. Decides nothing."""

from dataclasses import replace
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, case, select, text
from sqlalchemy.dialects.postgresql import insert

from services.identity.domain import (
    ROOM_NAME,
    Cancellation,
    Card,
    CardState,
    Document,
    Number,
    NumberState,
    PostponedSuccession,
    SuccessionGround,
)
from services.identity.numbering import Space
from services.identity.tables import CARDS, DOCUMENT_NUMBERS, NUMBERS, SUCCESSIONS_POSTPONED
from services.mesh.core.chain import Causation
from services.mesh.core.evidence.log import Log
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.ring_unit import RingUnit
from services.mesh.core.stored import from_stored, to_stored

_DRAWS = 4

# The first of the numbers drawn that nobody has. Where another transaction is just taking it, this waits for that one's
# end, and then takes it or nothing.
_TAKE = text(
    """
    INSERT INTO numbers (pin, subject_id, state, birth_year, birth_month, birth_day, sex, state_time, expire_time)
    SELECT drawn.pin, CAST(:subject_id AS uuid), :state, CAST(:birth_year AS smallint), CAST(:birth_month AS smallint),
           CAST(:birth_day AS smallint), CAST(:sex AS smallint), CAST(:state_time AS timestamptz),
           CAST(:expire_time AS timestamptz)
    FROM unnest(CAST(:candidates AS text[])) WITH ORDINALITY AS drawn (pin, place)
    WHERE NOT EXISTS (SELECT FROM numbers WHERE numbers.pin = drawn.pin)
    ORDER BY drawn.place LIMIT 1
    ON CONFLICT DO NOTHING RETURNING pin
    """
)

# Some free numbers of a space, by one scan of those given in it: of some thousands that are not all given, a few each.
_FREE = text(
    """
    WITH held AS (
      SELECT left(pin, 9) AS block FROM numbers WHERE pin BETWEEN :first AND :last GROUP BY 1 HAVING count(*) = 1000
    ), roomy AS (
      SELECT CAST(:prefix AS text) || lpad(number::text, 3, '0') AS block FROM generate_series(0, 999) AS number
      EXCEPT SELECT block FROM held
    ), chosen AS (
      SELECT block FROM roomy ORDER BY random() LIMIT 4
    )
    SELECT serials.pin
    FROM chosen, LATERAL (SELECT block || lpad(number::text, 3, '0') AS pin FROM generate_series(0, 999) AS number)
      AS serials
    WHERE NOT EXISTS (SELECT FROM numbers WHERE numbers.pin = serials.pin)
    ORDER BY random() LIMIT 16
    """
)


class Numbers:
    """The numbers ever given, and those reserved."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take(self, space: Space, like: Number, random: Random) -> Number | None:
        """Take a free number of a space for what `like` says; None if the space has none.

        1. Some are drawn from the whole space, a few times: of a space with room this is one statement.
        2. Then free ones are looked for. Each time all of them are lost, others have taken them: so it comes to an end.
        """
        for _ in range(_DRAWS):  # (1)
            if taken := self._take(space.draw(random), like):
                return taken
        while free := self._free(space):  # (2)
            if taken := self._take(free, like):
                return taken
        return None

    def adopt(self, number: Number) -> None:
        """Know a number that was given before this room kept them."""
        self._connection.execute(NUMBERS.insert(), {**_birth(number), "pin": number.pin})

    def find(self, pin: str) -> Number | None:
        """A number, not locked."""
        row = self._connection.execute(NUMBERS.select().where(NUMBERS.c.pin == pin)).first()
        return _number(row) if row else None

    def lock(self, pin: str) -> Number | None:
        """A number, locked until the transaction ends."""
        row = self._connection.execute(NUMBERS.select().where(NUMBERS.c.pin == pin).with_for_update()).first()
        return _number(row) if row else None

    def active_of(self, subject_id: UUID) -> Number | None:
        """The number that a person has now. Who changes it holds the person locked."""
        mine = NUMBERS.select().where(NUMBERS.c.subject_id == subject_id, NUMBERS.c.state == NumberState.ACTIVE.name)
        row = self._connection.execute(mine).first()
        return _number(row) if row else None

    def confirm(self, pin: str, now: datetime) -> None:
        """Put a reserved number into force."""
        values = {"state": NumberState.ACTIVE.name, "state_time": now, "expire_time": None}
        self._connection.execute(NUMBERS.update().where(NUMBERS.c.pin == pin).values(values))

    def cancel(self, pin: str, ground: SuccessionGround | None, successor: str, now: datetime) -> None:
        """Put a number out of force; it stays its person's for ever."""
        values = {
            "state": NumberState.CANCELLED.name,
            "state_time": now,
            "ground": ground.name if ground else None,
            "successor": successor,
        }
        self._connection.execute(NUMBERS.update().where(NUMBERS.c.pin == pin).values(values))

    def postpone(self, succession: PostponedSuccession) -> None:
        """Note that a correction asked for another number; the newest one of a person counts."""
        values = {
            "subject_id": succession.subject_id,
            "ground": succession.ground.name,
            "correlation_id": succession.cause.correlation_id,
            "causation_id": succession.cause.causation_id,
        }
        row = insert(SUCCESSIONS_POSTPONED).values(values)
        self._connection.execute(
            row.on_conflict_do_update(index_elements=[SUCCESSIONS_POSTPONED.c.subject_id], set_=values)
        )

    def take_postponed(self, limit: int) -> list[PostponedSuccession]:
        """So many corrections at most that asked for another number; they are forgotten with this transaction."""
        key = SUCCESSIONS_POSTPONED.c.subject_id
        chosen = select(key).order_by(key).limit(limit).with_for_update(skip_locked=True)
        gone = SUCCESSIONS_POSTPONED.delete().where(key.in_(chosen)).returning(SUCCESSIONS_POSTPONED)
        return [
            PostponedSuccession(
                row.subject_id, SuccessionGround[row.ground], Causation(row.correlation_id, row.causation_id)
            )
            for row in self._connection.execute(gone)
        ]

    def release(self, expired_before: datetime, limit: int) -> int:
        """Return reservations that expired before an instant to the free space, so many at most; how many it were."""
        overdue = (
            select(NUMBERS.c.pin)
            .where(NUMBERS.c.state == NumberState.RESERVED.name, NUMBERS.c.expire_time < expired_before)
            .limit(limit)
            .with_for_update(skip_locked=True)  # one that is just being confirmed stays
        )
        gone = NUMBERS.delete().where(NUMBERS.c.pin.in_(overdue)).returning(NUMBERS.c.pin)
        return len(self._connection.execute(gone).all())

    def _take(self, candidates: list[str], like: Number) -> Number | None:
        drawn = f"{{{','.join(candidates)}}}"  # a literal of type text[]: the driver would build it more slowly
        pin = self._connection.execute(_TAKE, {**_birth(like), "candidates": drawn}).scalar()
        return replace(like, pin=pin) if pin else None

    def _free(self, space: Space) -> list[str]:
        facts = {"prefix": space.prefix, "first": space.number(0), "last": space.number(999_999)}
        return list(self._connection.execute(_FREE, facts).scalars())


class Cards:
    """The cards. Who changes a person's holds the person locked."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, subject_id: UUID) -> list[Card]:
        """A person's cards and requests, newest first: requests, then those in force, then by their time."""
        rank = case(
            (CARDS.c.state == CardState.REQUESTED.name, 0), (CARDS.c.state == CardState.ISSUED.name, 1), else_=2
        )
        mine = CARDS.select().where(CARDS.c.subject_id == subject_id)
        newest = mine.order_by(CARDS.c.request_time.desc(), rank, CARDS.c.card_id)
        return [_card(row) for row in self._connection.execute(newest)]

    def find(self, card_id: UUID) -> Card | None:
        """A card."""
        row = self._connection.execute(CARDS.select().where(CARDS.c.card_id == card_id)).first()
        return _card(row) if row else None

    def find_document(self, document_number: str) -> Card | None:
        """The card that is or was the document of this number."""
        card_id = select(DOCUMENT_NUMBERS.c.card_id).where(DOCUMENT_NUMBERS.c.document_number == document_number)
        row = self._connection.execute(CARDS.select().where(CARDS.c.card_id == card_id.scalar_subquery())).first()
        return _card(row) if row else None

    def put(self, card: Card) -> None:
        """Know a card, or know it as it is now."""
        values = {
            "card_id": card.card_id,
            "subject_id": card.subject_id,
            "state": card.state.name,
            "request_time": card.request_time,
            "state_time": card.state_time,
            "document": to_stored(card.document, Document) if card.document else None,
            "cancellation": card.cancellation.name if card.cancellation else None,
        }
        row = insert(CARDS).values(values)
        self._connection.execute(row.on_conflict_do_update(index_elements=[CARDS.c.card_id], set_=values))

    def use_document_number(self, document_number: str, card_id: UUID) -> bool:
        """Whether a document number was free; from now on it is this card's for ever."""
        row = insert(DOCUMENT_NUMBERS).values(document_number=document_number, card_id=card_id)
        used = row.on_conflict_do_nothing().returning(DOCUMENT_NUMBERS.c.card_id)
        return self._connection.execute(used).first() is not None


class Identity(RingUnit):
    """What an operation of this room works with inside its transaction."""

    def __init__(self, connection: Connection, log: Log) -> None:
        super().__init__(connection, log, ROOM_NAME)
        self.numbers = Numbers(connection)
        self.cards = Cards(connection)


def _birth(number: Number) -> dict[str, Any]:
    return {
        "subject_id": number.subject_id,
        "state": number.state.name,
        "birth_year": number.birth_date.year,
        "birth_month": number.birth_date.month,
        "birth_day": number.birth_date.day,
        "sex": number.sex,
        "state_time": number.state_time,
        "expire_time": number.expire_time,
    }


def _number(row: Row[Any]) -> Number:
    return Number(
        pin=row.pin,
        subject_id=row.subject_id,
        state=NumberState[row.state],
        birth_date=PartialDate(row.birth_year, row.birth_month, row.birth_day),
        sex=row.sex,
        state_time=row.state_time,
        expire_time=row.expire_time,
        ground=SuccessionGround[row.ground] if row.ground else None,
        successor=row.successor or "",
    )


def _card(row: Row[Any]) -> Card:
    return Card(
        card_id=row.card_id,
        subject_id=row.subject_id,
        state=CardState[row.state],
        request_time=row.request_time,
        state_time=row.state_time,
        document=from_stored(row.document, Document) if row.document else None,
        cancellation=Cancellation[row.cancellation] if row.cancellation else None,
    )
