"""Migrates a room's store with Alembic: the mesh's tables, then the room's, in one transaction under a lock.

A migration may declare `oldest_code`, the floor that `core/schema.py` tells of. It is written in the same transaction.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert

from services.mesh.core import schema
from services.mesh.core.address import StoreAddress
from services.mesh.core.tables import SCHEMA_FLOORS

LOCK = 0x6E7064  # "npd"
"""The advisory lock of whoever changes a store as a whole."""


def migrate(address: StoreAddress | str, packages: tuple[str, ...]) -> Sequence[str]:
    """Bring each package's tables to their newest revision; forward only, nothing to do is fine.

    Returns the packages whose tables are newer than this code: nothing was done with those. Two at once wait for each
    other. Raises SettingsInvalid, SchemaForeign, SchemaTooNew and what the database raises; then nothing has changed.
    """
    newer = []
    with StoreAddress.of(address).engine_for_once().begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        schema.require_own(connection, packages, schema.short_name(packages[-1]))
        schema.require_not_too_new(connection, packages)
        for package in packages:
            if schema.held_revision(connection, package) > schema.head(package):
                newer.append(package)
            else:
                config = _config(package, connection)
                command.upgrade(config, "head")
                _raise_floor(connection, package, config)
    return newer


def _raise_floor(connection: Connection, package: str, config: Config) -> None:
    """Record the highest floor that a migration of the package declares, unless it stands there already."""
    revisions = ScriptDirectory.from_config(config).walk_revisions()
    declared = [str(floor) for one in revisions if (floor := getattr(one.module, "oldest_code", ""))]
    if not declared:
        return
    row = insert(SCHEMA_FLOORS).values(
        package=schema.short_name(package), oldest_code=max(declared), release=schema.release()
    )
    changed = {"oldest_code": row.excluded.oldest_code, "release": row.excluded.release}
    lower = SCHEMA_FLOORS.c.oldest_code < row.excluded.oldest_code
    connection.execute(row.on_conflict_do_update(index_elements=["package"], set_=changed, where=lower))


def _config(package: str, connection: Connection) -> Config:
    config = Config()
    here = Path(str(resources.files("services.mesh").joinpath("migrations")))
    versions = Path(str(resources.files(package).joinpath("migrations", "versions")))
    config.set_main_option("script_location", str(here))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, version_table=schema.version_table(package))
    return config
