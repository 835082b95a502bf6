"""Tables that every room has: answers, approvals, log, incarnation, outbox, place in the feed, people, chains."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    false,
    func,
    text,
    true,
)

METADATA = MetaData()

STORE = Table(
    "store",
    METADATA,
    Column("incarnation", BigInteger, primary_key=True, doc="rises when the store is restored from a backup"),
    Column("restore_time", DateTime(timezone=True), doc="when that was noted; null in the first"),
    Column("told_again", Boolean, nullable=False, server_default=true(), doc="those who tell it have told again"),
)

SCHEMA_FLOORS = Table(
    "schema_floors",
    METADATA,
    Column("package", Text, primary_key=True, doc="without the packages above it: mesh, or the room's name"),
    Column("oldest_code", Text, nullable=False, doc="code whose newest migration is older is not served any more"),
    Column("release", Text, nullable=False, doc="the release whose migration said so"),
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
    Index("answers_by_time", "record_time"),
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

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("outbox_id", BigInteger, Identity(always=True), primary_key=True),
    Column("message_id", Uuid, nullable=False),
    Column("peer", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject_id", Uuid, nullable=False, doc="messages of one subject to one peer leave in their order"),
    Column("payload", LargeBinary, nullable=False),
    Column("correlation_id", Uuid, nullable=False),
    Column("causation_id", Uuid, nullable=False),
    Column("record_time", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("attempts", Integer, nullable=False, server_default="0", doc="failures of the message itself"),
    Column("due_time", DateTime(timezone=True), doc="not before; null: at once"),
    Column("set_aside_time", DateTime(timezone=True), doc="since when it waits for a command"),
    Column("reason", Text),
    Column("field", Text),
    Index("outbox_by_subject", "peer", "subject_id", "outbox_id"),
    Index("outbox_waiting", "peer", "outbox_id", postgresql_where=text("set_aside_time IS NULL")),
    Index("outbox_set_aside", "set_aside_time", "message_id", postgresql_where=text("set_aside_time IS NOT NULL")),
    info={"shard_key": ("outbox_id",)},
)

OUTBOX_DELIVERED = Table(
    "outbox_delivered",
    METADATA,
    Column("outbox_id", BigInteger, primary_key=True, autoincrement=False, doc="as it was in the outbox"),
    Column("message_id", Uuid, nullable=False),
    Column("peer", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("correlation_id", Uuid, nullable=False),
    Column("causation_id", Uuid, nullable=False),
    Column("record_time", DateTime(timezone=True), nullable=False),
    Column("delivered_time", DateTime(timezone=True), nullable=False, doc="its receiver had it by then"),
    Index("outbox_delivered_by_time", "delivered_time"),
    info={"shard_key": ("outbox_id",)},
)

FEED_CURSOR = Table(
    "feed_cursor",
    METADATA,
    Column("feed", Text, primary_key=True),
    Column("incarnation", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False, doc="every change up to here is applied or set aside"),
    Column("caught_up", BigInteger, doc="the incarnation of this store in which the feed was followed to its head"),
    info={"shard_key": ("feed",)},
)

CHANGES_TAKEN = Table(
    "changes_taken",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("change_id", Uuid, primary_key=True, doc="a change of the feed that was applied or set aside"),
    Column("correlation_id", Uuid, nullable=False, doc="the chain that it belongs to"),
    info={"shard_key": ("subject_id",)},
)

CHANGES_SET_ASIDE = Table(
    "changes_set_aside",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("change_id", Uuid, primary_key=True),
    Column("waiting_id", BigInteger, Identity(always=True), nullable=False, doc="their order"),
    Column("change", LargeBinary, nullable=False, doc="the change as the room keeps it"),
    Column("correlation_id", Uuid, nullable=False),
    Column("reason", Text, nullable=False, doc="empty: it only waits behind another of its subject"),
    Column("field", Text, nullable=False),
    Column("record_time", DateTime(timezone=True), nullable=False),
    Column("set_aside_time", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("attempts", Integer, nullable=False),
    Column("due", Boolean, nullable=False, server_default=false(), doc="a command wants it tried again"),
    Column("recovered", Boolean, nullable=False, server_default=false(), doc="applied after all"),
    Column("said", Boolean, nullable=False, server_default=false(), doc="the feed has heard how it stands"),
    Index("changes_set_aside_unsaid", "waiting_id", postgresql_where=text("NOT said")),
    info={"shard_key": ("subject_id",)},
)

PEOPLE = Table(
    "people",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("pin", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("middle", Text, nullable=False),
    Column("given", Text, nullable=False),
    Column("full_name", Text, nullable=False, doc="empty: not known"),
    Column("birth_year", SmallInteger, nullable=False, doc="0: not known; so month and day"),
    Column("birth_month", SmallInteger, nullable=False),
    Column("birth_day", SmallInteger, nullable=False),
    Column("sex", SmallInteger, nullable=False, doc="0: not known"),
    Column("is_deceased", Boolean, nullable=False),
    info={"shard_key": ("subject_id",)},
)

PEOPLE_PINS = Table(
    "people_pins",
    METADATA,
    Column("pin", Text, primary_key=True, doc="every number that a person has or had"),
    Column("subject_id", Uuid, nullable=False),
    info={"shard_key": ("pin",)},
)

CHAIN_LINKS = Table(
    "chain_links",
    METADATA,
    Column("correlation_id", Uuid, primary_key=True),
    Column("link_id", Uuid, primary_key=True),
    Column("causation_id", Uuid),
    Column("act", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("agreement_id", Text),
    Column("case_reference", Text),
    Column("officer_id", Text),
    Column("link_time", DateTime(timezone=True), nullable=False),
    Column("outcome", Text, nullable=False),
    info={"shard_key": ("correlation_id",)},
)

APPROVALS = Table(
    "approvals",
    METADATA,
    Column("approval_id", Uuid, primary_key=True),
    Column("method", Text, nullable=False),
    Column("requester", Text, nullable=False, doc="identity"),
    Column("request", LargeBinary, nullable=False, doc="google.protobuf.Any, for the approver to read"),
    Column("digest", LargeBinary, nullable=False),
    Column("request_time", DateTime(timezone=True), nullable=False),
    Column("expire_time", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False, doc="PENDING, APPROVED or DENIED; that it expired is told by the time"),
    Column("decider", Text, doc="identity"),
    Column("decide_time", DateTime(timezone=True)),
    Column("reason", Text),
    Index("approvals_by_time", "request_time", "approval_id"),
    Index("approvals_by_state", "state", "request_time", "approval_id"),
    info={"shard_key": ("approval_id",)},
)
