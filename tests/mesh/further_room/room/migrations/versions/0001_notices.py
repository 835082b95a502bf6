"""Notices."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "notices",
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("agency_id", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
