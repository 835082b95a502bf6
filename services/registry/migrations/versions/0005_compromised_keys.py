"""Which key was compromised, of revocations that say so."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Forward only. Of what was revoked before, the key is not known."""
    op.add_column("revocations", sa.Column("key_id", sa.Text, nullable=False, server_default=""))
