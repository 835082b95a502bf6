"""Brings a room's store to what its code needs. The registry's also gets its operators and the law."""

import os
from collections.abc import Sequence
from pathlib import Path

from services.mesh.core.address import StoreAddress
from services.mesh.core.config import SettingsInvalid, name_of, read_secret
from services.mesh.migrate import migrate
from services.mesh.wire.room import Room

REGISTRY = "registry"

STORE_NAMES = _URL_FILE, _PASSWORD_FILE = name_of("database_url_file"), name_of("database_password_file")
"""The variables that say where a room's database is."""


def store_address() -> StoreAddress:
    """Where the room's database is, from the files that the room's settings name. Raises SettingsInvalid."""
    place, password_place = os.environ.get(_URL_FILE), os.environ.get(_PASSWORD_FILE)
    if not place:
        raise SettingsInvalid(f"{_URL_FILE}: name the file with postgresql+psycopg://role:password@host/database")
    url = read_secret(Path(place), "database_url_file")
    return StoreAddress.of(url, Path(password_place) if password_place else None)


def prepare_store(room: Room, store: StoreAddress | str, operators: Sequence[str] = ()) -> Sequence[str]:
    """Migrate a room's tables; in the registry also load the law of this release and record the operators named.

    Returns the packages whose tables are newer than this release; then nothing is migrated or loaded, for the law of
    the newer release stands. Safe to repeat. Raises InvalidField for a name that no certificate can carry,
    SettingsInvalid, SchemaUnfit and what the database raises.
    """
    newer = migrate(store, room.schema_packages)
    if room.name != REGISTRY:
        return newer
    from services.registry import law
    from services.registry import operators as roll

    address = StoreAddress.of(store)
    if not newer:
        with address.engine_for_once().begin() as connection:
            law.load(connection)
    roll.record(address, operators)
    return newer
