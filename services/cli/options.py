"""The options that operators' commands share, and the channel to the registry that is made of them."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import grpc
import typer

from npd_client.channel import RotatingChannel
from npd_client.client import AddressUnknown, read_endpoints
from npd_client.credentials import CredentialsError, FileMissing
from npd_client.errors import refusal_of
from services.cli.outcome import told

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
        envvar="NPDCTL_REGISTRY",
        help="Address of the registry, host:port or dns:///service:port, instead of the file.",
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

_SYSTEM = re.compile(r"([a-z0-9][a-z0-9_-]{0,62})/([a-z0-9][a-z0-9_-]{0,62})")


def system_parts(system: str) -> tuple[str, str]:
    """The agency's and the system's id."""
    named = _SYSTEM.fullmatch(system)
    if named is None:
        raise typer.BadParameter("a system is named AGENCY/SYSTEM, such as tax/core, in lower case")
    return named[1], named[2]


@contextmanager
def registry(
    directory: Path | None, endpoints: Path | None, address: str | None, *, as_json: bool
) -> Iterator[grpc.Channel]:
    """A channel to the registry for one command; what is raised meanwhile ends the command with a message."""
    with told(as_json=as_json):
        place = directory or _first_operator()
        target = address or _registry_in(endpoints or _endpoints_of(place))
        with RotatingChannel(target, place) as channel:
            try:
                yield channel
            except grpc.RpcError as error:
                raise refusal_of(error, channel.credentials, target) from error


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


def _registry_in(endpoints: Path) -> str:
    if not endpoints.is_file():
        raise CredentialsError(
            f"There is no file {endpoints}: no mesh is up here. Start one with `npd up`, or name the registry with "
            "--address or --endpoints."
        )
    addresses = read_endpoints(endpoints)
    if "registry" not in addresses:
        raise AddressUnknown(f"{endpoints} names no registry; give its address with --address.")
    return addresses["registry"]
