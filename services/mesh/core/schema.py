"""Which schema the code needs and which the store has. `serve` only looks; `migrate` (Alembic) is a program of its own.

A migration is a file `NNNN_what.py` in a package's migrations/versions; its revision is NNNN.
"""

from importlib import resources

from sqlalchemy import Connection, inspect, text


class SchemaOutdated(Exception):
    """The store's schema is older than the code; says what to run."""


def head(package: str) -> str:
    """The newest revision that a package's migrations lead to."""
    versions = resources.files(package).joinpath("migrations", "versions")
    return max(file.name.partition("_")[0] for file in versions.iterdir() if file.name[:4].isdigit())


def version_table(package: str) -> str:
    """Name of the table in which Alembic keeps a package's revision: one per package, so that they move apart."""
    return f"alembic_version_{package.rpartition('.')[2]}"


def require_current(connection: Connection, packages: tuple[str, ...], room: str) -> None:
    """Raises SchemaOutdated if a package's schema is missing or older than the code. A newer one serves older code."""
    tables = set(inspect(connection).get_table_names())
    for package in packages:
        table = version_table(package)
        held = ""
        if table in tables:
            held = connection.execute(text(f"SELECT version_num FROM {table}")).scalar_one()  # noqa: S608 - our name
        if held < head(package):
            raise SchemaOutdated(
                f"the schema of {package} is at {held or 'nothing'}, the code needs {head(package)}: "
                f"run `npd migrate {room}`"
            )
