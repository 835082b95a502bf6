"""The tables of residence: residences by person, households, and who is a member of which."""

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)

METADATA = MetaData()

RESIDENCES = Table(
    "residences",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("residence_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("unit_code", Text, nullable=False, doc="empty, as the rest of the address: the record did not tell"),
    Column("unit_list_version", Text, nullable=False),
    Column("country_code", Text, nullable=False),
    Column("detail_text", Text, nullable=False),
    Column("as_of_year", SmallInteger, nullable=False, doc="0: not stated; so month and day"),
    Column("as_of_month", SmallInteger, nullable=False),
    Column("as_of_day", SmallInteger, nullable=False),
    Column("start_date", Date, doc="null: not known, of an adopted one"),
    Column("end_date", Date),
    Column("household_id", Uuid, doc="the household with which it was registered"),
    Column("state", Text, nullable=False),
    Column("ground", Text),
    Column("closing_date", Date),
    Column("is_adopted", Boolean, nullable=False, doc="known from the record alone"),
    Column("record_time", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Index("residences_by_id", "residence_id"),
    # the rule of the law, whatever the code does
    Index(
        "residences_one_active",
        "subject_id",
        "kind",
        unique=True,
        postgresql_where=text("state = 'ACTIVE'"),
    ),
    info={"shard_key": ("subject_id",)},
)

HOUSEHOLDS = Table(
    "households",
    METADATA,
    Column("household_id", Uuid, primary_key=True, doc="locked by whoever changes its members, or tells of them"),
    Column("is_adopted", Boolean, nullable=False, doc="known from the record alone; false once told of"),
    info={"shard_key": ("household_id",)},
)

MEMBERS = Table(
    "members",
    METADATA,
    Column("subject_id", Uuid, primary_key=True, doc="so nobody is a member of two households"),
    Column("household_id", Uuid, nullable=False),
    Column("relation_code", Text, doc="null: not stated; so version and name"),
    Column("relation_list_version", Text),
    Column("relation_name", Text),
    Column("is_head", Boolean, nullable=False),
    Index("members_by_household", "household_id"),
    info={"shard_key": ("subject_id",)},
)
