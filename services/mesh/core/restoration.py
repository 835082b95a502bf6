"""A store that was restored from a backup: its incarnation rises, so that nobody takes it for what it was before."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, inspect, text

# Whoever serves holds connections as the room's own role; the database's exporters and replicas have others.
_SERVING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user
      AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
# Restored twice from one backup, a store would get one incarnation twice if it only counted: hence the clock.
_RAISE = """
    INSERT INTO store (incarnation, restore_time, told_again)
    SELECT greatest(max(incarnation) + 1, extract(epoch FROM now())::bigint), now(), :told_again FROM store
    RETURNING incarnation, restore_time
"""
_LOG = "SELECT position, record_time FROM log ORDER BY position DESC LIMIT 1"
_PENDING = "SELECT NULL, max(record_time) FROM log_pending"
_FEED = "SELECT position, record_time FROM changes ORDER BY position DESC LIMIT 1"
_OUTBOX = "SELECT NULL, max(record_time) FROM outbox"
_DELIVERED = "SELECT NULL, max(delivered_time) FROM outbox_delivered"
_REPLAYED = "SELECT NULL, pg_last_xact_replay_timestamp()"
_OF_THE_RECOVERY = "transaction of the recovery"


# Each room's store has a clock of its own, and no room is ready with one that is further off than minutes.
_CLOCKS_APART = timedelta(minutes=10)


class StillServed(Exception):
    """Somebody holds connections to the store as the room's role; says how many."""


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest trace of a kind that a restored store holds: its time, and its position if it has one."""

    what: str
    time: datetime
    position: int | None


@dataclass(frozen=True, slots=True)
class Restoration:
    """A restore that was noted: the incarnations, and the newest that the store holds of each kind."""

    before: int
    after: int
    time: datetime
    newest: tuple[Newest, ...]
    waiting_count: int
    is_told_again: bool

    @property
    def since(self) -> datetime:
        """From when on others must tell again: before the newest that the store holds, by any of their clocks.

        For a store that holds nothing at all it is the beginning of time. What the server replayed does not count: one
        that was a standby until a failover has replayed what came after the restore, too.
        """
        newest = max((one.time for one in self.newest if one.what != _OF_THE_RECOVERY), default=None)
        return newest - _CLOCKS_APART if newest else datetime.fromtimestamp(0, UTC)


def note(connection: Connection, *, waits: bool) -> Restoration:
    """Raise the incarnation; `waits`: the room acts only once those who tell it have told again.

    Twice does no harm: followers begin anew once more. Raises StillServed.
    """
    if serving := connection.execute(text(_SERVING)).scalar_one():
        raise StillServed(f"{serving} connections")
    before = connection.execute(text("SELECT max(incarnation) FROM store")).scalar_one()
    newest = _newest(connection)
    waiting = connection.execute(text("SELECT count(*) FROM outbox")).scalar_one()
    after, time = connection.execute(text(_RAISE), {"told_again": not waits}).one()
    return Restoration(before, after, time, newest, waiting, not waits)


def note_told_again(connection: Connection) -> bool:
    """Those who tell this room have told again what it had forgotten. Returns whether it waited for that."""
    open_again = "UPDATE store SET told_again = true WHERE NOT told_again"
    return bool(connection.execute(text(open_again)).rowcount)


def _newest(connection: Connection) -> tuple[Newest, ...]:
    queries = {
        "act in the log": _LOG,
        "act without a position in the log": _PENDING,
        "message that waits": _OUTBOX,
        "message that was delivered": _DELIVERED,
        _OF_THE_RECOVERY: _REPLAYED,
    }
    if inspect(connection).has_table("changes"):
        queries["change of the feed"] = _FEED
    found = []
    for what, query in queries.items():
        row = connection.execute(text(query)).first()
        if row is not None and row[1] is not None:
            found.append(Newest(what, row[1], row[0]))
    return tuple(found)
