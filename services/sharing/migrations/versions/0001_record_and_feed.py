"""The record, contributions, and the feed of changes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0001"
down_revision = None


def _instant(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _change_columns() -> list[sa.Column]:
    return [
        sa.Column("change_id", sa.Uuid, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("pin", sa.Text, nullable=False),
        sa.Column("paths", ARRAY(sa.Text), nullable=False),
        sa.Column("disputed", ARRAY(sa.Text), nullable=False),
        sa.Column("person", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        _instant("event_time"),
        _instant("record_time"),
    ]


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "pins",
        sa.Column("pin", sa.Text, primary_key=True),
        sa.Column("subject_id", sa.Uuid, nullable=False),
    )
    op.create_table(
        "records",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("pin", sa.Text, nullable=False),
        sa.Column("name_key", sa.Text, nullable=False),
        sa.Column("birth_year", sa.SmallInteger, nullable=False),
        sa.Column("birth_month", sa.SmallInteger, nullable=False),
        sa.Column("birth_day", sa.SmallInteger, nullable=False),
        sa.Column("person", sa.LargeBinary, nullable=False),
        sa.Column("disputed", ARRAY(sa.Text), nullable=False),
        sa.Column("assertion_count", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "assertions",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("ordinal", sa.BigInteger, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("item_key", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary),
        _instant("event_time"),
        _instant("register_time"),
        _instant("record_time"),
    )
    op.create_table(
        "discrepancies",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("item_key", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("open_time", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("difference", sa.Text, nullable=False),
        _instant("close_time", nullable=True),
    )
    op.create_table(
        "mismatches",
        sa.Column("pin_mark", sa.LargeBinary, primary_key=True),
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
    )
    op.create_index("mismatches_by_day", "mismatches", ["day"])
    op.create_table(
        "contributions",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("content_hash", sa.LargeBinary, nullable=False),
        sa.Column("subject_id", sa.Uuid),
        sa.Column("agreement_id", sa.Text),
        sa.Column("case_reference", sa.Text),
        sa.Column("officer_id", sa.Text),
        _instant("record_time"),
    )
    op.create_table(
        "held_items",
        sa.Column("pin", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("item", sa.LargeBinary, nullable=False),
        _instant("record_time"),
    )
    op.create_table(
        "changes_pending",
        sa.Column("pending_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        *_change_columns(),
    )
    op.create_table(
        "changes",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        *_change_columns(),
    )
