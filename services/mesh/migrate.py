"""Migrates a room's store with Alembic: the mesh's tables, then the room's, in one transaction under a lock."""

from importlib import resources
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from services.mesh.core.schema import version_table

_LOCK = 0x6E7064  # "npd"


def migrate(url: str, packages: tuple[str, ...]) -> None:
    """Bring each package's tables to their newest revision; forward only, nothing to do is fine.

    Two at once wait for each other. Raises what the database raises; then nothing has changed.
    """
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        for package in packages:
            command.upgrade(_config(package, connection), "head")


def _config(package: str, connection: Connection) -> Config:
    config = Config()
    here = Path(str(resources.files("services.mesh").joinpath("migrations")))
    versions = Path(str(resources.files(package).joinpath("migrations", "versions")))
    config.set_main_option("script_location", str(here))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, version_table=version_table(package))
    return config
