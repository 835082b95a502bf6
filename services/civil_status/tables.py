"""The tables of civil status. Rows of acts are written once and never changed; statuses follow the acts."""

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)

METADATA = MetaData()

ACTS = Table(
    "acts",
    METADATA,
    Column("act_id", Uuid, primary_key=True, doc="also the id of its chain"),
    Column("kind", SmallInteger, nullable=False),
    Column("event_date", Date, nullable=False),
    Column("register_time", DateTime(timezone=True), nullable=False),
    Column("entry_number", Text, nullable=False, doc="in the office's book"),
    Column("actor", Text, nullable=False, doc="the registering system"),
    Column("agreement_id", Text, nullable=False),
    Column("case_reference", Text, nullable=False),
    Column("officer_id", Text, nullable=False),
    info={"shard_key": ("act_id",)},
)

ACT_SUBJECTS = Table(
    "act_subjects",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("act_id", Uuid, primary_key=True),
    info={"shard_key": ("subject_id",)},
)

ANNULMENTS = Table(
    "annulments",
    METADATA,
    Column("act_id", Uuid, primary_key=True, doc="the act that was annulled"),
    Column("annulled_by", Uuid, nullable=False, doc="the act that annulled it"),
    info={"shard_key": ("act_id",)},
)

BIRTH_KEYS = Table(
    "birth_keys",
    METADATA,
    Column("birth_key", LargeBinary, primary_key=True, doc="SHA-256 of name, day, sex and mother"),
    Column("subject_id", Uuid, primary_key=True),
    Column("mother_id", Uuid, doc="null: she is known by name alone, or not at all"),
    Index("birth_keys_by_subject", "subject_id"),
    info={"shard_key": ("birth_key",)},
)

BIRTHS = Table(
    "births",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("act_id", Uuid, nullable=False),
    Column("sex", SmallInteger, nullable=False),
    Column("mother_id", Uuid, doc="null: she has no number"),
    Column("mother_name", Text, nullable=False, doc="as a key; empty: she is not known"),
    Column("unit_code", Text, nullable=False, doc="where the birth is registered"),
    info={"shard_key": ("subject_id",)},
)

BIRTH_DETAILS = Table(
    "birth_details",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("path", Text, primary_key=True, doc="a path of npd.common.v1.Person"),
    Column("value", LargeBinary, nullable=False, doc="as registered or corrected here"),
    info={"shard_key": ("subject_id",)},
)

PARENTS = Table(
    "parents",
    METADATA,
    Column("child_id", Uuid, primary_key=True),
    Column("role", SmallInteger, primary_key=True),
    Column("parent_id", Uuid, doc="null: he has no number"),
    Column("family", Text, nullable=False),
    Column("middle", Text, nullable=False),
    Column("given", Text, nullable=False),
    Column("full_name", Text, nullable=False),
    Column("nationality", Text, nullable=False),
    Index("parents_by_parent", "parent_id"),
    info={"shard_key": ("child_id",)},
)

MARRIAGES = Table(
    "marriages",
    METADATA,
    Column("act_id", Uuid, primary_key=True),
    Column("first_id", Uuid, nullable=False),
    Column("first_before", SmallInteger, nullable=False, doc="marital status before"),
    Column("first_before_act_id", Uuid, doc="the act that gave it; null: none of this room"),
    Column("second_id", Uuid, nullable=False),
    Column("second_before", SmallInteger, nullable=False),
    Column("second_before_act_id", Uuid),
    info={"shard_key": ("act_id",)},
)

DEATHS = Table(
    "deaths",
    METADATA,
    Column("act_id", Uuid, primary_key=True),
    Column("subject_id", Uuid, nullable=False),
    Column("spouse_id", Uuid, doc="who was widowed by it"),
    Column("marriage_id", Uuid, doc="the marriage that it ended"),
    info={"shard_key": ("act_id",)},
)

LISTED_SPOUSES = Table(
    "listed_spouses",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("pin", Text, primary_key=True, doc="whom the record names as his spouse by the word of others"),
    info={"shard_key": ("subject_id",)},
)

STATUSES = Table(
    "statuses",
    METADATA,
    Column("subject_id", Uuid, primary_key=True),
    Column("marital_status", SmallInteger, nullable=False),
    Column("spouse_id", Uuid, doc="while married by an act of this room"),
    Column("act_id", Uuid, doc="the act of this room that gave it"),
    Column("is_own", Boolean, nullable=False, doc="this room has told it"),
    Column("told_time", DateTime(timezone=True), doc="event time of this room's latest word on it"),
    Column("death_told_time", DateTime(timezone=True), doc="event time of this room's latest word on death"),
    info={"shard_key": ("subject_id",)},
)
