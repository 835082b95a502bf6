"""Below which revision nobody can be told changes alone, for the store was restored."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Forward only. The default is that of a store that never was restored."""
    op.add_column("policy_revision", sa.Column("whole_below", sa.BigInteger, nullable=False, server_default="0"))
