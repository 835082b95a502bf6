"""Commands about what rooms could not hand on or apply: see it, and have it tried again when its cause is gone."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from services.cli.options import DirectoryOption, EndpointsOption, JsonOption, all_rooms, uuid_argument
from services.cli.outcome import ExitCode, print_json

if TYPE_CHECKING:
    import grpc

    from npd.common.v1 import relay_pb2

_TIMEOUT = 10.0
_PAGE = 1000


def list_(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="One room; without it all of them.")] = "",
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the messages and changes that rooms have set aside: what, why, since when. They wait for a command.

    Exit code 3: a room did not answer; it is named, and what the others hold is shown.

    Example: npd set-aside list residence
    """
    from services.cli import views

    with all_rooms(directory, endpoints, as_json=as_json) as rooms:
        if room:
            held, missing = {room: rooms.ask(room, _all_of())}, {}
        else:
            asked = rooms.ask_each(rooms.names, _all_of())
            held, missing = dict(asked.answers), dict(asked.missing)
        if as_json:
            messages = [{"room": name, **views.json_of(one)} for name, found in held.items() for one in found]
            print_json({"messages": messages, "missing": views.missing_of(missing)})
        else:
            views.show_set_aside(held, missing)
        if missing:
            raise typer.Exit(ExitCode.UNREACHABLE)


def retry(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="The room that has set them aside.")],
    messages: Annotated[
        list[str] | None, typer.Argument(metavar="MESSAGE_ID", help="What to try again, by id.")
    ] = None,
    all_of_them: Annotated[
        bool, typer.Option("--all", help="Try everything again that the room has set aside.")
    ] = False,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try set-aside messages and changes again; what is refused again is set aside again.

    Example: npd set-aside retry residence 6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21

    Example: npd set-aside retry civil_status --all
    """
    from npd.common.v1 import relay_pb2, relay_pb2_grpc
    from services.cli import views

    if bool(messages) == all_of_them:
        raise typer.BadParameter("name messages by their ids, or give --all")
    request = relay_pb2.RetrySetAsideRequest(
        request_id=str(uuid4()), message_ids=[uuid_argument(message) for message in messages or ()]
    )
    with all_rooms(directory, endpoints, as_json=as_json) as rooms:
        answer = rooms.ask(
            room, lambda channel: relay_pb2_grpc.RelayServiceStub(channel).RetrySetAside(request, timeout=_TIMEOUT)
        )
        if as_json:
            print_json({"room": room, **views.json_of(answer)})
        else:
            typer.echo(f"{room} tries {answer.retried_count} again")


def _all_of() -> "Callable[[grpc.Channel], list[relay_pb2.SetAside]]":
    """Reads all pages of what a room has set aside."""
    from npd.common.v1 import relay_pb2, relay_pb2_grpc

    def pages(stub: Any) -> "Iterator[relay_pb2.SetAside]":
        request = relay_pb2.ListSetAsideRequest(page_size=_PAGE)
        while True:
            answer = stub.ListSetAside(request, timeout=_TIMEOUT)
            yield from answer.messages
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    return lambda channel: list(pages(relay_pb2_grpc.RelayServiceStub(channel)))
