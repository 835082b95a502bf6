"""Tables of contributions: what was taken in, and what waits for its PIN."""

from sqlalchemy import Column, DateTime, LargeBinary, Table, Text, Uuid

from services.sharing.record.tables import METADATA

CONTRIBUTIONS = Table(
    "contributions",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("content_hash", LargeBinary, nullable=False),
    Column("subject_id", Uuid, doc="null while the item is held"),
    Column("agreement_id", Text, doc="the ground on which an agency contributed; null for a room"),
    Column("case_reference", Text),
    Column("officer_id", Text, doc="who answers for it"),
    Column("record_time", DateTime(timezone=True), nullable=False),
    info={"shard_key": ("source", "event_id")},
)

HELD = Table(
    "held_items",
    METADATA,
    Column("pin", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("item", LargeBinary, nullable=False, doc="the item as the room keeps it"),
    Column("record_time", DateTime(timezone=True), nullable=False),
    info={"shard_key": ("pin",)},
)
