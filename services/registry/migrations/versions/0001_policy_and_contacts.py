"""The policy, its revision, and the directory's contacts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _policy_table(name: str, *columns: sa.Column) -> None:
    op.create_table(
        name,
        *columns,
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
    )
    op.create_index(f"{name}_by_revision", name, ["revision"])


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "policy_revision",
        sa.Column("single", sa.Boolean, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.CheckConstraint("single", name="policy_revision_one_row"),
    )
    op.execute("INSERT INTO policy_revision (single, revision) VALUES (true, 0)")
    _policy_table(
        "agencies", sa.Column("agency_id", sa.Text, primary_key=True), sa.Column("name", sa.Text, nullable=False)
    )
    _policy_table(
        "systems",
        sa.Column("agency_id", sa.Text, primary_key=True),
        sa.Column("system_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("state_time", sa.DateTime(timezone=True), nullable=False),
    )
    _policy_table(
        "officers",
        sa.Column("agency_id", sa.Text, primary_key=True),
        sa.Column("officer_id", sa.Text, primary_key=True),
    )
    _policy_table(
        "agreements",
        sa.Column("agreement_id", sa.Text, primary_key=True),
        sa.Column("agency_id", sa.Text, nullable=False),
        sa.Column("system_id", sa.Text, nullable=False),
        sa.Column("terms", sa.LargeBinary, nullable=False),
        sa.Column("agency_chain", sa.ARRAY(sa.LargeBinary)),
        sa.Column("agency_sign_time", sa.DateTime(timezone=True)),
        sa.Column("agency_signature", sa.LargeBinary),
        sa.Column("agency_suspends", sa.Text),
        sa.Column("operator_chain", sa.ARRAY(sa.LargeBinary)),
        sa.Column("operator_sign_time", sa.DateTime(timezone=True)),
        sa.Column("operator_signature", sa.LargeBinary),
        sa.Column("operator_suspends", sa.Text),
    )
    _policy_table(
        "revocations",
        sa.Column("issuer_key_id", sa.Text, primary_key=True),
        sa.Column("serial_number", sa.Text, primary_key=True),
        sa.Column("reason", sa.Integer, nullable=False),
        sa.Column("revoke_time", sa.DateTime(timezone=True), nullable=False),
    )
    _policy_table("operators", sa.Column("name", sa.Text, primary_key=True))
    _policy_table(
        "fields",
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("provision", sa.Text, nullable=False),
        sa.Column("sensitive", sa.Boolean, nullable=False),
        sa.Column("authority", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("start_date", sa.Date, nullable=False),
        sa.Column("end_date", sa.Date),
    )
    _policy_table(
        "purposes",
        sa.Column("code", sa.Text, primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("provision", sa.Text, nullable=False),
        sa.Column("paths", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("start_date", sa.Date, nullable=False),
        sa.Column("end_date", sa.Date),
    )
    _policy_table(
        "provisions",
        sa.Column("provision_id", sa.Text, primary_key=True),
        sa.Column("citation", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("start_date", sa.Date, nullable=False),
        sa.Column("end_date", sa.Date),
    )
    op.create_table(
        "contacts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("contact_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("success_time", sa.DateTime(timezone=True)),
    )
