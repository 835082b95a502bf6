"""Tables of contributions: what was taken in, and what waits for its PIN."""

from sqlalchemy import Column, DateTime, Index, LargeBinary, Table, Text, Uuid

from services.sharing.record.tables import METADATA

CONTRIBUTIONS = Table(
    "contributions",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("content_hash", LargeBinary, nullable=False),
    Column("subject_id", Uuid, doc="null while the item is held"),
    Column("agreement_id", Text, doc="the ground of an agency's call, or of the act that a room tells of; else null"),
    Column("case_reference", Text),
    Column("officer_id", Text, doc="who answers for it"),
    Column("origin", Text, doc="the system whose act a room tells of"),
    Column("correlation_id", Uuid, doc="the chain; null for what was taken in before there were chains"),
    Column("causation_id", Uuid, doc="the act that it tells of"),
    Column("record_time", DateTime(timezone=True), nullable=False),
    Index("contributions_by_chain", "correlation_id"),
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
