"""How a command ends: exit codes, and one sentence on the standard error that says what to do. Never a traceback."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import typer

from npd_client.client import AddressUnknown
from npd_client.credentials import CredentialsError
from npd_client.errors import Refusal, Unreachable


class ExitCode(IntEnum):
    """What a script learns from a command; the same numbers as those of `npd-client`."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3


@contextmanager
def told(*, as_json: bool = False) -> Iterator[None]:
    """Turn what a command raises into a message and an exit code."""
    try:
        yield
    except Refusal as refusal:
        print(_json_of(refusal) if as_json else _text_of(refusal), file=sys.stderr, flush=True)
        code = ExitCode.UNREACHABLE if isinstance(refusal, Unreachable) else ExitCode.REFUSED
        raise typer.Exit(code) from refusal
    except CredentialsError as error:
        fail(str(error), ExitCode.UNREACHABLE, as_json=as_json)
    except (AddressUnknown, OSError) as error:
        fail(str(error), ExitCode.USAGE, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(message: str, code: ExitCode = ExitCode.REFUSED, *, as_json: bool = False) -> None:
    """End the command with a message."""
    print(json.dumps({"message": message}, ensure_ascii=False) if as_json else message, file=sys.stderr, flush=True)
    raise typer.Exit(code)


def print_json(facts: Any) -> None:
    """An answer for a script."""
    print(json.dumps(facts, ensure_ascii=False, indent=2), flush=True)


def _text_of(refusal: Refusal) -> str:
    head = "UNREACHABLE" if isinstance(refusal, Unreachable) else "REFUSED"
    named = f"{refusal.reason} ({refusal.code.name})" if refusal.reason else refusal.code.name
    lines = [f"{head}: {named}", refusal.sentence()]
    lines += [f"  {violation.field}: {violation.description}" for violation in refusal.violations]
    lines += [f"Request id: {refusal.request_id}"] if refusal.request_id else []
    return "\n".join(filter(None, lines))


def _json_of(refusal: Refusal) -> str:
    facts = {
        "code": refusal.code.name,
        "reason": refusal.reason,
        "metadata": refusal.metadata,
        "violations": [{"field": one.field, "description": one.description} for one in refusal.violations],
        "message": refusal.sentence(),
        "request_id": refusal.request_id,
    }
    return json.dumps(facts, ensure_ascii=False)
