"""Tables of the feed: changes wait where they were committed, and get their position from the sequencer."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, LargeBinary, SmallInteger, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY

from services.sharing.record.tables import METADATA

# for what a room of the version before may still write while it is replaced
_NEW_ID, _NORMAL = text("gen_random_uuid()"), text("2")


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
        Column("correlation_id", Uuid, nullable=False, server_default=_NEW_ID),
        Column("causation_id", Uuid, nullable=False, server_default=_NEW_ID),
        Column("lane", SmallInteger, nullable=False, server_default=_NORMAL, doc="a number of npd.common.v1.Lane"),
    ]


CHANGES_PENDING = Table(
    "changes_pending",
    METADATA,
    Column("pending_id", BigInteger, Identity(always=True), primary_key=True),
    *_columns(),
    Index("changes_pending_by_chain", "correlation_id"),
    info={"shard_key": ("pending_id",)},
)

CHANGES = Table(
    "changes",
    METADATA,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    *_columns(),
    Index("changes_by_lane", "lane", "position"),
    Index("changes_by_chain", "correlation_id"),
    Index("changes_by_id", "change_id"),
    info={"shard_key": ("position",)},
)

FOLLOWERS = Table(
    "followers",
    METADATA,
    Column("follower", Text, primary_key=True, doc="a system or room, by its name"),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False, doc="0: all lanes"),
    Column("incarnation", BigInteger, nullable=False, doc="that the marks are of"),
    Column("received", BigInteger, nullable=False, doc="the position up to which every change has arrived"),
    Column("applied", BigInteger, nullable=False, doc="the position up to which every change has taken effect"),
    Column("record_time", DateTime(timezone=True), nullable=False, doc="when a mark last moved"),
    info={"shard_key": ("follower",)},
)

FOLLOWINGS = Table(
    "followings",
    METADATA,
    Column("follower", Text, primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False, doc="0: all lanes"),
    Column("incarnation", BigInteger, primary_key=True, autoincrement=False),
    Column("position_from", BigInteger, nullable=False, doc="after which it is served: its marks claim nothing before"),
    info={"shard_key": ("follower",)},
)

ACKNOWLEDGEMENTS = Table(
    "acknowledgements",
    METADATA,
    Column("follower", Text, primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("incarnation", BigInteger, primary_key=True, autoincrement=False),
    Column("status", Text, primary_key=True, doc="RECEIVED or APPLIED"),
    Column("position_to", BigInteger, primary_key=True, autoincrement=False, doc="how far the mark moved"),
    Column("record_time", DateTime(timezone=True), nullable=False),
    info={"shard_key": ("follower",)},
)

REJECTIONS = Table(
    "rejections",
    METADATA,
    Column("change_id", Uuid, primary_key=True),
    Column("follower", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("reject_time", DateTime(timezone=True), nullable=False),
    Column("recover_time", DateTime(timezone=True), doc="null while it counts as rejected"),
    Index("rejections_by_follower", "follower"),
    info={"shard_key": ("change_id",)},
)
