"""The options that operators' commands share, and the channels to the rooms that are made of them."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Generic, TypeAlias, TypeVar
from uuid import UUID

import grpc
import typer

from npd_client.channel import RotatingChannel
from npd_client.client import CHANGES, AddressUnknown, read_endpoints
from npd_client.credentials import CredentialsError, FileMissing
from npd_client.errors import Refusal, refusal_of
from services.cli.outcome import told

Answer = TypeVar("Answer")

MESH = Path(".npd")
MESH_VARIABLE = "NPDCTL_MESH"
"""Names the directory of another mesh on this machine, for every command."""

_HERE = Path(os.environ.get(MESH_VARIABLE) or MESH)
_OPERATORS = _HERE / "operators"
_ENDPOINTS = _HERE / "endpoints.json"

# These cannot begin with NPD_: such variables are settings of rooms, which refuse those that they do not know.
DirectoryOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        "-d",
        envvar="NPDCTL_DIRECTORY",
        help=f"Directory with your tls.crt, tls.key and ca.crt; by default the first one in {_OPERATORS}.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
EndpointsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--endpoints",
        envvar="NPDCTL_ENDPOINTS",
        help=f"File with the rooms' addresses; by default that of the certificate's own mesh, or {_ENDPOINTS}.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
AddressOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Address of the room that the command calls, host:port or dns:///service:port, instead of the file; "
        "also in $NPDCTL_REGISTRY and $NPDCTL_ISSUER.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of tables; a refusal too.", rich_help_panel="Output")
]
SystemArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="AGENCY/SYSTEM", help="The system, such as tax/core.")
]

DOOR = "door"
"""In a file of addresses: the port of the issuer that asks for no certificate. It is no room."""
_FURTHER = (DOOR, CHANGES)  # names in a file of addresses beside those of rooms

_SYSTEM = re.compile(r"([a-z0-9][a-z0-9_-]{0,62})/([a-z0-9][a-z0-9_-]{0,62})")
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def system_parts(system: str) -> tuple[str, str]:
    """The agency's and the system's id."""
    named = _SYSTEM.fullmatch(system)
    if named is None:
        raise typer.BadParameter("a system is named AGENCY/SYSTEM, such as tax/core, in lower case")
    return named[1], named[2]


def duration(text: str) -> timedelta:
    """A span of time as operators write it: 30d, 72h, 90m."""
    spelt = _DURATION.fullmatch(text.strip().lower())
    if spelt is None:
        raise typer.BadParameter("a time is a number and a unit: 30d, 72h or 90m")
    return int(spelt[1]) * _UNITS[spelt[2]]


@contextmanager
def one_room(
    name: str, directory: Path | None, endpoints: Path | None, address: str | None, *, as_json: bool
) -> Iterator[RotatingChannel]:
    """A channel to a room for one command; what is raised meanwhile ends the command with a message."""
    with told(as_json=as_json):
        place = directory or _first_operator()
        given = address or os.environ.get(f"NPDCTL_{name.upper()}")
        target = given or _address_in(endpoints or _endpoints_of(place), name)
        with RotatingChannel(target, place) as channel:
            try:
                yield channel
            except grpc.RpcError as error:
                raise refusal_of(error, channel.credentials, target) from error


@dataclass(frozen=True, slots=True)
class Asked(Generic[Answer]):
    """What rooms answered, by room, and why the others did not."""

    answers: Mapping[str, Answer]
    missing: Mapping[str, Refusal]


class Rooms:
    """The rooms of a mesh, each with a channel."""

    def __init__(self, channels: Mapping[str, RotatingChannel], addresses: Mapping[str, str]) -> None:
        self._channels = channels
        self._addresses = addresses

    @property
    def names(self) -> tuple[str, ...]:
        """The rooms' names, in alphabetical order."""
        return tuple(sorted(self._channels))

    def require(self, room: str) -> None:
        """Raises AddressUnknown for a room that has no address."""
        if room not in self._channels:
            raise AddressUnknown(f"No room {room} has an address here; those that have are: {', '.join(self.names)}.")

    def ask(self, room: str, call: Callable[[grpc.Channel], Answer]) -> Answer:
        """Ask one room. Raises Refusal, and AddressUnknown for a room that has no address."""
        self.require(room)
        channel = self._channels[room]
        try:
            return call(channel)
        except grpc.RpcError as error:
            raise refusal_of(error, channel.credentials, self._addresses[room]) from error

    def ask_each(self, names: Iterable[str], call: Callable[[grpc.Channel], Answer]) -> Asked[Answer]:
        """Ask rooms at the same time. Raises the Refusal if not one answers."""
        answers: dict[str, Answer] = {}
        missing: dict[str, Refusal] = {}

        def ask(room: str) -> None:
            try:
                answers[room] = self.ask(room, call)
            except Refusal as refusal:
                missing[room] = refusal

        with ThreadPoolExecutor() as pool:
            list(pool.map(ask, names))
        if missing and not answers:
            raise missing[min(missing)]
        return Asked(dict(sorted(answers.items())), dict(sorted(missing.items())))


@contextmanager
def all_rooms(directory: Path | None, endpoints: Path | None, *, as_json: bool) -> Iterator[Rooms]:
    """Channels to all rooms of the mesh for one command; what is raised meanwhile ends the command with a message."""
    with told(as_json=as_json), ExitStack() as stack:
        place = directory or _first_operator()
        found = _addresses_in(endpoints or _endpoints_of(place))
        addresses = {room: address for room, address in found.items() if room not in _FURTHER}
        channels = {room: stack.enter_context(RotatingChannel(address, place)) for room, address in addresses.items()}
        yield Rooms(channels, addresses)


def door_address(directory: Path | None, endpoints: Path | None) -> str:
    """The address of the issuer's door, as the file of addresses has it; empty if there is no such file or entry."""
    place = endpoints or _endpoints_of(directory or _OPERATORS / "nobody")
    return read_endpoints(place).get(DOOR, "") if place.is_file() else ""


def own_addresses(directory: Path | None, endpoints: Path | None) -> tuple[Path, Mapping[str, str]]:
    """The directory of the operator's certificate, and what a file says of the addresses of its mesh."""
    place = directory or _first_operator()
    file = endpoints or _endpoints_of(place)
    return place, read_endpoints(file) if file.is_file() else {}


def uuid_argument(value: str) -> str:
    """A UUID in its canonical form."""
    try:
        return str(UUID(value))
    except ValueError:
        raise typer.BadParameter("must be a UUID, such as 6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21") from None


def _first_operator() -> Path:
    found = sorted(place.parent for place in _OPERATORS.glob("*/tls.crt"))
    if not found:
        raise FileMissing(
            f"There is no operator's certificate in {_OPERATORS}. Name yours with --directory, or start a mesh here "
            "with `npd up`."
        )
    return found[0]


def _endpoints_of(place: Path) -> Path:
    """The file of the local mesh that an operator's directory belongs to, <mesh>/operators/<name>, if it is one's."""
    beside = place.absolute().parent.parent / _ENDPOINTS.name
    return beside if beside.is_file() else _ENDPOINTS


def _addresses_in(endpoints: Path) -> dict[str, str]:
    if not endpoints.is_file():
        raise CredentialsError(
            f"There is no file {endpoints}: no mesh is up here. Start one with `npd up`, or name the room with "
            "--address or --endpoints."
        )
    return read_endpoints(endpoints)


def _address_in(endpoints: Path, room: str) -> str:
    addresses = _addresses_in(endpoints)
    if room not in addresses:
        raise AddressUnknown(f"{endpoints} names no {room}; give its address with --address.")
    return addresses[room]
