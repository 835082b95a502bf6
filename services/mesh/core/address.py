"""Where a room's store is, and with which password: read and judged before anybody dials. Never tells a password."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from services.mesh.core.config import SettingsInvalid, name_of, read_password

_DRIVER = "postgresql+psycopg"
_SHAPE = f"{_DRIVER}://role:password@host/database"
_PASSWORDS = ("password", "passfile")  # parameters of libpq


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """The URL of a database, and the file with its password if the URL holds none."""

    url: URL = field(repr=False)
    password_file: Path | None = None

    @classmethod
    def of(cls, address: "str | StoreAddress", password_file: Path | None = None) -> "StoreAddress":
        """Read an address; one that was read already stays as it is.

        1. It is a URL of the driver that we have, and names a database.
        2. It has one @: with another one, an unescaped character of a password would be taken for the host's name.
        3. Its parameters are some of libpq's.
        4. The password stands in one place, and can be read.

        No cause is chained to a refusal: a parser's complaint may quote the password. Raises SettingsInvalid.
        """
        if isinstance(address, StoreAddress):
            return address
        try:
            url = make_url(address)
        except (ArgumentError, ValueError):
            raise _refused(f"it holds no URL of the form {_SHAPE}") from None
        if url.drivername != _DRIVER or not url.database:  # (1)
            raise _refused(f"its URL must have the form {_SHAPE}")
        if address.count("@") > 1:  # (2)
            raise _refused("its URL has more than one @; write %40 for one in a password, and so on (RFC 3986)")
        _require_parameters(url)  # (3)
        if password_file is not None:  # (4)
            if url.password is not None or any(name in url.query for name in _PASSWORDS):
                raise _refused(f"its URL holds a password, and {name_of('database_password_file')} too; leave one out")
            read_password(password_file)
        return cls(url, password_file)

    def engine(self, **options: Any) -> Engine:
        """An engine for this address; the password's file is read at each connection, so that a new one counts."""
        # No parameters in errors: personal data never reaches an error's text.
        engine = create_engine(self.url, hide_parameters=True, **options)
        if self.password_file is not None:
            event.listen(engine, "do_connect", self._give_password)
        return engine

    def engine_for_once(self) -> Engine:
        """An engine for a program that runs once: no pool, and no limit on how long a statement may take."""
        return self.engine(poolclass=NullPool, connect_args={"connect_timeout": 10})

    def _give_password(self, dialect: object, record: object, arguments: object, parameters: dict[str, Any]) -> None:
        if self.password_file is not None:
            try:
                parameters["password"] = read_password(self.password_file)
            except SettingsInvalid as error:  # for the engine's user: as if the store had refused the connection
                raise psycopg.OperationalError(str(error)) from None


def _require_parameters(url: URL) -> None:
    try:
        make_conninfo(**{name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()})
        url.get_dialect()().create_connect_args(url)  # takes several hosts and ports apart
    except (psycopg.Error, TypeError, ArgumentError):
        raise _refused("its URL has a parameter, behind the ?, that libpq does not know") from None


def _refused(problem: str) -> SettingsInvalid:
    return SettingsInvalid(f"{name_of('database_url_file')}: {problem}")
