"""What the code says of a workload's room: its name, its settings, whom it dials, and whom its method table admits."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from unittest.mock import patch

from services.cli import rooms
from services.mesh.core.caller import CallerKind
from services.mesh.core.config import PREFIX, RoomSettings
from services.mesh.core.methods import Methods
from services.mesh.wire.room import Room
from tests.k8s.manifests import Container, Workload

NAME, COMPONENT, PART_OF = (f"app.kubernetes.io/{part}" for part in ("name", "component", "part-of"))
MESH = "npd-mesh"
MIGRATION = "migration"
COMPONENTS = ("room", "streams", "door", MIGRATION)
SERVE, MIGRATE = "serve", "migrate"

_ADDRESS = re.compile(r"(\w+)_address")
# settings that name a room by what is asked of it
_ASKED_OF = {"changes": "sharing"}


def object_name(room: str) -> str:
    """A room's name where Kubernetes allows no underscore."""
    return room.replace("_", "-")


def room_name(name: str) -> str:
    """The room of a label's value, or what would be its name."""
    return name.replace("-", "_")


def room_of(container: Container) -> Room | None:
    """The room that a container's arguments name; None if they name none."""
    return rooms.load(container.args[1]) if len(container.args) > 1 and container.args[1] in rooms.names() else None


def is_ours(container: Container) -> bool:
    """Whether it runs this project's image, whatever the registry."""
    return container.image.rpartition("/")[2].partition("@")[0].partition(":")[0] == MESH


def serving(workload: Workload) -> tuple[Container, ...]:
    """Its containers that are a room's processes; beside one there may be a web server."""
    return tuple(one for one in workload.containers if is_ours(one) and one.args[:1] == (SERVE,))


def serves(workload: Workload) -> bool:
    """Whether its pods are a room's, rather than a job's."""
    return bool(serving(workload))


def address_settings(settings: type[RoomSettings], room: str) -> Mapping[str, str]:
    """Setting -> the room that it is the address of, without the room's own."""
    found = ((name, _ADDRESS.fullmatch(name)) for name in settings.model_fields)
    peers = {name: _ASKED_OF.get(match[1], match[1]) for name, match in found if match}
    return {name: peer for name, peer in peers.items() if peer != room}


@cache
def methods(room: str) -> Methods:
    """A room's own method table, without what every room serves to everybody (health, proofs of its log)."""
    table: Methods = import_module(f"services.{room}.policy").METHODS
    return table


def admits_room(callee: str, caller: str) -> bool:
    """Whether a table has a method for this room."""
    kinds = [who for rule in methods(callee).values() for who in rule.who if who.kind is CallerKind.ROOM]
    return any(not who.names or caller in who.names for who in kinds)


def named_callers(callee: str) -> frozenset[str]:
    """Rooms that a table names."""
    kinds = [who for rule in methods(callee).values() for who in rule.who if who.kind is CallerKind.ROOM]
    return frozenset(name for who in kinds for name in who.names)


def admits_outside(callee: str) -> bool:
    """Whether a table has a method for agencies or operators, who are outside the cluster."""
    return any(who.kind is not CallerKind.ROOM for rule in methods(callee).values() for who in rule.who)


def edges_of_tables() -> frozenset[tuple[str, str]]:
    """(caller, callee) of every two rooms of which one has the other's address, and is admitted by its table."""
    return frozenset(
        (caller.name, callee)
        for caller in rooms.discover()
        for callee in address_settings(caller.settings, caller.name).values()
        if admits_room(callee, caller.name)
    )


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """While it is entered, the process has these settings and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with patch.dict(os.environ, {**others, **values}, clear=True):
        yield
