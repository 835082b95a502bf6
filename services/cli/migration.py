"""Brings a room's store to what its code needs. The registry's also gets its operators and the law."""

import os
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from services.mesh.core.config import PREFIX, SettingsInvalid, read_secret
from services.mesh.migrate import migrate
from services.mesh.wire.room import Room

REGISTRY = "registry"

_URL_FILE = f"{PREFIX}DATABASE_URL_FILE"


def database_url() -> str:
    """The address of the room's database, from the file that the room's setting names. Raises SettingsInvalid."""
    place = os.environ.get(_URL_FILE)
    if not place:
        raise SettingsInvalid(f"{_URL_FILE}: name the file with postgresql+psycopg://role:password@host/database")
    return read_secret(Path(place))


def prepare_store(room: Room, url: str, operators: Sequence[str] = ()) -> None:
    """Migrate a room's tables; in the registry also load the law of this release and record the operators named.

    Safe to repeat. Raises InvalidField for a name that no certificate can carry, and what the database raises.
    """
    migrate(url, room.schema_packages)
    if room.name != REGISTRY:
        return
    from services.registry import law
    from services.registry import operators as roll

    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        law.load(connection)
    roll.record(url, operators)
