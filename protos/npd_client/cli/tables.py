"""Answers for the human eye: proto messages as tables and lines. What is printed is never taken for markup."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, MessageToJson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from npd.common.v1.access_pb2 import AccessMode
from npd.common.v1.error_reason_pb2 import ErrorReason
from npd.common.v1.evidence_pb2 import Outcome, Receipt
from npd.registry.v1 import agency_pb2, rights_pb2
from npd.sharing.v1 import change_pb2, lookup_pb2, usage_pb2, verification_pb2

RENEWAL = timedelta(days=14)
"""Remaining life of a certificate from which on `whoami` warns."""


def console() -> Console:
    """The standard output; wide where nobody looks, so that nothing is cut."""
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 200)


def print_json(message: Message, *, one_line: bool = False) -> None:
    """Proto JSON with the contract's field names."""
    indent = None if one_line else 2
    print(MessageToJson(message, preserving_proto_field_name=True, indent=indent, ensure_ascii=False), flush=True)


def json_of(message: Message) -> dict[str, Any]:
    """The same, to be put into more JSON."""
    return MessageToDict(message, preserving_proto_field_name=True)


def show_identity(answer: rights_pb2.WhoAmIResponse) -> None:
    """Who the mesh takes the caller for."""
    expire = answer.certificate_expire_time.ToDatetime(tzinfo=UTC)
    rows = {
        "identity": answer.identity,
        "agency": f"{answer.agency_id}  {answer.agency_name}".strip(),
        "system": answer.system_id,
        "state": _enum_text(agency_pb2.DESCRIPTOR.enum_types_by_name["SystemState"], answer.state),
        "cause": answer.cause,
        "certificate": answer.certificate_serial_number,
        "valid until": _time_text(answer.certificate_expire_time),
    }
    console().print(_facts({label: value for label, value in rows.items() if value}))
    if expire - datetime.now(UTC) < RENEWAL:
        _line("The certificate expires soon: renew it.", style="yellow")


def show_rights(answer: rights_pb2.DescribeRightsResponse) -> None:
    """What each agreement grants now."""
    if not answer.agreements:
        _line("No agreement of this system is known.")
    for agreement in answer.agreements:
        days = f"{date_text(agreement.start_date)} to {date_text(agreement.end_date)}"
        _line(f"{agreement.agreement_id}  {agreement.purpose}, {agreement.provision}, {days}", style="bold")
        table = _table("mode", "fields")
        for mode in agreement.modes:
            table.add_row(_mode_text(mode.mode), ", ".join(mode.paths))
        console().print(table)
        if agreement.refusal:
            reason = ErrorReason.Name(agreement.refusal).removeprefix("ERROR_REASON_")
            _line(f"It grants nothing now: {reason}", style="red")
    _line(f"policy revision {answer.policy_revision}")


def show_citizen(answer: lookup_pb2.GetCitizenResponse) -> None:
    """The released fields; a disputed one is marked, for nobody should decide by it before asking."""
    sources: dict[str, str] = {}
    for one in answer.provenance:
        sources[one.path] = ", ".join(
            filter(None, (sources.get(one.path), f"{one.source} {_time_text(one.event_time)}"))
        )
    table = _table("field", "value", *(["source"] if sources else []))
    for path, value in flatten(answer.citizen):
        top = re.split(r"[.\[]", path, maxsplit=1)[0]
        disputed = top in answer.disputed_paths
        cells = [path + " (disputed)" if disputed else path, value, *([sources.get(top, "")] if sources else [])]
        table.add_row(*cells, style="yellow" if disputed else None)
    console().print(table)
    show_receipt(answer.receipt)


def show_verdicts(
    answer: verification_pb2.VerifyCitizenResponse, predicates: Iterable[verification_pb2.Predicate]
) -> None:
    """What the record says to each claim."""
    table = _table("claim", "verdict")
    for one in answer.fields:
        table.add_row(one.path, _verdict_text(one.verdict))
    for predicate, verdict in zip(predicates, answer.predicates, strict=False):
        table.add_row(" ".join(f"{path}={text}" for path, text in flatten(predicate)), _verdict_text(verdict))
    console().print(table)
    show_receipt(answer.receipt)


