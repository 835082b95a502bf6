"""Corrections that asked for another number while those of history were not all known."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "successions_postponed",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("ground", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Uuid, nullable=False),
        sa.Column("causation_id", sa.Uuid, nullable=False),
    )
