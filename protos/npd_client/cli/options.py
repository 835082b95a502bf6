"""The options that every command shares, and what is made of them: the client and the ground of a request."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from npd.common.v1.access_pb2 import AccessContext
from npd_client.cli.outcome import Language, answering
from npd_client.client import AddressUnknown, Client, read_endpoints
from npd_client.credentials import FileMissing

ENDPOINTS = Path(".npd") / "endpoints.json"

DirectoryOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        "-d",
        envvar="NPD_CLIENT_DIRECTORY",
        help="Directory with tls.crt, tls.key and ca.crt.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
EndpointsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--endpoints",
        envvar="NPD_CLIENT_ENDPOINTS",
        help=f'File with the rooms\' addresses, {{"sharing": "host:port", ...}}; by default {ENDPOINTS} here.',
        show_default=False,
        rich_help_panel="Connection",
    ),
]
AddressOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Address of the one room that the command calls, host:port or dns:///service:port.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print proto JSON instead of tables; a refusal too.", rich_help_panel="Output")
]
LanguageOption: TypeAlias = Annotated[
    Language, typer.Option("--lang", help="Language of refusals.", rich_help_panel="Output")
]
AgreementOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--agreement", "-a", envvar="NPD_CLIENT_AGREEMENT", help="Id of the agreement.", rich_help_panel="Ground"
    ),
]
CaseOption: TypeAlias = Annotated[
    str,
    typer.Option("--case", "-c", help="Your own reference of the case; no name, no PIN.", rich_help_panel="Ground"),
]
OfficerOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--officer",
        "-o",
        envvar="NPD_CLIENT_OFFICER",
        help="Id of the officer who asks, on your agency's roster.",
        rich_help_panel="Ground",
    ),
]
_ASKED = "Asked for when left out, so that it need not stand in the shell's history."
PinOption: TypeAlias = Annotated[
    str, typer.Option("--pin", help=f"12 digits. {_ASKED}", show_default=False, rich_help_panel="Citizen")
]
NameOption: TypeAlias = Annotated[
    str, typer.Option("--name", help=f"Full name. {_ASKED}", show_default=False, rich_help_panel="Citizen")
]
BirthDateOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--birth-date",
        help=f"YYYY, YYYY-MM or YYYY-MM-DD. {_ASKED}",
        show_default=False,
        rich_help_panel="Citizen",
    ),
]


@contextmanager
def connected(
    directory: Path | None,
    endpoints: Path | None,
    address: str | None,
    language: Language,
    *,
    as_json: bool,
    lasting: bool = False,
) -> Iterator[Client]:
    """A client for one command; what it raises ends the command with a message and an exit code.

    A command that lasts renews its certificate meanwhile.
    """
    with answering(language, as_json=as_json):
        place = own_directory(directory)
        if not place.is_dir():
            raise FileMissing(f"The directory {place} does not exist; it should hold tls.crt, tls.key and ca.crt.")
        with Client(address or _addresses(endpoints), place, renew=lasting) as client:
            yield client


def own_directory(directory: Path | None) -> Path:
    """The directory of the own certificate, which has to be named."""
    if directory is None:
        raise typer.BadParameter("name the directory of your certificate: --directory, or NPD_CLIENT_DIRECTORY")
    return directory


def room_address(room: str, endpoints: Path | None, default: str | None = None) -> str:
    """The address of a room, or of the door, in the endpoints file; the default if neither is there."""
    if default is not None and not (endpoints or ENDPOINTS).is_file():
        return default
    address = _addresses(endpoints).get(room, default)
    if address is None:
        raise AddressUnknown(f"{endpoints or ENDPOINTS} names no {room}; give its address as an option.")
    return address


def ask_secret(label: str) -> str:
    """A secret: asked for on a terminal without showing it, otherwise the first line of the standard input."""
    if sys.stdin.isatty():
        answer: str = typer.prompt(label, err=True, hide_input=True)
        return answer.strip()
    line = sys.stdin.readline().strip()
    if not line:
        raise typer.BadParameter(f"{label}: give it as a file, or as a line of the standard input")
    return line


def ground(agreement: str, case: str, officer: str) -> AccessContext:
    """The ground of a request about a person."""
    return AccessContext(agreement_id=agreement, case_reference=case, officer_id=officer)


def ask_identity(pin: str, name: str, birth_date: str) -> tuple[str, str, str]:
    """What was left out: asked for on a terminal, otherwise read from the standard input, a line each, in order."""
    return (
        pin or _ask("PIN (12 digits)"),
        name or _ask("Full name"),
        birth_date or _ask("Birth date (YYYY-MM-DD, YYYY-MM or YYYY)"),
    )


def ask_claim(path: str) -> str:
    """A claimed value that stands in no option; after the identity."""
    return _ask(f"Claimed {path}")


def _ask(label: str) -> str:
    if sys.stdin.isatty():
        answer: str = typer.prompt(label, err=True)
        return answer.strip()
    line = sys.stdin.readline()
    if not line:
        raise typer.BadParameter(
            f"{label}: neither an option nor a line of the standard input. What no option gives is read there, a line "
            "each: PIN, full name, birth date"
        )
    return line.strip()


def _addresses(endpoints: Path | None) -> dict[str, str]:
    path = endpoints or ENDPOINTS
    if not path.is_file():
        raise typer.BadParameter(f"no file {path}: name the rooms' addresses with --endpoints or --address")
    return read_endpoints(path)
