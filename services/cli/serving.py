"""`npd serve`: what runs in production. Imports neither the command line nor Alembic, so that a room stays small."""

import sys

from npd_client.credentials import CredentialsError
from services.cli import rooms
from services.mesh.core import config, logs
from services.mesh.core.config import SettingsInvalid
from services.mesh.core.schema import SchemaUnfit
from services.mesh.wire import serving
from services.mesh.wire.server import MethodsIncomplete


def serve(name: str) -> int:
    """Serve a room until SIGTERM or SIGINT; say what is wrong if it cannot start. Returns the exit code."""
    try:
        room = rooms.load(name)
        settings = config.load(room.settings)
        logs.configure(room.name, settings.log_level)
    except (rooms.RoomUnknown, SettingsInvalid) as error:
        return _refuse(name, str(error), 2)
    try:
        serving.serve(room)
    except SettingsInvalid as error:
        return _refuse(name, str(error), 2)
    except CredentialsError as error:
        return _refuse(name, f"{settings.tls_names}: {error}", 1)
    except (SchemaUnfit, MethodsIncomplete, OSError, RuntimeError) as error:
        return _refuse(name, str(error), 1)
    return 0


def _refuse(name: str, problem: str, code: int) -> int:
    print(f"{name} cannot serve: {problem}", file=sys.stderr, flush=True)
    return code
