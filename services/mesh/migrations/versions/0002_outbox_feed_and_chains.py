"""The outbox, the place in the feed, changes set aside, people, chains."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "outbox",
        sa.Column("outbox_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("peer", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("correlation_id", sa.Uuid, nullable=False),
        sa.Column("causation_id", sa.Uuid, nullable=False),
        sa.Column("record_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("due_time", sa.DateTime(timezone=True)),
        sa.Column("set_aside_time", sa.DateTime(timezone=True)),
        sa.Column("reason", sa.Text),
        sa.Column("field", sa.Text),
    )
    op.create_index("outbox_by_subject", "outbox", ["peer", "subject_id", "outbox_id"])
    op.create_index(
        "outbox_waiting", "outbox", ["peer", "outbox_id"], postgresql_where=sa.text("set_aside_time IS NULL")
    )
    op.create_index(
        "outbox_set_aside",
        "outbox",
        ["set_aside_time", "message_id"],
        postgresql_where=sa.text("set_aside_time IS NOT NULL"),
    )
    op.create_index("answers_by_time", "answers", ["record_time"])
    op.create_table(
        "feed_cursor",
        sa.Column("feed", sa.Text, primary_key=True),
        sa.Column("incarnation", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("caught_up", sa.BigInteger),
    )
    op.create_table(
        "changes_taken",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("change_id", sa.Uuid, primary_key=True),
        sa.Column("correlation_id", sa.Uuid, nullable=False),
    )
    op.create_table(
        "changes_set_aside",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("change_id", sa.Uuid, primary_key=True),
        sa.Column("waiting_id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("change", sa.LargeBinary, nullable=False),
        sa.Column("correlation_id", sa.Uuid, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("record_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "set_aside_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()
        ),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("recovered", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("said", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_index(
        "changes_set_aside_unsaid", "changes_set_aside", ["waiting_id"], postgresql_where=sa.text("NOT said")
    )
    op.create_table(
        "people",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("pin", sa.Text, nullable=False),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("middle", sa.Text, nullable=False),
        sa.Column("given", sa.Text, nullable=False),
        sa.Column("full_name", sa.Text, nullable=False),
        sa.Column("birth_year", sa.SmallInteger, nullable=False),
        sa.Column("birth_month", sa.SmallInteger, nullable=False),
        sa.Column("birth_day", sa.SmallInteger, nullable=False),
        sa.Column("sex", sa.SmallInteger, nullable=False),
        sa.Column("is_deceased", sa.Boolean, nullable=False),
    )
    op.create_table(
        "people_pins",
        sa.Column("pin", sa.Text, primary_key=True),
        sa.Column("subject_id", sa.Uuid, nullable=False),
    )
    op.create_table(
        "chain_links",
        sa.Column("correlation_id", sa.Uuid, primary_key=True),
        sa.Column("link_id", sa.Uuid, primary_key=True),
        sa.Column("causation_id", sa.Uuid),
        sa.Column("act", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("agreement_id", sa.Text),
        sa.Column("case_reference", sa.Text),
        sa.Column("officer_id", sa.Text),
        sa.Column("link_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
    )
