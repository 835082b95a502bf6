"""Commands about one room, as they run in production: its settings are NPD_* variables, its secrets files."""

from typing import Annotated, TypeAlias

import typer

from services.cli.options import JsonOption
from services.cli.outcome import ExitCode, fail, print_json

RoomArgument: TypeAlias = Annotated[str, typer.Argument(metavar="ROOM", help="Name of the room, such as sharing.")]


def serve(room: RoomArgument) -> None:
    """Serve a room until SIGTERM or Ctrl-C.

    Example: NPD_ENVIRONMENT=npd.gov.vn NPD_LISTEN=0.0.0.0:7000 ... npd serve sharing

    `npd check ROOM` tells beforehand what is missing.
    """
    from services.cli.serving import serve as serve_room

    raise typer.Exit(serve_room(room))


def migrate(
    room: RoomArgument,
    operator: Annotated[
        list[str] | None,
        typer.Option(
            "--operator", help="Record an operator, by the name in his certificate; registry only. Repeatable."
        ),
    ] = None,
) -> None:
    """Bring a room's database to what this release needs; forward only, and safe to repeat.

    Of the room's settings only NPD_DATABASE_URL_FILE is needed, and NPD_DATABASE_PASSWORD_FILE if the room has it. The registry also loads the law of this release. On a database that a newer release has migrated there is nothing to do.

    Example: NPD_DATABASE_URL_FILE=database.url npd migrate registry --operator lan --operator minh
    """  # noqa: E501 - the help is wrapped by paragraphs, and a line break would stay
    from sqlalchemy.exc import DBAPIError

    from services.cli import rooms
    from services.cli.migration import REGISTRY, STORE_NAMES, prepare_store, store_address
    from services.mesh.core.config import SettingsInvalid
    from services.mesh.core.db import reason_of
    from services.mesh.core.errors import InvalidField
    from services.mesh.core.schema import SchemaUnfit

    operators = tuple(operator or ())
    if operators and room != REGISTRY:
        fail(f"Operators are recorded in the registry alone: npd migrate {REGISTRY} --operator ...", ExitCode.USAGE)
    try:
        newer = prepare_store(rooms.load(room), store_address(), operators)
    except (rooms.RoomUnknown, SettingsInvalid) as error:
        fail(f"{room} was not migrated: {error}", ExitCode.USAGE)
    except InvalidField as error:
        faults = "; ".join(f"{violation.field} {violation.description}" for violation in error.violations)
        fail(f"{room} is up to date, but no operator was recorded: {faults}", ExitCode.USAGE)
    except SchemaUnfit as error:
        fail(f"{room} was not migrated: {error}")
    except DBAPIError as error:
        said = getattr(getattr(error.orig, "diag", None), "message_primary", None)  # no DETAIL, which quotes rows
        reason = " ".join(filter(None, [said, reason_of(error)]))
        fail(f"{room} was not migrated: {reason}; check {' and '.join(STORE_NAMES)}")
    state = f"is newer than this release ({', '.join(newer)}); nothing to do" if newer else "is up to date"
    typer.echo(f"{room} {state}" + (f", operators: {', '.join(operators)}" if operators else ""))


def check(
    room: RoomArgument,
    methods: Annotated[bool, typer.Option("--methods", help="Also print which caller may call which method.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a room's settings, files, database and schema without serving; exit code 1 if anything is wrong.

    Example: npd check sharing --methods
    """
    from services.cli import checking, rooms

    try:
        found = checking.check(rooms.load(room))
    except rooms.RoomUnknown as error:
        fail(str(error), ExitCode.USAGE, as_json=as_json)
    if as_json:
        print_json(checking.facts(found, with_methods=methods))
    else:
        checking.show(found, with_methods=methods)
    if not found.is_sound:
        raise typer.Exit(ExitCode.REFUSED)
