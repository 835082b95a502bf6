"""Finds the rooms: packages beside this one whose `app.py` exports ROOM. A further room needs no line here."""

import pkgutil
from importlib import import_module
from importlib.machinery import FileFinder
from pathlib import Path

import services
from services.mesh.wire.room import Room


class RoomUnknown(LookupError):
    """No package of this name describes a room."""


def names() -> tuple[str, ...]:
    """The names of all rooms, in alphabetical order; none is imported."""
    return tuple(
        sorted(
            module.name
            for module in pkgutil.iter_modules(services.__path__)
            if module.ispkg
            and isinstance(module.module_finder, FileFinder)
            and (Path(module.module_finder.path) / module.name / "app.py").is_file()
        )
    )


def load(name: str) -> Room:
    """The room of this name. Raises RoomUnknown, and ImportError if its code or what it needs is broken."""
    if name not in names():
        raise RoomUnknown(f"there is no room {name!r}; the rooms are: {', '.join(names())}")
    room = getattr(import_module(f"services.{name}.app"), "ROOM", None)
    if not isinstance(room, Room):
        raise RoomUnknown(f"services.{name}.app exports no ROOM")
    return room


def discover() -> tuple[Room, ...]:
    """All rooms, in alphabetical order."""
    return tuple(map(load, names()))
