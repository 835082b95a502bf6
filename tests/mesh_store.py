"""A store with the tables that every room has, for tests of what the mesh keeps in it."""

from sqlalchemy import Engine

from services.local.postgres import EmbeddedPostgres
from services.mesh.core.db import open_engine
from services.mesh.core.tables import CHANGES_SET_ASIDE, FEED_CURSOR, OUTBOX, OUTBOX_DELIVERED, PEOPLE, PEOPLE_PINS
from services.mesh.migrate import migrate


def open_store(postgres: EmbeddedPostgres, name: str) -> Engine:
    """A migrated database of this name; the caller disposes of the engine."""
    postgres.ensure_database(name)
    migrate(postgres.url(name), ("services.mesh",))
    return open_engine(postgres.url(name), connections=6)


def empty(engine: Engine) -> None:
    """Forget messages, changes and people."""
    with engine.begin() as connection:
        for table in (OUTBOX, OUTBOX_DELIVERED, FEED_CURSOR, CHANGES_SET_ASIDE, PEOPLE, PEOPLE_PINS):
            connection.execute(table.delete())
