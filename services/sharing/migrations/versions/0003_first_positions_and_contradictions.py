"""From where followers were served, and how many claims were contradicted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Forward only."""
    op.add_column("mismatches", sa.Column("contradictions", sa.Integer, nullable=False, server_default="0"))
    op.create_index("changes_pending_by_chain", "changes_pending", ["correlation_id"])
    op.create_table(
        "followings",
        sa.Column("follower", sa.Text, primary_key=True),
        sa.Column("lane", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("incarnation", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position_from", sa.BigInteger, nullable=False),
    )
    # of those who follow already nobody knows better than that they have had all that their marks say
    op.execute("INSERT INTO followings SELECT follower, lane, incarnation, 0 FROM followers")
