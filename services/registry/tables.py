"""The registry's tables. A row of the policy carries the revision that last changed it; a removed one stays, marked."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

METADATA = MetaData()

POLICY_REVISION = Table(
    "policy_revision",
    METADATA,
    Column("single", Boolean, primary_key=True, doc="true: the table has one row, which every change locks"),
    Column("revision", BigInteger, nullable=False),
    Column(
        "whole_below", BigInteger, nullable=False, server_default="0", doc="who holds an older revision gets all anew"
    ),
    CheckConstraint("single", name="policy_revision_one_row"),
)


def _policy_table(name: str, *columns: Column[object], key: tuple[str, ...]) -> Table:
    return Table(
        name,
        METADATA,
        *columns,
        Column("revision", BigInteger, nullable=False),
        Column("removed", Boolean, nullable=False),
        Index(f"{name}_by_revision", "revision"),
        info={"shard_key": key},
    )


AGENCIES = _policy_table(
    "agencies",
    Column("agency_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("contact", Text, nullable=False, server_default="", doc="where its administrators are reached"),
    key=("agency_id",),
)

SYSTEMS = _policy_table(
    "systems",
    Column("agency_id", Text, primary_key=True),
    Column("system_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("state_time", DateTime(timezone=True), nullable=False),
    key=("agency_id", "system_id"),
)

OFFICERS = _policy_table(
    "officers",
    Column("agency_id", Text, primary_key=True),
    Column("officer_id", Text, primary_key=True),
    key=("agency_id", "officer_id"),
)

AGREEMENTS = _policy_table(
    "agreements",
    Column("agreement_id", Text, primary_key=True),
    Column("agency_id", Text, nullable=False),
    Column("system_id", Text, nullable=False),
    Column("terms", LargeBinary, nullable=False, doc="serialised once; these bytes are signed"),
    Column("agency_chain", ARRAY(LargeBinary)),
    Column("agency_sign_time", DateTime(timezone=True)),
    Column("agency_signature", LargeBinary),
    Column("agency_suspends", Text, doc="cause; null while the agency's side does not suspend"),
    Column("operator_chain", ARRAY(LargeBinary)),
    Column("operator_sign_time", DateTime(timezone=True)),
    Column("operator_signature", LargeBinary),
    Column("operator_suspends", Text, doc="cause; null while the operator's side does not suspend"),
    key=("agreement_id",),
)

REVOCATIONS = _policy_table(
    "revocations",
    Column("issuer_key_id", Text, primary_key=True),
    Column("serial_number", Text, primary_key=True),
    Column("reason", Integer, nullable=False),
    Column("revoke_time", DateTime(timezone=True), nullable=False),
    Column("key_id", Text, nullable=False, server_default="", doc="of a compromised key; empty: not known"),
    key=("issuer_key_id", "serial_number"),
)

CERTIFICATE_AUTHORITIES = _policy_table(
    "certificate_authorities",
    Column("key_id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_time", DateTime(timezone=True), nullable=False),
    key=("key_id",),
)

OPERATORS = _policy_table("operators", Column("name", Text, primary_key=True), key=("name",))

FIELDS = _policy_table(
    "fields",
    Column("path", Text, primary_key=True),
    Column("provision", Text, nullable=False),
    Column("sensitive", Boolean, nullable=False),
    Column("authority", ARRAY(Text), nullable=False),
    Column("start_date", Date, nullable=False),
    Column("end_date", Date),
    Column("followers", ARRAY(Text), nullable=False, server_default="{}"),
    Column("lane", Text, nullable=False, server_default="NORMAL"),
    key=("path",),
)

PURPOSES = _policy_table(
    "purposes",
    Column("code", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("provision", Text, nullable=False),
    Column("paths", ARRAY(Text), nullable=False),
    Column("start_date", Date, nullable=False),
    Column("end_date", Date),
    key=("code",),
)

PROVISIONS = _policy_table(
    "provisions",
    Column("provision_id", Text, primary_key=True),
    Column("citation", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("start_date", Date, nullable=False),
    Column("end_date", Date),
    key=("provision_id",),
)

CLOCKS = _policy_table(
    "clocks",
    Column("code", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("provision", Text, nullable=False),
    Column("start_act", Text, nullable=False),
    Column("end_act", Text, nullable=False),
    Column("amount", Integer, nullable=False),
    Column("unit", Text, nullable=False),
    Column("start_date", Date, nullable=False),
    Column("end_date", Date),
    key=("code",),
)

CALENDARS = _policy_table(
    "calendars",
    Column("code", Text, primary_key=True),
    Column("rest_days", ARRAY(Integer), nullable=False, doc="ISO weekdays, 1 is Monday"),
    Column("holidays", ARRAY(Date), nullable=False),
    Column("start_date", Date, nullable=False),
    Column("end_date", Date, nullable=False),
    key=("code",),
)

CONTACTS = Table(
    "contacts",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("contact_time", DateTime(timezone=True), nullable=False),
    Column("success_time", DateTime(timezone=True)),
    info={"shard_key": ("name",)},
)

FLOWS = Table(
    "flows",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("contribution_time", DateTime(timezone=True), doc="null: it never contributed"),
    Column("backlog_count", BigInteger, doc="null: it never reported a backlog"),
    Column("oldest_backlog_time", DateTime(timezone=True)),
    Column("set_aside_count", BigInteger),
    Column("unapplied_count", BigInteger, doc="null: it follows nothing"),
    Column("oldest_unapplied_time", DateTime(timezone=True)),
    Column("rejected_count", BigInteger),
    Column("policy_revision", BigInteger, doc="null: it never reported one"),
    info={"shard_key": ("name",)},
)
