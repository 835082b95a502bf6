"""How a room's tables would be distributed by Citus: statements made from their metadata. Runs nothing, knows no room.

Citus distributes a table by the hash of one column, which every unique key must contain; docs.citusdata.com, "Creating
and Modifying Distributed Tables", and citusdata/citus issue 6808 on identity columns.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, MetaData, PrimaryKeyConstraint, Table, UniqueConstraint

# Tables by one of these are put so that equal values are on one node. Other columns share their name by chance: the
# positions of the log and those of the feed count different things.
_SHARED_KEYS = ("subject_id", "pin", "act_id", "serial_number", "follower")


class Undistributable(Exception):
    """A table cannot be distributed as it is; says which, and why."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a table's rows go: to the node of their `column`, beside those of the table `beside`; or to every node."""

    table: str
    column: str = ""
    beside: str = "none"

    def __str__(self) -> str:
        """The SQL statement."""
        if not self.column:
            return f"SELECT create_reference_table('{self.table}');"
        return f"SELECT create_distributed_table('{self.table}', '{self.column}', colocate_with => '{self.beside}');"


def tables_of(packages: Iterable[str]) -> MetaData:
    """All tables that modules named `tables` of these packages, or of packages inside them, describe."""
    whole, seen = MetaData(), set[int]()
    for package in packages:
        place = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(place, f"{package}."):
            if not module.name.endswith(".tables"):
                continue
            part = importlib.import_module(module.name).METADATA
            for table in part.sorted_tables if id(part) not in seen else ():
                table.to_metadata(whole)
            seen.add(id(part))
    return whole


def distribution(tables: Iterable[Table]) -> tuple[Placement, ...]:
    """The placement of each table, in the order in which the statements must run. Raises Undistributable.

    A table that grows names its shard key; a small one names none, and gets a copy on every node.
    """
    first: dict[tuple[str, str], str] = {}
    placements = []
    for table in sorted(tables, key=lambda table: table.name):
        if table.foreign_keys:
            raise Undistributable(f"{table.name}: a foreign key needs a decision of its own; this module has none")
        if not table.info.get("shard_key"):
            placements.append(Placement(table.name))
            continue
        column = distribution_column(table)
        _require_distributable(table, column)
        beside = "none"
        if column.name in _SHARED_KEYS:
            beside = first.setdefault((column.name, repr(column.type)), table.name)
        placements.append(Placement(table.name, column.name, beside if beside != table.name else "none"))
    return tuple(placements)


def distribution_column(table: Table) -> Column[object]:
    """The one column that a growing table is distributed by: the last of its shard key, which tells most rows apart."""
    column: Column[object] = table.columns[table.info["shard_key"][-1]]
    return column


def _require_distributable(table: Table, column: Column[object]) -> None:
    for name, columns in unique_keys(table).items():
        if column.name not in columns:
            raise Undistributable(f"{table.name}: {name} must hold {column.name}, by which the rows are distributed")
    for one in table.columns:
        if one.identity is not None and not isinstance(one.type, BigInteger):
            raise Undistributable(f"{table.name}.{one.name}: an identity column must be a bigint")
    if column.nullable:
        raise Undistributable(f"{table.name}.{column.name}: rows without a value cannot be distributed")


def unique_keys(table: Table) -> Mapping[str, frozenset[str]]:
    """Columns of the primary key and of every unique constraint and unique index, by what it is called."""
    return dict(_unique_keys(table))


def _unique_keys(table: Table) -> Iterator[tuple[str, frozenset[str]]]:
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
            columns = frozenset(column.name for column in constraint.columns)
            if columns:  # a table without a primary key has one of no columns here
                yield str(constraint.name or f"the key ({', '.join(sorted(columns))})"), columns
    for index in table.indexes:
        if index.unique:
            yield str(index.name), frozenset(column.name for column in index.columns)
