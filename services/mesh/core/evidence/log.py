"""The log's rows: appended in the transaction of the answer that they record, and read for usage and proofs.

Appending takes no lock and gives no position: the sequencer does, from committed rows alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Connection, text, tuple_

from services.mesh.core.db import bytea_array, driver_of
from services.mesh.core.errors import InvalidField, Kind, MeshError, StoreUnavailable
from services.mesh.core.evidence import tiles
from services.mesh.core.evidence.entry import Entry, Receipt, SealedEntry, Sealer
from services.mesh.core.tables import LOG, LOG_CHECKPOINTS, LOG_TILES

_APPEND = (
    "INSERT INTO log_pending (leaf_hash, pseudonym, entry) SELECT * FROM unnest(%s::bytea[], %s::bytea[], %s::bytea[])"
)

_NO_POSITION = 2**63 - 1
_OF_SUBJECT = text(
    """
    (SELECT NULL::bigint AS position, pending_id, leaf_hash, entry FROM log_pending
     WHERE pseudonym = :pseudonym ORDER BY pending_id LIMIT :waiting)
    UNION ALL
    (SELECT position, NULL, leaf_hash, entry FROM log
     WHERE pseudonym = :pseudonym AND position < :before ORDER BY position DESC LIMIT :placed)
    ORDER BY position DESC NULLS FIRST, pending_id DESC
    """
)


class EntryNotFound(MeshError):
    """No entry with this leaf hash has a position."""

    kind, reason = Kind.NOT_FOUND, "ENTRY_NOT_FOUND"


class CheckpointUnknown(InvalidField):
    """The log never had a checkpoint of this size."""

    reason = "CHECKPOINT_UNKNOWN"


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as stored. `position` is None until the sequencer has come by."""

    position: int | None
    leaf_hash: bytes
    entry: bytes


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """An entry's bytes and position, and the hashes that lead to the root of a signed checkpoint."""

    entry: bytes
    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """The hashes that show that a signed checkpoint's log begins with an older one."""

    hashes: tuple[bytes, ...]
    checkpoint: str


def append(driver: psycopg.Connection[tuple[Any, ...]], sealed: Sequence[SealedEntry]) -> None:
    """Append sealed entries on psycopg itself, for hot paths; in the caller's transaction.

    Raises StoreUnavailable if the server takes no entry, whatever it says why: then nothing may leave.
    """
    if not sealed:
        return
    columns = zip(*((one.leaf_hash, one.pseudonym, one.entry) for one in sealed), strict=True)
    try:
        driver.execute(_APPEND, [bytea_array(column) for column in columns])
    except psycopg.OperationalError:
        raise  # so that its connection is not used again; the transaction's owner says what it means
    except psycopg.DatabaseError as error:
        if error.sqlstate is None:
            raise  # our own fault: the server was not asked
        raise StoreUnavailable() from error


class Log:
    """One room's log, inside a transaction."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._sealer = sealer

    def record(self, entry: Entry) -> Receipt:
        """Append one entry; if this transaction does not commit, neither does what it records."""
        return self.record_all([entry])[0]

    def record_all(self, entries: Sequence[Entry]) -> list[Receipt]:
        """Append entries, in one statement."""
        sealed = [self._sealer.seal(entry) for entry in entries]
        append(driver_of(self._connection), sealed)
        return [self._sealer.receipt(one) for one in sealed]

    def of_subject(self, pseudonym: bytes, *, before: int | None, limit: int) -> tuple[list[StoredEntry], int | None]:
        """Entries about a subject, newest first, below a position; and below which one the next page begins, if any.

        The first page begins with those without a position. Should these alone be more than a page, the newest of them
        are left for a later look: then no page misses or repeats one. It is one statement, so that an entry that gets
        its position meanwhile is seen once.
        """
        facts = {
            "pseudonym": pseudonym,
            "waiting": limit if before is None else 0,
            "before": _NO_POSITION if before is None else before,
            "placed": limit + 1,
        }
        rows = self._connection.execute(_OF_SUBJECT, facts).all()
        found = [StoredEntry(row.position, row.leaf_hash, row.entry) for row in rows[:limit]]
        return found, rows[limit].position + 1 if len(rows) > limit else None

    def newest_checkpoint(self) -> tuple[int, str]:
        """Size and signed note of the newest checkpoint."""
        row = self._connection.execute(LOG_CHECKPOINTS.select().order_by(LOG_CHECKPOINTS.c.size.desc()).limit(1)).one()
        return row.size, row.note

    def prove_inclusion(self, leaf_hash: bytes) -> InclusionProof:
        """The proof of an entry under the newest checkpoint. Raises EntryNotFound."""
        size, checkpoint = self.newest_checkpoint()
        row = self._connection.execute(
            LOG.select().where(LOG.c.leaf_hash == leaf_hash, LOG.c.position < size).limit(1)
        ).first()
        if row is None:
            raise EntryNotFound()
        read = self._read(tiles.inclusion_tiles(row.position, size))
        return InclusionProof(row.entry, row.position, tiles.inclusion_proof(row.position, size, read), checkpoint)

    def prove_consistency(self, old_size: int) -> ConsistencyProof:
        """The proof that the newest checkpoint's log begins with its first `old_size` entries; CheckpointUnknown."""
        size, checkpoint = self.newest_checkpoint()
        if not 0 < old_size <= size:
            raise CheckpointUnknown("old_size", f"must lie between 1 and {size}", size=old_size)
        read = self._read(tiles.consistency_tiles(old_size, size))
        return ConsistencyProof(tiles.consistency_proof(old_size, size, read), checkpoint)

    def _read(self, wanted: Sequence[tiles.TileId]) -> tiles.TileSource:
        return tiles.read_from(read_tiles(self._connection, wanted))


def read_tiles(connection: Connection, wanted: Sequence[tiles.TileId]) -> dict[tiles.TileId, bytes]:
    """The tiles that are stored, of those wanted, in one query."""
    rows = connection.execute(LOG_TILES.select().where(tuple_(LOG_TILES.c.level, LOG_TILES.c.tile).in_(list(wanted))))
    return {(row.level, row.tile): row.hashes for row in rows}
