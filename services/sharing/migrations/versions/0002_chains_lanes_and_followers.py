"""Chains and lanes of changes, how far followers have come, and uses told by source rooms."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _instant(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Forward only."""
    for column in (
        sa.Column("origin", sa.Text),
        sa.Column("correlation_id", sa.Uuid),
        sa.Column("causation_id", sa.Uuid),
    ):
        op.add_column("contributions", column)
    op.create_index("contributions_by_chain", "contributions", ["correlation_id"])
    for table in ("changes_pending", "changes"):
        for name in ("correlation_id", "causation_id"):
            new_id = sa.text("gen_random_uuid()")
            op.add_column(table, sa.Column(name, sa.Uuid, nullable=False, server_default=new_id))
        op.add_column(table, sa.Column("lane", sa.SmallInteger, nullable=False, server_default=sa.text("2")))
        rows = sa.table(table, sa.column("causation_id"), sa.column("correlation_id"))
        op.execute(rows.update().values(causation_id=rows.c.correlation_id))  # each began a chain
    op.create_index("changes_by_lane", "changes", ["lane", "position"])
    op.create_index("changes_by_chain", "changes", ["correlation_id"])
    op.create_index("changes_by_id", "changes", ["change_id"])
    op.create_table(
        "followers",
        sa.Column("follower", sa.Text, primary_key=True),
        sa.Column("lane", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("incarnation", sa.BigInteger, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("applied", sa.BigInteger, nullable=False),
        _instant("record_time"),
    )
    op.create_table(
        "acknowledgements",
        sa.Column("follower", sa.Text, primary_key=True),
        sa.Column("lane", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("incarnation", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("status", sa.Text, primary_key=True),
        sa.Column("position_to", sa.BigInteger, primary_key=True, autoincrement=False),
        _instant("record_time"),
    )
    op.create_table(
        "rejections",
        sa.Column("change_id", sa.Uuid, primary_key=True),
        sa.Column("follower", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        _instant("reject_time"),
        _instant("recover_time", nullable=True),
    )
    op.create_index("rejections_by_follower", "rejections", ["follower"])
    op.create_table(
        "uses_recorded",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("use_id", sa.Uuid, primary_key=True),
        _instant("record_time"),
    )
