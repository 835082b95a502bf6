"""The identity room's tables. A number's row outlives its reservation once it was given, for ever: none is reused."""

from sqlalchemy import Column, DateTime, Index, LargeBinary, MetaData, SmallInteger, Table, Text, Uuid, text

METADATA = MetaData()

NUMBERS = Table(
    "numbers",
    METADATA,
    Column("pin", Text, primary_key=True),
    Column("subject_id", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("birth_year", SmallInteger, nullable=False, doc="0: not known; so month, day and sex"),
    Column("birth_month", SmallInteger, nullable=False),
    Column("birth_day", SmallInteger, nullable=False),
    Column("sex", SmallInteger, nullable=False),
    Column("state_time", DateTime(timezone=True), nullable=False),
    Column("expire_time", DateTime(timezone=True), doc="of a reservation"),
    Column("ground", Text, doc="why it was cancelled"),
    Column("successor", Text, doc="the number given instead"),
    Index("numbers_by_subject", "subject_id"),
    Index("numbers_reserved", "expire_time", postgresql_where=text("state = 'RESERVED'")),
    info={"shard_key": ("pin",)},
)

CARDS = Table(
    "cards",
    METADATA,
    Column("card_id", Uuid, primary_key=True),
    Column("subject_id", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("request_time", DateTime(timezone=True), nullable=False, doc="of a card older than this room: when told"),
    Column("state_time", DateTime(timezone=True), nullable=False),
    Column("document", LargeBinary, doc="the document as it was issued, in its stored form"),
    Column("cancellation", Text),
    Index("cards_by_subject", "subject_id"),
    info={"shard_key": ("card_id",)},
)

DOCUMENT_NUMBERS = Table(
    "document_numbers",
    METADATA,
    Column("document_number", Text, primary_key=True, doc="every one that was ever used"),
    Column("card_id", Uuid, nullable=False),
    info={"shard_key": ("document_number",)},
)

SUCCESSIONS_POSTPONED = Table(
    "successions_postponed",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("ground", Text, nullable=False),
    Column("correlation_id", Uuid, nullable=False, doc="the chain of the correction that asked for another number"),
    Column("causation_id", Uuid, nullable=False),
    info={"shard_key": ("subject_id",)},
)
