"""`npd serve`: what runs in production. Imports neither the command line nor Alembic, so that a room stays small."""

import sys

from npd_client.credentials import CredentialsError
from services.cli import rooms
from services.mesh.core import config, logs
from services.mesh.core.config import SettingsInvalid
from services.mesh.core.schema import SchemaOutdated
from services.mesh.wire import serving
from services.mesh.wire.server import MethodsIncomplete


def serve(name: str) -> int:
    """Serve a room until SIGTERM or SIGINT; say what is wrong if it cannot start. Returns the exit code."""
    try:
        room = rooms.load(name)
        logs.configure(room.name, config.load(room.settings).log_level)
        serving.serve(room)
    except (rooms.RoomUnknown, SettingsInvalid) as error:
        return _refuse(name, error, 2)
    except (CredentialsError, SchemaOutdated, MethodsIncomplete, OSError, RuntimeError) as error:
        return _refuse(name, error, 1)
    return 0


def _refuse(name: str, error: Exception, code: int) -> int:
    print(f"{name} cannot serve: {error}", file=sys.stderr, flush=True)
    return code
