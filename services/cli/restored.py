"""The command that is run once a room's store was restored from a backup, and before the room serves again."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.options import JsonOption
from services.cli.outcome import ExitCode, fail, print_json
from services.cli.room import RoomArgument

if TYPE_CHECKING:
    from services.mesh.core.restoration import Restoration
    from services.mesh.wire.room import Room


def restored(
    room: RoomArgument,
    told_again: Annotated[
        bool, typer.Option("--told-again", help="Say that the rooms which tell this one have told again; not before.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Note that a room's database was restored from a backup, before the room serves again.

    Its incarnation rises: followers of its feed begin anew instead of passing over what comes. Prints what the database holds, and what the other rooms must do next. Needs NPD_DATABASE_URL_FILE (and NPD_DATABASE_PASSWORD_FILE) alone; is refused while the room serves. To run it twice does no harm.

    Example: NPD_DATABASE_URL_FILE=database.url npd restored sharing
    """  # noqa: E501 - the help is wrapped by paragraphs, and a line break would stay
    from sqlalchemy.exc import DBAPIError

    from services.cli import rooms
    from services.mesh.core.config import SettingsInvalid
    from services.mesh.core.restoration import StillServed
    from services.mesh.core.schema import SchemaUnfit

    try:
        described = rooms.load(room)
        if told_again:
            _open(described, as_json=as_json)
            return
        noted = _note(described)
    except (rooms.RoomUnknown, SettingsInvalid) as error:
        fail(f"Nothing was noted: {error}", ExitCode.USAGE, as_json=as_json)
    except SchemaUnfit as error:
        fail(f"Nothing was noted: {error}, then this command again", as_json=as_json)
    except StillServed as error:
        fail(
            f"Nothing was noted: somebody works on this database as the room's role ({error}). End the processes of "
            f"{room} first: kubectl scale deployment npd-{room.replace('_', '-')} --replicas=0",
            as_json=as_json,
        )
    except DBAPIError as error:
        fail(f"Nothing was noted: {' '.join(str(error.orig).split())}", as_json=as_json)
    if as_json:
        print_json(_facts(described, noted))
    else:
        _show(described, noted)


def _note(room: "Room") -> "Restoration":
    from sqlalchemy import text

    from services.cli.migration import store_address
    from services.mesh.core import restoration, schema
    from services.mesh.migrate import LOCK

    with store_address().engine_for_once().begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        schema.require_current(connection, room.schema_packages, room.name)
        noted = restoration.note(connection, waits=room.waits_to_be_told)
        room.on_restore(connection)
        return noted


def _open(room: "Room", *, as_json: bool) -> None:
    from services.cli.migration import store_address
    from services.mesh.core import restoration, schema

    with store_address().engine_for_once().begin() as connection:
        schema.require_current(connection, room.schema_packages, room.name)
        has_waited = restoration.note_told_again(connection)
    if as_json:
        print_json({"room": room.name, "waited": has_waited})
    else:
        typer.echo(f"{room.name} acts again" if has_waited else f"{room.name} waited for nobody")


def _facts(room: "Room", noted: "Restoration") -> dict[str, Any]:
    return {
        "room": room.name,
        "incarnation_before": noted.before,
        "incarnation": noted.after,
        "newest": [{"what": one.what, "time": one.time.isoformat(), "position": one.position} for one in noted.newest],
        "since": noted.since.isoformat(),
        "waiting_count": noted.waiting_count,
        "told_by": list(room.told_by),
        "waits_to_be_told": not noted.is_told_again,
    }


def _show(room: "Room", noted: "Restoration") -> None:
    typer.echo(f"{room.name}: incarnation {noted.before} -> {noted.after}\n")
    typer.echo("The newest that this database holds:")
    for one in sorted(noted.newest, key=lambda one: one.time, reverse=True):
        place = f", position {one.position}" if one.position is not None else ""
        typer.echo(f"  {_utc(one.time)}  {one.what}{place}")
    if not noted.newest:
        typer.echo("  nothing at all: is it the right backup?")
    typer.echo(f"{noted.waiting_count} messages wait in its outbox; what their receivers have they take for repeats.\n")
    typer.echo("Next, in this order:")
    for number, step in enumerate(_steps(room, noted), start=1):
        typer.echo(f"  {number}. {step}")


def _steps(room: "Room", noted: "Restoration") -> list[str]:
    """What is to be done by whom, as commands where there is one."""
    since = _utc(noted.since).replace(" ", "T")
    steps = [
        f"before {room.name} serves: npd redeliver {one} --peer {room.name} --since {since}" for one in room.told_by
    ]
    steps.append(f"let {room.name} serve; followers of its feed, if it has one, begin anew by themselves")
    if not noted.is_told_again:
        steps += [
            f"npd set-aside list, until nothing waits for {room.name} in {', '.join(room.told_by)} any more",
            f"npd restored {room.name} --told-again; until then it gives no number, so that none is given twice",
        ]
    steps.append("tell whoever acted in the time that is lost; the log of this room ends where it was restored to")
    return steps


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
