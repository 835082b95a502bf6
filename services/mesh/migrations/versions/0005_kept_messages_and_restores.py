"""Delivered messages are kept for a while; a restore is noted, and whether those who tell the room told it again."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Forward only. Code of the release before deletes what it delivers, and reads no new column."""
    op.create_table(
        "outbox_delivered",
        sa.Column("outbox_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("peer", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("correlation_id", sa.Uuid, nullable=False),
        sa.Column("causation_id", sa.Uuid, nullable=False),
        sa.Column("record_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("outbox_delivered_by_time", "outbox_delivered", ["delivered_time"])
    op.add_column("store", sa.Column("restore_time", sa.DateTime(timezone=True)))
    op.add_column("store", sa.Column("told_again", sa.Boolean, nullable=False, server_default=sa.true()))
