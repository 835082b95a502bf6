"""Certificates, applications, enrolments, authorities, revocation lists."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "certificates",
        sa.Column("issuer_key_id", sa.Text, primary_key=True),
        sa.Column("serial_number", sa.Text, primary_key=True),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("agency_id", sa.Text, nullable=False),
        sa.Column("system_id", sa.Text, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("start_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("intent_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("der", sa.LargeBinary),
        sa.Column("application_id", sa.Uuid),
        sa.Column("revoke_time", sa.DateTime(timezone=True)),
        sa.Column("revocation_reason", sa.Text),
    )
    op.create_index("certificates_by_end", "certificates", ["expire_time", "issuer_key_id", "serial_number"])
    op.create_index("certificates_by_agency", "certificates", ["agency_id", "expire_time"])
    op.create_index("certificates_by_identity", "certificates", ["identity", "profile", "expire_time"])
    op.create_index("certificates_by_key", "certificates", ["key_id"])
    op.create_index("certificates_by_intent", "certificates", ["agency_id", "intent_time"])
    op.create_index("certificates_by_issuer", "certificates", ["issuer_key_id", "expire_time", "serial_number"])
    op.create_index(
        "certificates_revoked",
        "certificates",
        ["expire_time", "issuer_key_id"],
        postgresql_where=sa.text("revoke_time IS NOT NULL"),
    )
    op.create_index("certificates_intended", "certificates", ["intent_time"], postgresql_where=sa.text("der IS NULL"))
    op.create_table(
        "foreign_revocations",
        sa.Column("issuer_key_id", sa.Text, primary_key=True),
        sa.Column("serial_number", sa.Text, primary_key=True),
        sa.Column("revoke_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revocation_reason", sa.Text, nullable=False),
    )
    op.create_table(
        "applications",
        sa.Column("application_id", sa.Uuid, primary_key=True),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("profile_version", sa.Integer, nullable=False),
        sa.Column("csr", sa.LargeBinary, nullable=False),
        sa.Column("csr_digest", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("applicant", sa.Text, nullable=False),
        sa.Column("apply_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("needs_approval", sa.Boolean, nullable=False),
        sa.Column("issuer_key_id", sa.Text),
        sa.Column("serial_number", sa.Text),
    )
    op.create_index("applications_by_time", "applications", ["apply_time", "application_id"])
    op.create_index(
        "applications_open", "applications", ["apply_time"], postgresql_where=sa.text("serial_number IS NULL")
    )
    op.create_table(
        "enrolments",
        sa.Column("token_digest", sa.LargeBinary, primary_key=True),
        sa.Column("enrolment_id", sa.Uuid, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("application_id", sa.Uuid),
        sa.Column("is_cancelled", sa.Boolean, nullable=False),
    )
    op.create_index("enrolments_by_id", "enrolments", ["enrolment_id"])
    op.create_index("enrolments_by_time", "enrolments", ["create_time", "enrolment_id"])
    op.create_table(
        "expired_renewals",
        sa.Column("issuer_key_id", sa.Text, primary_key=True),
        sa.Column("serial_number", sa.Text, primary_key=True),
        sa.Column("enabler", sa.Text, nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("application_id", sa.Uuid),
    )
    op.create_table(
        "blocked_keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("block_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("blocker", sa.Text, nullable=False),
    )
    op.create_table(
        "authorities",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("state_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_revision", sa.BigInteger),
    )
    op.create_table(
        "revocation_lists",
        sa.Column("issuer_key_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("publish_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
    )
