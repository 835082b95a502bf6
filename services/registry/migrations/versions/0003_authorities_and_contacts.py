"""Certification authorities, where agencies are reached, and the policy revision by which each room decides."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Forward only. The new columns have defaults or may be empty, for a version before this one may still write."""
    op.add_column("agencies", sa.Column("contact", sa.Text, nullable=False, server_default=""))
    op.add_column("flows", sa.Column("policy_revision", sa.BigInteger))
    op.create_table(
        "certificate_authorities",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("state_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
    )
    op.create_index("certificate_authorities_by_revision", "certificate_authorities", ["revision"])
