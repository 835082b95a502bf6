"""Answers given, the log, the store's incarnation."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Forward only."""
    op.create_table("store", sa.Column("incarnation", sa.BigInteger, primary_key=True))
    op.execute("INSERT INTO store (incarnation) VALUES (1)")
    op.create_table(
        "answers",
        sa.Column("caller", sa.Text, primary_key=True),
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("payload_hash", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary),
        sa.Column("record_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "log_pending",
        sa.Column("pending_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.Column("pseudonym", sa.LargeBinary),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("record_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("log_pending_by_subject", "log_pending", ["pseudonym"])
    op.create_table(
        "log",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.Column("pseudonym", sa.LargeBinary),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("record_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("log_by_leaf_hash", "log", ["leaf_hash"])
    op.create_index("log_by_subject", "log", ["pseudonym", "position"])
    op.create_table(
        "log_tiles",
        sa.Column("level", sa.Integer, primary_key=True),
        sa.Column("tile", sa.BigInteger, primary_key=True),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_checkpoints",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text, nullable=False),
    )
