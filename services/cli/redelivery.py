"""The command that lets a room hand on again what another one lost by a restore from a backup."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import typer

from services.cli.options import DirectoryOption, EndpointsOption, JsonOption, all_rooms
from services.cli.outcome import ExitCode, print_json

_TIMEOUT = 60.0


def redeliver(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="The room that hands on again, such as civil_status.")],
    peer: Annotated[str, typer.Option("--peer", help="The room that was restored, such as sharing.")],
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="TIME", help="The instant to which it was restored, such as 2026-11-24T02:10:00Z."
        ),
    ],
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand on again what a room took since an instant: it was restored to it from a backup.

    What it still has it takes for repeats. Best while the restored room does not serve yet: then what was told first also comes first. `npd restored ROOM` prints the commands to give.

    Exit code 1: what was delivered at that instant is not kept any more (NPD_DELIVERED_KEPT); what is kept is handed on.

    Example: npd redeliver civil_status --peer sharing --since 2026-11-24T02:10:00Z
    """  # noqa: E501 - the help is wrapped by paragraphs, and a line break would stay
    from npd.common.v1 import relay_pb2, relay_pb2_grpc
    from services.cli import views

    moment = _instant(since)
    request = relay_pb2.RedeliverMessagesRequest(request_id=str(uuid4()), peer=peer)
    request.since.FromDatetime(moment)
    with all_rooms(directory, endpoints, as_json=as_json) as rooms:
        rooms.require(peer)
        answer = rooms.ask(
            room, lambda channel: relay_pb2_grpc.RelayServiceStub(channel).RedeliverMessages(request, timeout=_TIMEOUT)
        )
        kept_since = answer.kept_since.ToDatetime(UTC)
        if as_json:
            print_json({"room": room, "peer": peer, **views.json_of(answer)})
        else:
            typer.echo(f"{room} hands {answer.redelivered_count} messages on to {peer} again")
        if moment < kept_since:
            typer.echo(
                f"{room} keeps none that were delivered before {kept_since.isoformat()}: those are lost", err=True
            )
            raise typer.Exit(ExitCode.REFUSED)


def _instant(text: str) -> datetime:
    """An instant with its zone: one without would mean something else on another machine."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter("a time is written with its zone: 2026-11-24T02:10:00Z or 2026-11-24T09:10:00+07:00")
    return moment.astimezone(UTC)
