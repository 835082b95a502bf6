"""Chains whose legal clock has run out while something of them still waits in this room.

Whether the act that stops a clock was done is known to the room where it is done, and to who asks all rooms (`npd chain
show`). What a room can tell by itself is that it holds a chain up: such a clock cannot have been met through the mesh.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, and_, select

from services.mesh.core.clock import legal_date
from services.mesh.core.following import FollowedChange
from services.mesh.core.legal_clock import CalendarMissing, LegalClock, WorkingCalendar
from services.mesh.core.stored import from_stored
from services.mesh.core.tables import CHAIN_LINKS, CHANGES_SET_ASIDE, OUTBOX

_LOOKED_AT = 5000


class HeldUp:
    """The chains that a room holds up, inside a transaction. It looks at the 5,000 oldest of what waits, either way."""

    def __init__(self, connection: Connection, room: str) -> None:
        self._connection = connection
        self._room = room

    def overdue(
        self, clocks: Iterable[LegalClock], calendars: Iterable[WorkingCalendar], now: datetime
    ) -> dict[str, int]:
        """How many chains are overdue, by the code of each clock that starts or must stop in this room.

        1. A clock that starts here: the message that tells of the act has not been handed on.
        2. A clock that must stop here: a change from the room where it starts is set aside, and the act that stops the
           clock is not in the chain. It is counted from the time of the change, which is never before the act's.
        A day that no calendar covers has no end, so nothing is overdue by it.
        """
        known = tuple(calendars)
        starting, stopping = list[LegalClock](), list[LegalClock]()
        for clock in clocks:
            if _room_of(clock.start_act) == self._room:
                starting.append(clock)
            elif _room_of(clock.end_act) == self._room:
                stopping.append(clock)
        late: dict[str, set[UUID]] = {clock.code: set() for clock in (*starting, *stopping)}
        for clock in starting:  # (1)
            started = self._untold(clock.start_act)
            late[clock.code] |= {chain for chain, time in started if _has_run_out(clock, time, known, now)}
        waiting = self._set_aside() if stopping else []
        for clock in stopping:  # (2)
            mine = [one for one in waiting if one.source == _room_of(clock.start_act)]
            due = {one.causation.correlation_id for one in mine if _has_run_out(clock, one.record_time, known, now)}
            late[clock.code] |= due - self._done(clock.end_act, due)
        return {code: len(chains) for code, chains in late.items()}

    def _untold(self, act: str) -> list[tuple[UUID, datetime]]:
        oldest = select(OUTBOX.c.correlation_id, OUTBOX.c.causation_id).order_by(OUTBOX.c.outbox_id).limit(_LOOKED_AT)
        waiting = oldest.subquery()
        told_by = and_(
            CHAIN_LINKS.c.correlation_id == waiting.c.correlation_id, CHAIN_LINKS.c.link_id == waiting.c.causation_id
        )
        links = select(CHAIN_LINKS.c.correlation_id, CHAIN_LINKS.c.link_time).join(waiting, told_by)
        rows = self._connection.execute(links.where(CHAIN_LINKS.c.act == act).distinct())
        return [(row.correlation_id, row.link_time) for row in rows]

    def _set_aside(self) -> list[FollowedChange]:
        table = CHANGES_SET_ASIDE.c
        rows = select(table.change).where(~table.recovered).order_by(table.waiting_id).limit(_LOOKED_AT)
        return [from_stored(change, FollowedChange) for change in self._connection.execute(rows).scalars()]

    def _done(self, act: str, chains: set[UUID]) -> set[UUID]:
        is_it = and_(CHAIN_LINKS.c.correlation_id.in_(list(chains)), CHAIN_LINKS.c.act == act)
        return set(self._connection.execute(select(CHAIN_LINKS.c.correlation_id).where(is_it)).scalars())


def _room_of(act: str) -> str:
    """The room whose act it is: civil_status of "civil_status.register_death"."""
    return act.partition(".")[0]


def _has_run_out(clock: LegalClock, start: datetime, calendars: tuple[WorkingCalendar, ...], now: datetime) -> bool:
    if not clock.validity.covers(legal_date(start)):
        return False
    try:
        return clock.due_time(start, calendars) < now
    except CalendarMissing:
        return False
