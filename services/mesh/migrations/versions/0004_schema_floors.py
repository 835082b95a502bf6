"""Which code the schema no longer serves."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "schema_floors",
        sa.Column("package", sa.Text, primary_key=True),
        sa.Column("oldest_code", sa.Text, nullable=False),
        sa.Column("release", sa.Text, nullable=False),
    )
