"""Acts, and the statuses that follow from them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Forward only."""
    op.create_table(
        "acts",
        sa.Column("act_id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("event_date", sa.Date, nullable=False),
        sa.Column("register_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("entry_number", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("agreement_id", sa.Text, nullable=False),
        sa.Column("case_reference", sa.Text, nullable=False),
        sa.Column("officer_id", sa.Text, nullable=False),
    )
    op.create_table(
        "act_subjects",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("act_id", sa.Uuid, primary_key=True),
    )
    op.create_table(
        "annulments",
        sa.Column("act_id", sa.Uuid, primary_key=True),
        sa.Column("annulled_by", sa.Uuid, nullable=False),
    )
    op.create_table(
        "birth_keys",
        sa.Column("birth_key", sa.LargeBinary, primary_key=True),
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("mother_id", sa.Uuid),
    )
    op.create_index("birth_keys_by_subject", "birth_keys", ["subject_id"])
    op.create_table(
        "births",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("act_id", sa.Uuid, nullable=False),
        sa.Column("sex", sa.SmallInteger, nullable=False),
        sa.Column("mother_id", sa.Uuid),
        sa.Column("mother_name", sa.Text, nullable=False),
        sa.Column("unit_code", sa.Text, nullable=False),
    )
    op.create_table(
        "birth_details",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "parents",
        sa.Column("child_id", sa.Uuid, primary_key=True),
        sa.Column("role", sa.SmallInteger, primary_key=True),
        sa.Column("parent_id", sa.Uuid),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("middle", sa.Text, nullable=False),
        sa.Column("given", sa.Text, nullable=False),
        sa.Column("full_name", sa.Text, nullable=False),
        sa.Column("nationality", sa.Text, nullable=False),
    )
    op.create_index("parents_by_parent", "parents", ["parent_id"])
    op.create_table(
        "marriages",
        sa.Column("act_id", sa.Uuid, primary_key=True),
        sa.Column("first_id", sa.Uuid, nullable=False),
        sa.Column("first_before", sa.SmallInteger, nullable=False),
        sa.Column("first_before_act_id", sa.Uuid),
        sa.Column("second_id", sa.Uuid, nullable=False),
        sa.Column("second_before", sa.SmallInteger, nullable=False),
        sa.Column("second_before_act_id", sa.Uuid),
    )
    op.create_table(
        "deaths",
        sa.Column("act_id", sa.Uuid, primary_key=True),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("spouse_id", sa.Uuid),
        sa.Column("marriage_id", sa.Uuid),
    )
    op.create_table(
        "listed_spouses",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("pin", sa.Text, primary_key=True),
    )
    op.create_table(
        "statuses",
        sa.Column("subject_id", sa.Uuid, primary_key=True),
        sa.Column("marital_status", sa.SmallInteger, nullable=False),
        sa.Column("spouse_id", sa.Uuid),
        sa.Column("act_id", sa.Uuid),
        sa.Column("is_own", sa.Boolean, nullable=False),
        sa.Column("told_time", sa.DateTime(timezone=True)),
        sa.Column("death_told_time", sa.DateTime(timezone=True)),
    )