def show_usage(answer: usage_pb2.FindUsageResponse) -> None:
    """Who used a record."""
    table = _table("time", "agency", "officer", "purpose", "case", "outcome", "fields")
    for record in answer.records:
        entry = record.entry
        table.add_row(
            _time_text(entry.entry_time),
            record.agency_name or entry.agency_id or entry.caller,
            entry.access.officer_id,
            entry.purpose,
            entry.access.case_reference,
            _outcome_text(entry.outcome) + (f" {entry.reason}" if entry.reason else ""),
            ", ".join(entry.paths),
        )
    console().print(table)
    _line("Each use can be proved: its leaf hash stands in the answer as --json.")
    if answer.next_page_token:
        _line(f"more: --page-token {answer.next_page_token}")
    show_receipt(answer.receipt)


def show_changes(message: change_pb2.WatchChangesResponse) -> None:
    """A block of lines for each change."""
    for change in message.changes:
        head = f"{change.position}  {_time_text(change.event_time)}  {change.pin}  from {change.source}"
        _line(head, style="bold")
        values = dict(flatten(change.citizen))
        gone = [path for path in change.changed_paths if not any(_is_below(known, path) for known in values)]
        for path, value in [*values.items(), *((path, "(no value any more)") for path in gone)]:
            disputed = any(_is_below(path, other) for other in change.disputed_paths)
            _line(f"    {path}: {value}{'  (disputed)' if disputed else ''}")


def show_receipt(receipt: Receipt) -> None:
    """The line by which the answer can be proved."""
    if receipt.leaf_hash:
        _line(f"recorded in {receipt.log_origin} as {receipt.leaf_hash.hex()}")


def show_facts(facts: Mapping[str, str]) -> None:
    """Labelled values, one a line."""
    console().print(_facts(facts))


def flatten(message: Message, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The set fields of a message as (path, text); items of a repeated message are numbered from 1."""
    for field, value in message.ListFields():
        path = prefix + field.name
        items: Iterable[object] = value if field.is_repeated else [value]
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for number, item in enumerate(items, 1):
                yield from _flatten_item(item, f"{path}[{number}]" if field.is_repeated else path)
        else:
            yield path, ", ".join(_scalar_text(field, item) for item in items)


def date_text(date: Date) -> str:
    """A date as far as it is known: 1990, 1990-05 or 1990-05-17."""
    parts = [f"{date.year:04}", *(f"{part:02}" for part in (date.month, date.day) if part)]
    return "-".join(parts)


def _flatten_item(item: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(item, Date):
        yield path, date_text(item)
    elif isinstance(item, Timestamp):
        yield path, _time_text(item)
    elif isinstance(item, Message):
        yield from flatten(item, path + ".")


def _scalar_text(field: FieldDescriptor, value: object) -> str:
    if field.enum_type is not None and isinstance(value, int):
        return _enum_text(field.enum_type, value)
    return value.hex() if isinstance(value, bytes) else str(value)


def _enum_text(enum: EnumDescriptor, number: int) -> str:
    """The name of a value without the enum's own; empty for the unspecified one, the number for one not known here."""
    if number not in enum.values_by_number:
        return str(number)
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_"
    name = enum.values_by_number[number].name.removeprefix(prefix)
    return "" if name == "UNSPECIFIED" else name


def _mode_text(mode: "AccessMode.ValueType") -> str:
    return _enum_text(AccessMode.DESCRIPTOR, mode)


def _verdict_text(verdict: "verification_pb2.Verdict.ValueType") -> str:
    return _enum_text(verification_pb2.Verdict.DESCRIPTOR, verdict)


def _outcome_text(outcome: "Outcome.ValueType") -> str:
    return _enum_text(Outcome.DESCRIPTOR, outcome)


def _time_text(moment: Timestamp) -> str:
    return moment.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%SZ") if moment.seconds else ""


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith((f"{top}.", f"{top}["))


def _line(text: str, style: str = "") -> None:
    """One line however long, so that it can be copied."""
    console().print(Text(text, style=style), soft_wrap=True)


def _table(*headers: str) -> Table:
    """A table that breaks long values and cuts none."""
    return Table(*(Column(header, overflow="fold") for header in headers))


def _facts(rows: Mapping[str, str]) -> Table:
    table = Table(Column(), Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    for label, value in rows.items():
        table.add_row(label, value)
    return table
