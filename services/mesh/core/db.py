"""The store: transactions on PostgreSQL through SQLAlchemy Core and psycopg. Knows no table."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.mesh.core.address import StoreAddress
from services.mesh.core.errors import StoreUnavailable

Unit = TypeVar("Unit")

# A statement that takes longer than this is a fault; a lock that is not given within it is one too.
_SESSION = (
    "-c statement_timeout=20000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=30000 -c timezone=UTC"
)
_POOL_TIMEOUT = 5.0
_LONGEST_REASON = 500

STORE_FAULTS = (OperationalError, InterfaceError, InternalError)
"""What a statement raises when the store is at fault: its transaction is lost, and may be tried again."""


def open_engine(address: StoreAddress | str, *, connections: int) -> Engine:
    """An engine of `connections` pooled connections; nothing is dialled yet. Raises SettingsInvalid."""
    return StoreAddress.of(address).engine(
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT,
        pool_recycle=1800,
        connect_args={
            "options": _SESSION,
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
    )


class Database(Generic[Unit]):
    """Opens transactions. `unit` makes of a connection what the room's operations work with: its repositories.

    `committed` is called with the unit of each transaction that was committed.
    """

    def __init__(
        self,
        engine: Engine,
        unit: Callable[[Connection], Unit],
        committed: Callable[[Unit], None] = lambda unit: None,
    ) -> None:
        self._engine = engine
        self._unit = unit
        self._committed = committed

    @contextmanager
    def transaction(self) -> Iterator[Unit]:
        """One transaction: committed when the block ends, rolled back when it raises. Raises StoreUnavailable."""
        with _store_faults(), self._engine.begin() as connection:
            unit = self._unit(connection)
            yield unit
        self._committed(unit)


class DirectConnection:
    """One psycopg connection outside the pool, in autocommit, for a hot path that has one user at a time.

    Two plain statements cost half of what a pooled, explicit transaction does; where several statements must stand or
    fall together, `driver.transaction()` is at hand. A connection that broke is replaced at the next use.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._mutex = threading.Lock()
        self._driver: psycopg.Connection[tuple[Any, ...]] | None = None

    @contextmanager
    def use(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """The connection, alone. Raises StoreUnavailable."""
        with self._mutex, _store_faults():
            driver = self._driver or self._open()
            try:
                yield driver
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self.close()
                raise

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def _open(self) -> psycopg.Connection[tuple[Any, ...]]:
        pooled = self._engine.raw_connection()
        driver = self._driver = _psycopg(pooled.driver_connection)
        pooled.detach()
        driver.autocommit = True
        return driver


def itself(connection: Connection) -> Connection:
    """The unit of work of what needs no repositories: the connection."""
    return connection


def driver_of(connection: Connection) -> psycopg.Connection[tuple[Any, ...]]:
    """The psycopg connection under a connection, in the same transaction."""
    return _psycopg(connection.connection.driver_connection)


def copy_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Append many rows by COPY, in the connection's transaction: a tenth of the work of INSERTs.

    For tables whose keys cannot collide: a collision here is a fault, not an answer.
    """
    if not rows:
        return
    names = list(rows[0])
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), columns)
    with driver_of(connection).cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row([row[name] for name in names])


def bytea_array(values: Iterable[bytes | None]) -> str:
    """A literal of type bytea[], which the driver would build ten times more slowly."""
    return "{" + ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]) + "}"


def reason_of(error: BaseException) -> str:
    """Why the store failed, in one line: for logs, probes and whoever must cure it.

    What the store says of a statement may quote a person's facts: of that only the SQLSTATE is told. Why no connection
    came about is told in full: it names host, database and role, never a password.
    """
    seen: BaseException | None = error
    while isinstance(seen, StoreUnavailable):
        seen = seen.__cause__
    if isinstance(seen, DBAPIError):
        seen = seen.orig
    if isinstance(seen, PoolTimeout):
        return f"no connection became free within {_POOL_TIMEOUT:g} s"
    if isinstance(seen, psycopg.Error) and seen.sqlstate:
        return f"{type(seen).__name__} (SQLSTATE {seen.sqlstate})"
    if isinstance(seen, psycopg.OperationalError):
        return " ".join(str(seen).split())[:_LONGEST_REASON]
    return type(seen).__name__


def _psycopg(driver: object) -> psycopg.Connection[tuple[Any, ...]]:
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("the engine's driver is not psycopg")
    return driver


@contextmanager
def _store_faults() -> Iterator[None]:
    """Turn faults of the store into StoreUnavailable; a fault of a statement stays what it is."""
    try:
        yield
    except (*STORE_FAULTS, PoolTimeout) as error:
        raise StoreUnavailable() from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable() from error
        raise
    except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as error:
        raise StoreUnavailable() from error
