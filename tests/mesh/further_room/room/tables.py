"""The table of notices."""

from sqlalchemy import BigInteger, Column, Identity, MetaData, Table, Text

METADATA = MetaData()
NOTICES = Table(
    "notices",
    METADATA,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("agency_id", Text, nullable=False),
    Column("text", Text, nullable=False),
)
