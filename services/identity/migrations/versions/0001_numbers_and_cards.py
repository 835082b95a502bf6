"""Numbers and cards."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "numbers",
        sa.Column("pin", sa.Text, primary_key=True),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("birth_year", sa.SmallInteger, nullable=False),
        sa.Column("birth_month", sa.SmallInteger, nullable=False),
        sa.Column("birth_day", sa.SmallInteger, nullable=False),
        sa.Column("sex", sa.SmallInteger, nullable=False),
        sa.Column("state_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True)),
        sa.Column("ground", sa.Text),
        sa.Column("successor", sa.Text),
    )
    op.create_index("numbers_by_subject", "numbers", ["subject_id"])
    op.create_index("numbers_reserved", "numbers", ["expire_time"], postgresql_where=sa.text("state = 'RESERVED'"))
    op.create_table(
        "cards",
        sa.Column("card_id", sa.Uuid, primary_key=True),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("request_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.LargeBinary),
        sa.Column("cancellation", sa.Text),
    )
    op.create_index("cards_by_subject", "cards", ["subject_id"])
    op.create_table(
        "document_numbers",
        sa.Column("document_number", sa.Text, primary_key=True),
        sa.Column("card_id", sa.Uuid, nullable=False),
    )
