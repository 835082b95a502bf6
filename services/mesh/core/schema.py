"""Which schema the code needs and which the store has. `serve` only looks; `migrate` (Alembic) is a program of its own.

A migration is a file `NNNN_what.py` in a package's migrations/versions; its revision is NNNN. A schema serves older
code too, unless one of its migrations declares a floor: `oldest_code = "0004"` says that code whose newest migration is
older than 0004 does not work on it. The floor is kept in the store, for older code does not have the migration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, resources

from sqlalchemy import Connection, inspect, select, text

from services.mesh.core.tables import SCHEMA_FLOORS

_VERSION_TABLE = "alembic_version_"
_DISTRIBUTION = "npd-mesh"


class SchemaUnfit(Exception):
    """The store's schema does not serve this code; says what to do."""


class SchemaOutdated(SchemaUnfit):
    """The store's schema is older than the code; says what to run."""


class SchemaTooNew(SchemaUnfit):
    """The store's schema is newer than the code, and no longer serves it; says which release does."""


class SchemaForeign(SchemaUnfit):
    """The store has tables of another room: it is that room's database."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest code that a package's schema serves, and the release that made it so."""

    oldest_code: str
    release: str


def release() -> str:
    """The release that this code is of."""
    return metadata.version(_DISTRIBUTION)


def head(package: str) -> str:
    """The newest revision that a package's migrations lead to."""
    versions = resources.files(package).joinpath("migrations", "versions")
    return max(file.name.partition("_")[0] for file in versions.iterdir() if file.name[:4].isdigit())


def short_name(package: str) -> str:
    """What a package is called in the store."""
    return package.rpartition(".")[2]


def version_table(package: str) -> str:
    """Name of the table in which Alembic keeps a package's revision: one per package, so that they move apart."""
    return f"{_VERSION_TABLE}{short_name(package)}"


def held_revision(connection: Connection, package: str) -> str:
    """The revision that the store's schema of a package has; empty if it has none."""
    table = version_table(package)
    if not inspect(connection).has_table(table):
        return ""
    return connection.execute(text(f"SELECT version_num FROM {table}")).scalar() or ""  # noqa: S608 - our name


def floors(connection: Connection) -> Mapping[str, Floor]:
    """The floors that the store's schema has, by the packages' short names."""
    if not inspect(connection).has_table(SCHEMA_FLOORS.name):
        return {}
    rows = connection.execute(select(SCHEMA_FLOORS))
    return {row.package: Floor(row.oldest_code, row.release) for row in rows}


def require_current(connection: Connection, packages: tuple[str, ...], room: str) -> None:
    """Raises SchemaForeign, SchemaTooNew, and SchemaOutdated if a package's schema is missing or older than the code.

    A newer one serves older code, down to its floor: while a release is rolled out, both are at work.
    """
    require_own(connection, packages, room)
    require_not_too_new(connection, packages)
    for package in packages:
        held = held_revision(connection, package)
        if held < head(package):
            raise SchemaOutdated(
                f"the schema of {package} is at {held or 'nothing'}, the code needs {head(package)}: "
                f"run `npd migrate {room}` of this release ({release()})"
            )


def require_not_too_new(connection: Connection, packages: tuple[str, ...]) -> None:
    """Raises SchemaTooNew if the schema of a package is above the code, and its floor too."""
    declared = floors(connection)
    for package in packages:
        held, floor = held_revision(connection, package), declared.get(short_name(package))
        if floor and head(package) < min(held, floor.oldest_code):
            raise SchemaTooNew(
                f"the schema of {package} is newer than this release ({release()}) and no longer serves it: it is at "
                f"{held} and serves code from {floor.oldest_code} on, this release has {head(package)}. Deploy release "
                f"{floor.release} or a newer one; to stay on this one, restore the store from before that upgrade"
            )


def require_own(connection: Connection, packages: tuple[str, ...], room: str) -> None:
    """Raises SchemaForeign if another room's schema lies in the store: every room has a database of its own."""
    ours = {version_table(package) for package in packages}
    tables = {name for name in inspect(connection).get_table_names() if name.startswith(_VERSION_TABLE)}
    if foreign := sorted(name.removeprefix(_VERSION_TABLE) for name in tables - ours):
        raise SchemaForeign(
            f"NPD_DATABASE_URL_FILE leads to the database of {', '.join(foreign)}, which is not that of {room}: "
            "name the database of this room"
        )
