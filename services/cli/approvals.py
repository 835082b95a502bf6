"""Commands about acts that need a second person: see what waits, read what would be done, approve or deny it."""

import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias
from uuid import uuid4

import typer

from services.cli.options import DirectoryOption, EndpointsOption, JsonOption, Rooms, all_rooms, uuid_argument
from services.cli.outcome import ExitCode, fail, print_json

if TYPE_CHECKING:
    import grpc

    from npd.common.v1 import approval_pb2

_TIMEOUT = 10.0
_PAGE = 1000

RoomArgument: TypeAlias = Annotated[str, typer.Argument(metavar="ROOM", help="The room that was asked.")]
ApprovalArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="The approval's id.", callback=uuid_argument)
]


class State(StrEnum):
    """States to list by; `all` is any."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    ALL = "all"


def list_(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="One room; without it all of them.")] = "",
    state: Annotated[State, typer.Option(help="Only those in this state.")] = State.PENDING,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what was asked for and needs a second person, newest first; by default what waits for one.

    Exit code 3: a room did not answer; it is named, and what the others hold is shown.

    Example: npd approval list

    Example: npd approval list issuer --state denied
    """
    from services.cli import approval_view, views

    with all_rooms(directory, endpoints, as_json=as_json) as rooms:
        if room:
            held, missing = {room: rooms.ask(room, _all_in(state))}, {}
        else:
            asked = rooms.ask_each(rooms.names, _all_in(state))
            held, missing = dict(asked.answers), dict(asked.missing)
        if as_json:
            listed = [approval_view.facts(name, one) for name, found in held.items() for one in found]
            print_json({"approvals": listed, "missing": views.missing_of(missing)})
        else:
            approval_view.show_list(held, missing)
        if missing:
            raise typer.Exit(ExitCode.UNREACHABLE)


def show(
    room: RoomArgument,
    approval_id: ApprovalArgument,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show in full what would be done, who asked for it, and how it stands.

    Example: npd approval show issuer 6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21
    """
    from services.cli import approval_view

    with all_rooms(directory, endpoints, as_json=as_json) as rooms:
        found = _one(rooms, room, approval_id, as_json=as_json)
        print_json(approval_view.facts(room, found)) if as_json else approval_view.show(room, found)


def approve(
    room: RoomArgument,
    approval_id: ApprovalArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, on a terminal either.")] = False,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve what another operator asked for: shows it, then approves just what it has shown, or nothing.

    He then sends his request again, and it is done; an application for a certificate goes on by itself.

    Example: npd approval approve issuer 6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21
    """
    from npd.common.v1 import approval_pb2, approval_pb2_grpc
    from services.cli import approval_view

    with all_rooms(directory, endpoints, as_json=as_json) as rooms:
        found = _one(rooms, room, approval_id, as_json=as_json)
        if not as_json:
            approval_view.show(room, found)
        digest = approval_view.digest_of(found)
        if digest != found.request_digest:
            fail("The digest is not that of the request shown. Do not approve it; ask the requester.", as_json=as_json)
        if not approval_view.readable(found.request).is_whole:
            fail("Nobody approves what he cannot read whole. Use the `npd` of that room's version.", as_json=as_json)
        if not yes and sys.stdin.isatty():
            typer.confirm("Approve this?", abort=True, err=True)
        request = approval_pb2.ApproveRequestRequest(
            request_id=str(uuid4()), approval_id=approval_id, request_digest=digest
        )
        answer = rooms.ask(
            room,
            lambda channel: approval_pb2_grpc.ApprovalServiceStub(channel).ApproveRequest(request, timeout=_TIMEOUT),
        )
        if as_json:
            print_json(approval_view.facts(room, answer.approval))
        else:
            typer.echo(approval_view.sentence_of(answer.approval))


def deny(
    room: RoomArgument,
    approval_id: ApprovalArgument,
    reason: Annotated[str, typer.Option(help="Why, for the requester to read; no personal data.")],
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deny what another operator asked for, or withdraw what you asked for yourself.

    Example: npd approval deny issuer 6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21 --reason "Not before the audit"
    """
    from npd.common.v1 import approval_pb2, approval_pb2_grpc
    from services.cli import approval_view

    request = approval_pb2.DenyRequestRequest(request_id=str(uuid4()), approval_id=approval_id, reason=reason)
    with all_rooms(directory, endpoints, as_json=as_json) as rooms:
        answer = rooms.ask(
            room, lambda channel: approval_pb2_grpc.ApprovalServiceStub(channel).DenyRequest(request, timeout=_TIMEOUT)
        )
        if as_json:
            print_json(approval_view.facts(room, answer.approval))
        else:
            typer.echo(approval_view.sentence_of(answer.approval))


def _one(rooms: Rooms, room: str, approval_id: str, *, as_json: bool) -> "approval_pb2.Approval":
    """The approval in that room; the command ends if it has none of this id."""

    def sought(channel: "grpc.Channel") -> "approval_pb2.Approval | None":
        return next((one for one in _each_in(State.ALL, channel) if one.approval_id == approval_id), None)

    found = rooms.ask(room, sought)
    if found is None:
        fail(f"{room} has no approval {approval_id}. See those that it has: npd approval list {room}", as_json=as_json)
        raise AssertionError("a failed command has ended")
    return found


def _all_in(state: State) -> "Callable[[grpc.Channel], list[approval_pb2.Approval]]":
    """Reads a room's approvals in a state."""
    return lambda channel: list(_each_in(state, channel))


def _each_in(state: State, channel: "grpc.Channel") -> "Iterator[approval_pb2.Approval]":
    """A room's approvals in a state, newest first, page by page as they are read."""
    from npd.common.v1 import approval_pb2, approval_pb2_grpc

    wanted = "UNSPECIFIED" if state is State.ALL else state.name
    stub = approval_pb2_grpc.ApprovalServiceStub(channel)
    request = approval_pb2.ListApprovalsRequest(
        page_size=_PAGE, state=approval_pb2.ApprovalState.Value(f"APPROVAL_STATE_{wanted}")
    )
    while True:
        answer = stub.ListApprovals(request, timeout=_TIMEOUT)
        yield from answer.approvals
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token
