"""Integrates committed entries into the Merkle tree and signs a checkpoint over it."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from npd.common.v1 import evidence_pb2
from npd_client import merkle
from npd_client.checkpoint import Checkpoint
from services.mesh.core.evidence import tiles
from services.mesh.core.evidence.log import read_tiles
from services.mesh.core.tables import LOG_CHECKPOINTS, LOG_PENDING, LOG_TILES

_PLACE = text(
    """
    WITH moved AS (DELETE FROM log_pending WHERE pending_id = ANY(:due) RETURNING *)
    INSERT INTO log (position, leaf_hash, pseudonym, entry, record_time)
    SELECT :size - 1 + row_number() OVER (ORDER BY pending_id), leaf_hash, pseudonym, entry, record_time FROM moved
    """
)


class EntryAltered(Exception):
    """A pending entry is not what its answer's receipt says: somebody changed the table."""


class Integrator:
    """The log's part of the sequencer: `Integrator(...).integrate` is its `integrate`."""

    def __init__(self, origin: str, key: Ed25519PrivateKey) -> None:
        self._origin = origin
        self._key = key

    def integrate(self, connection: Connection, limit: int) -> int:
        """Move pending entries into the log.

        1. Take committed pending entries, up to `limit`; their order becomes the log's. Each must be as it was sealed:
           what was altered since is never signed over (EntryAltered; the log stands still until it is looked into).
        2. Grow the tree from its right edge, and store the tiles that grew.
        3. Sign a checkpoint over the new root.
        All in one transaction: a checkpoint never stands without its entries, nor they without it.
        """
        size = connection.execute(select(func.coalesce(func.max(LOG_CHECKPOINTS.c.size), 0))).scalar_one()
        if not connection.execute(select(LOG_CHECKPOINTS.c.size).limit(1)).first():
            self._sign(connection, 0, merkle.EMPTY_ROOT)
        due = LOG_PENDING.select().order_by(LOG_PENDING.c.pending_id).limit(limit)
        pending = connection.execute(due).all()  # (1)
        if not pending:
            return 0
        for row in pending:
            _require_sound(row.entry, row.leaf_hash, row.pseudonym)
        connection.execute(_PLACE, {"size": size, "due": [row.pending_id for row in pending]})
        edge = tiles.read_from(read_tiles(connection, tiles.root_tiles(size)))  # (2)
        growth = tiles.append(size, [row.leaf_hash for row in pending], edge)
        upsert = insert(LOG_TILES)
        upsert = upsert.on_conflict_do_update(
            index_elements=[LOG_TILES.c.level, LOG_TILES.c.tile], set_={"hashes": upsert.excluded.hashes}
        )
        grown = [{"level": level, "tile": index, "hashes": row} for (level, index), row in growth.tiles.items()]
        connection.execute(upsert, grown)
        self._sign(connection, growth.size, growth.root)  # (3)
        return len(pending)

    def _sign(self, connection: Connection, size: int, root: bytes) -> None:
        note = Checkpoint(self._origin, size, root).sign(self._key).decode()
        connection.execute(LOG_CHECKPOINTS.insert().values(size=size, note=note))


def _require_sound(entry: bytes, leaf_hash: bytes, pseudonym: bytes | None) -> None:
    if merkle.leaf_hash(entry) != leaf_hash:
        raise EntryAltered()
    if (evidence_pb2.LogEntry.FromString(entry).subject.pseudonym or None) != pseudonym:
        raise EntryAltered()


def log_origin(environment: str, room: str) -> str:
    """The name of a room's log, as its checkpoints and verifier keys have it."""
    return f"mesh.{environment}/{room}"
