"""Table of the uses that source rooms told of: which are recorded already."""

from sqlalchemy import Column, DateTime, Table, Text, Uuid

from services.sharing.record.tables import METADATA

USES_RECORDED = Table(
    "uses_recorded",
    METADATA,
    Column("source", Text, primary_key=True, doc="the room that told it"),
    Column("use_id", Uuid, primary_key=True),
    Column("record_time", DateTime(timezone=True), nullable=False),
    info={"shard_key": ("source", "use_id")},
)
