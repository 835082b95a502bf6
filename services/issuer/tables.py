"""The issuer's tables. Nothing is deleted: a certificate that was issued, or may have been, stays known."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)

METADATA = MetaData()

CERTIFICATES = Table(
    "certificates",
    METADATA,
    Column("issuer_key_id", Text, primary_key=True),
    Column("serial_number", Text, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("agency_id", Text, nullable=False, doc="empty: an operator's"),
    Column("system_id", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("start_time", DateTime(timezone=True), nullable=False),
    Column("expire_time", DateTime(timezone=True), nullable=False),
    Column("intent_time", DateTime(timezone=True), nullable=False),
    Column("der", LargeBinary, doc="null: nobody knows whether it was signed"),
    Column("application_id", Uuid, doc="null: it was issued elsewhere, and seen here"),
    Column("revoke_time", DateTime(timezone=True)),
    Column("revocation_reason", Text),
    Index("certificates_by_end", "expire_time", "issuer_key_id", "serial_number"),
    Index("certificates_by_agency", "agency_id", "expire_time"),
    Index("certificates_by_identity", "identity", "profile", "expire_time"),
    Index("certificates_by_key", "key_id"),
    Index("certificates_by_intent", "agency_id", "intent_time"),
    Index("certificates_by_issuer", "issuer_key_id", "expire_time", "serial_number"),
    Index("certificates_revoked", "expire_time", "issuer_key_id", postgresql_where=text("revoke_time IS NOT NULL")),
    Index("certificates_intended", "intent_time", postgresql_where=text("der IS NULL")),
    info={"shard_key": ("issuer_key_id", "serial_number")},
)

# Revocations of certificates that this store does not know: they were issued elsewhere, or lost by a restore.
FOREIGN_REVOCATIONS = Table(
    "foreign_revocations",
    METADATA,
    Column("issuer_key_id", Text, primary_key=True),
    Column("serial_number", Text, primary_key=True),
    Column("revoke_time", DateTime(timezone=True), nullable=False),
    Column("revocation_reason", Text, nullable=False),
    info={"shard_key": ("issuer_key_id", "serial_number")},
)

APPLICATIONS = Table(
    "applications",
    METADATA,
    Column("application_id", Uuid, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("profile_version", Integer, nullable=False),
    Column("csr", LargeBinary, nullable=False, doc="DER"),
    Column("csr_digest", LargeBinary, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("applicant", Text, nullable=False),
    Column("apply_time", DateTime(timezone=True), nullable=False),
    Column("expire_time", DateTime(timezone=True), nullable=False),
    Column("needs_approval", Boolean, nullable=False, doc="true: the approval of the same id decides"),
    Column("issuer_key_id", Text, doc="with the serial number: the certificate that was issued"),
    Column("serial_number", Text),
    Index("applications_by_time", "apply_time", "application_id"),
    Index("applications_open", "apply_time", postgresql_where=text("serial_number IS NULL")),
    info={"shard_key": ("application_id",)},
)

ENROLMENTS = Table(
    "enrolments",
    METADATA,
    Column("token_digest", LargeBinary, primary_key=True, doc="SHA-256; the token itself never comes here to stay"),
    Column("enrolment_id", Uuid, nullable=False),
    Column("identity", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("creator", Text, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("expire_time", DateTime(timezone=True), nullable=False),
    Column("application_id", Uuid),
    Column("is_cancelled", Boolean, nullable=False),
    Index("enrolments_by_id", "enrolment_id"),
    Index("enrolments_by_time", "create_time", "enrolment_id"),
    info={"shard_key": ("token_digest",)},
)

EXPIRED_RENEWALS = Table(
    "expired_renewals",
    METADATA,
    Column("issuer_key_id", Text, primary_key=True),
    Column("serial_number", Text, primary_key=True),
    Column("enabler", Text, nullable=False),
    Column("expire_time", DateTime(timezone=True), nullable=False),
    Column("application_id", Uuid),
    info={"shard_key": ("issuer_key_id", "serial_number")},
)

BLOCKED_KEYS = Table(
    "blocked_keys",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("block_time", DateTime(timezone=True), nullable=False),
    Column("blocker", Text, nullable=False),
    info={"shard_key": ("key_id",)},
)

AUTHORITIES = Table(
    "authorities",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_time", DateTime(timezone=True), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("expire_time", DateTime(timezone=True), nullable=False),
    Column("known_revision", BigInteger),
    info={"shard_key": ("key_id",)},
)

REVOCATION_LISTS = Table(
    "revocation_lists",
    METADATA,
    Column("issuer_key_id", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("publish_time", DateTime(timezone=True), nullable=False),
    Column("next_time", DateTime(timezone=True), nullable=False),
    Column("der", LargeBinary, nullable=False),
    info={"shard_key": ("issuer_key_id",)},
)
