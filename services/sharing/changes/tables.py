"""Tables of the feed: changes wait where they were committed, and get their position from the sequencer."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY

from services.sharing.record.tables import METADATA


def _columns() -> list[Column[object]]:
    return [
        Column("change_id", Uuid, nullable=False),
        Column("subject_id", Uuid, nullable=False),
        Column("pin", Text, nullable=False),
        Column("paths", ARRAY(Text), nullable=False),
        Column("disputed", ARRAY(Text), nullable=False),
        Column("person", LargeBinary, nullable=False, doc="the changed fields' values, a serialised Person"),
        Column("source", Text, nullable=False),
        Column("event_time", DateTime(timezone=True), nullable=False),
        Column("record_time", DateTime(timezone=True), nullable=False),
    ]


CHANGES_PENDING = Table(
    "changes_pending",
    METADATA,
    Column("pending_id", BigInteger, Identity(always=True), primary_key=True),
    *_columns(),
    info={"shard_key": ("pending_id",)},
)

CHANGES = Table(
    "changes",
    METADATA,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    *_columns(),
    info={"shard_key": ("position",)},
)
