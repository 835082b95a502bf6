"""Approvals."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "approvals",
        sa.Column("approval_id", sa.Uuid, primary_key=True),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("requester", sa.Text, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("request_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("decider", sa.Text),
        sa.Column("decide_time", sa.DateTime(timezone=True)),
        sa.Column("reason", sa.Text),
    )
    op.create_index("approvals_by_time", "approvals", ["request_time", "approval_id"])
    op.create_index("approvals_by_state", "approvals", ["state", "request_time", "approval_id"])
