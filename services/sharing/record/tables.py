"""Tables of the record."""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY

METADATA = MetaData()

PINS = Table(
    "pins",
    METADATA,
    Column("pin", Text, primary_key=True, doc="every PIN a subject ever had; none is ever another's"),
    Column("subject_id", Uuid, nullable=False),
    info={"shard_key": ("pin",)},
)

RECORDS = Table(
    "records",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("pin", Text, nullable=False, doc="the PIN in force"),
    Column("name_key", Text, nullable=False, doc="the full name as identities are matched by"),
    Column("birth_year", SmallInteger, nullable=False, doc="0: not known; so month and day"),
    Column("birth_month", SmallInteger, nullable=False),
    Column("birth_day", SmallInteger, nullable=False),
    Column("person", LargeBinary, nullable=False, doc="the current record, a serialised npd.common.v1.Person"),
    Column("disputed", ARRAY(Text), nullable=False, doc="paths for which another source tells another value"),
    Column("assertion_count", BigInteger, nullable=False, doc="the last ordinal given to an assertion"),
    info={"shard_key": ("subject_id",)},
)

ASSERTIONS = Table(
    "assertions",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("ordinal", BigInteger, primary_key=True),
    Column("path", Text, nullable=False),
    Column("item_key", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("value", LargeBinary, doc="a Person with this field alone; null: the source holds no value any more"),
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("register_time", DateTime(timezone=True), nullable=False),
    Column("record_time", DateTime(timezone=True), nullable=False),
    info={"shard_key": ("subject_id",)},
)

DISCREPANCIES = Table(
    "discrepancies",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("item_key", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("open_time", DateTime(timezone=True), primary_key=True),
    Column("difference", Text, nullable=False),
    Column("close_time", DateTime(timezone=True)),
    info={"shard_key": ("subject_id",)},
)

MISMATCHES = Table(
    "mismatches",
    METADATA,
    Column("pin_mark", LargeBinary, primary_key=True, doc="keyed hash of the PIN that was asked for"),
    Column("system", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("contradictions", Integer, nullable=False, server_default="0", doc="claims contradicted of who matched"),
    Index("mismatches_by_day", "day"),
    info={"shard_key": ("pin_mark",)},
)
