"""Residences, households and their members."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "residences",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("residence_id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("unit_code", sa.Text, nullable=False),
        sa.Column("unit_list_version", sa.Text, nullable=False),
        sa.Column("country_code", sa.Text, nullable=False),
        sa.Column("detail_text", sa.Text, nullable=False),
        sa.Column("as_of_year", sa.SmallInteger, nullable=False),
        sa.Column("as_of_month", sa.SmallInteger, nullable=False),
        sa.Column("as_of_day", sa.SmallInteger, nullable=False),
        sa.Column("start_date", sa.Date),
        sa.Column("end_date", sa.Date),
        sa.Column("household_id", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("ground", sa.Text),
        sa.Column("closing_date", sa.Date),
        sa.Column("is_adopted", sa.Boolean, nullable=False),
        sa.Column("record_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    )
    op.create_index("residences_by_id", "residences", ["residence_id"])
    op.create_index(
        "residences_one_active",
        "residences",
        ["subject_id", "kind"],
        unique=True,
        postgresql_where=sa.text("state = 'ACTIVE'"),
    )
    op.create_table(
        "households",
        sa.Column("household_id", sa.Uuid, primary_key=True),
        sa.Column("is_adopted", sa.Boolean, nullable=False),
    )
    op.create_table(
        "members",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("household_id", sa.Uuid, nullable=False),
        sa.Column("relation_code", sa.Text),
        sa.Column("relation_list_version", sa.Text),
        sa.Column("relation_name", sa.Text),
        sa.Column("is_head", sa.Boolean, nullable=False),
    )
    op.create_index("members_by_household", "members", ["household_id"])
