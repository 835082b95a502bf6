"""Who follows a field and in which lane, legal clocks and calendars, and how far messages and changes have flowed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _policy_table(name: str, *columns: sa.Column) -> None:
    op.create_table(
        name,
        *columns,
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
    )
    op.create_index(f"{name}_by_revision", name, ["revision"])


def upgrade() -> None:
    """Forward only. The new columns have defaults, for a version before this one may still write fields."""
    op.add_column("fields", sa.Column("followers", sa.ARRAY(sa.Text), nullable=False, server_default="{}"))
    op.add_column("fields", sa.Column("lane", sa.Text, nullable=False, server_default="NORMAL"))
    _policy_table(
        "clocks",
        sa.Column("code", sa.Text, primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("provision", sa.Text, nullable=False),
        sa.Column("start_act", sa.Text, nullable=False),
        sa.Column("end_act", sa.Text, nullable=False),
        sa.Column("amount", sa.Integer, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("start_date", sa.Date, nullable=False),
        sa.Column("end_date", sa.Date),
    )
    _policy_table(
        "calendars",
        sa.Column("code", sa.Text, primary_key=True),
        sa.Column("rest_days", sa.ARRAY(sa.Integer), nullable=False),
        sa.Column("holidays", sa.ARRAY(sa.Date), nullable=False),
        sa.Column("start_date", sa.Date, nullable=False),
        sa.Column("end_date", sa.Date, nullable=False),
    )
    op.create_table(
        "flows",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("contribution_time", sa.DateTime(timezone=True)),
        sa.Column("backlog_count", sa.BigInteger),
        sa.Column("oldest_backlog_time", sa.DateTime(timezone=True)),
        sa.Column("set_aside_count", sa.BigInteger),
        sa.Column("unapplied_count", sa.BigInteger),
        sa.Column("oldest_unapplied_time", sa.DateTime(timezone=True)),
        sa.Column("rejected_count", sa.BigInteger),
    )
