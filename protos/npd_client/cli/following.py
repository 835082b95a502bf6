"""How `watch` follows the feed: where it begins, what it says of interruptions, and how it keeps its place."""

import re
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import typer

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.lane_pb2 import LANE_UNSPECIFIED, Lane
from npd.sharing.v1.change_pb2 import Cursor, WatchChangesResponse
from npd_client.cli.outcome import Language
from npd_client.client import Client
from npd_client.errors import Refusal
from npd_client.receipts import write_whole

_PLACE = re.compile(r"(\d{1,18}):(\d{1,18})", re.ASCII)


class LaneName(StrEnum):
    """The lanes by their names; without one all of them."""

    ALL = "all"
    VITAL = "vital"
    NORMAL = "normal"

    @property
    def number(self) -> "Lane.ValueType":
        """The lane of the contract."""
        return LANE_UNSPECIFIED if self is LaneName.ALL else Lane.Value(f"LANE_{self.name}")


def follow(
    client: Client,
    access: AccessContext,
    cursor: Cursor | None,
    *,
    from_oldest: bool,
    language: Language,
    lane: "Lane.ValueType" = LANE_UNSPECIFIED,
) -> Iterator[WatchChangesResponse]:
    """The feed after a cursor; without one from now, or, if asked, from the oldest change: pulled to its head first."""

    def tell(refusal: Refusal, seconds: float) -> None:
        print(f"interrupted, going on in {seconds:.1f} s: {refusal.sentence(language)}", file=sys.stderr, flush=True)

    behind = from_oldest and cursor is None
    while behind:
        page = client.pull_changes(access, cursor, lane=lane)
        yield WatchChangesResponse(changes=page.changes, cursor=page.next_cursor, head=page.head)
        cursor, behind = page.next_cursor, page.next_cursor.position < page.head.position
    yield from client.watch_changes(access, cursor, lane=lane, on_interruption=tell)


def read_place(given: str, file: Path | None) -> Cursor | None:
    """The cursor of the option, otherwise that of the file, if it exists already; None for neither."""
    if not given and file is not None and file.exists():
        given = file.read_text(encoding="ascii", errors="replace").strip()
    if not given:
        return None
    place = _PLACE.fullmatch(given)
    if place is None:
        raise typer.BadParameter("a place in the feed is INCARNATION:POSITION, such as 1:4711")
    return Cursor(incarnation=int(place[1]), position=int(place[2]))


def keep_place(cursor: Cursor, file: Path) -> None:
    """Put the cursor into the file, whole or not at all."""
    write_whole(file, f"{cursor.incarnation}:{cursor.position}\n".encode())
