"""Approvals as operators see them. An approver reads every field of the request, or is told that he cannot."""

import importlib
import json
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from google.protobuf import symbol_database
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import DecodeError, Message
from rich.table import Table

from npd.common.v1 import approval_pb2
from npd_client.errors import Refusal
from services.cli.views import age_text, console, json_of, show_missing, time_text

_OURS = re.compile(r"(npd(?:\.[a-z][a-z0-9_]*)+)\.[A-Z]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Readable:
    """What is to be done: its type, its fields as far as they are known here, and whether these are all."""

    type_url: str
    fields: Mapping[str, Any] | None
    is_whole: bool


def digest_of(approval: approval_pb2.Approval) -> bytes:
    """SHA-256 of the request that is shown."""
    return sha256(approval.request.value).digest()


def readable(packed: Packed) -> Readable:
    """The request as fields. Of a type that is not known here there are none."""
    message = _unpacked(packed)
    if message is None:
        return Readable(packed.type_url, None, is_whole=False)
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return Readable(packed.type_url, json_of(message), is_whole=known.ByteSize() == message.ByteSize())


def facts(room: str, approval: approval_pb2.Approval) -> dict[str, Any]:
    """An approval for a script; digests in hex."""
    request = readable(approval.request)
    rest = approval_pb2.Approval()
    rest.CopyFrom(approval)
    rest.ClearField("request")
    told = {"room": room, **json_of(rest), "request_digest": approval.request_digest.hex()}
    return told | {"request": {"type_url": request.type_url, "fields": request.fields, "is_whole": request.is_whole}}


def show_list(held: Mapping[str, Sequence[approval_pb2.Approval]], missing: Mapping[str, Refusal]) -> None:
    """What rooms were asked for, and in a plain sentence where there is nothing."""
    now, shown = datetime.now(UTC), console()
    table = Table("approval", "room", "what", "asked by", "since", "state", box=None, pad_edge=False)
    table.header_style = "bold"
    table.columns[0].no_wrap = True
    for room, approvals in held.items():
        for one in approvals:
            what, since = one.method.rpartition("/")[2], age_text(one.request_time, now)
            table.add_row(one.approval_id, room, what, _name(one.requester), since, state_of(one))
    if table.row_count:
        shown.print(table)
    if without := [room for room, approvals in held.items() if not approvals]:
        shown.print(f"No such approvals in {', '.join(without)}.", soft_wrap=True)
    show_missing(missing, "what it holds is missing here")


def show(room: str, approval: approval_pb2.Approval) -> None:
    """An approval in full."""
    request = readable(approval.request)
    lines = [
        ("approval", f"{approval.approval_id} in {room}"),
        ("state", sentence_of(approval)),
        ("asked by", approval.requester),
        ("asked", time_text(approval.request_time)),
        ("expires", time_text(approval.expire_time)),
        ("method", approval.method),
        ("type", request.type_url),
        ("digest", approval.request_digest.hex()),
    ]
    shown = console()
    for name, value in lines:
        shown.print(f"{name:10}{printable(value)}", soft_wrap=True)
    if request.fields is None:
        shown.print("This `npd` does not know the type, so the request cannot be shown.", soft_wrap=True)
        return
    shown.print(printable(json.dumps(request.fields, ensure_ascii=False, indent=2)), soft_wrap=True)
    if not request.is_whole:
        shown.print("The request holds more, in fields that this `npd` does not know.", soft_wrap=True)


def sentence_of(approval: approval_pb2.Approval) -> str:
    """How an approval stands, in a sentence."""
    said = state_of(approval)
    if approval.decider:
        said += f" by {approval.decider} at {time_text(approval.decide_time)}"
    return printable(said + (f": {approval.reason}" if approval.reason else ""))


def state_of(approval: approval_pb2.Approval) -> str:
    """The state's name."""
    return approval_pb2.ApprovalState.Name(approval.state).removeprefix("APPROVAL_STATE_")


def printable(text: str) -> str:
    """A text in which nothing can move the cursor, or the order of letters, before an approver's eyes."""
    return "".join(sign if sign.isprintable() or sign == "\n" else f"\\u{ord(sign):04x}" for sign in text)


def _name(identity: str) -> str:
    """The last part of an identity URI, of a system both."""
    return identity.partition("://")[2].partition("/")[2] or identity


def _unpacked(packed: Packed) -> Message | None:
    """The message, if its type is one of the contract and its bytes are one of it."""
    named = _OURS.fullmatch(packed.TypeName())
    if named is None:
        return None
    try:
        package = importlib.import_module(named[1])
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.endswith("_pb2"):
                importlib.import_module(f"{named[1]}.{module.name}")
        message: Message = symbol_database.Default().GetSymbol(named[0])()
        message.ParseFromString(packed.value)
    except (ImportError, KeyError, DecodeError):
        return None
    return message
