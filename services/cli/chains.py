"""The command that follows a chain of acts through the rooms: what followed from what, and which deadlines it met."""

from typing import Annotated

import typer

from services.cli.options import DirectoryOption, EndpointsOption, JsonOption, all_rooms, uuid_argument
from services.cli.outcome import ExitCode, fail, print_json

_TIMEOUT = 10.0


def show(
    chain: Annotated[
        str,
        typer.Argument(metavar="ID", help="The chain's id: that of the act which began it.", callback=uuid_argument),
    ],
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what followed from an act, in every room: who did what when, because of what, and by which legal deadline.

    Exit code 3: a room did not answer; it is named, and what the others know is shown.

    Example: npd chain show 6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21
    """
    from datetime import UTC, datetime

    from npd.common.v1 import chain_pb2, chain_pb2_grpc
    from services.cli import chain_view

    request = chain_pb2.ListLinksRequest(correlation_id=chain)
    with all_rooms(directory, endpoints, as_json=as_json) as rooms:
        asked = rooms.ask_each(
            rooms.names,
            lambda channel: chain_pb2_grpc.ChainServiceStub(channel).ListLinks(request, timeout=_TIMEOUT).links,
        )
        seen = chain_view.seen(asked.answers, now=datetime.now(UTC))
        if not seen.links and not asked.missing:
            fail(f"No room knows a chain {chain}.", as_json=as_json)
        if as_json:
            print_json(chain_view.facts(chain, seen, asked.missing))
        else:
            chain_view.show(chain, seen, asked.missing)
        if asked.missing:
            raise typer.Exit(ExitCode.UNREACHABLE)
