"""Tables that every room has: answers given, its log, its incarnation."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, Integer, LargeBinary, MetaData, Table, Text, func

METADATA = MetaData()

STORE = Table(
    "store",
    METADATA,
    Column("incarnation", BigInteger, primary_key=True, doc="rises when the store is restored from a backup"),
)

ANSWERS = Table(
    "answers",
    METADATA,
    Column("caller", Text, primary_key=True),
    Column("method", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("payload_hash", LargeBinary, nullable=False),
    Column("answer", LargeBinary, doc="null only inside the transaction that gives it"),
    Column("record_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
    info={"shard_key": ("caller", "method", "request_id")},
)

LOG_PENDING = Table(
    "log_pending",
    METADATA,
    Column("pending_id", BigInteger, Identity(always=True), primary_key=True),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("pseudonym", LargeBinary),
    Column("entry", LargeBinary, nullable=False),
    Column("record_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("log_pending_by_subject", "pseudonym"),
    info={"shard_key": ("pending_id",)},
)

LOG = Table(
    "log",
    METADATA,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("pseudonym", LargeBinary),
    Column("entry", LargeBinary, nullable=False),
    Column("record_time", DateTime(timezone=True), nullable=False),
    Index("log_by_leaf_hash", "leaf_hash"),
    Index("log_by_subject", "pseudonym", "position"),
    info={"shard_key": ("position",)},
)

LOG_TILES = Table(
    "log_tiles",
    METADATA,
    Column("level", Integer, primary_key=True),
    Column("tile", BigInteger, primary_key=True),
    Column("hashes", LargeBinary, nullable=False),
    info={"shard_key": ("level", "tile")},
)

LOG_CHECKPOINTS = Table(
    "log_checkpoints",
    METADATA,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    info={"shard_key": ("size",)},
)
