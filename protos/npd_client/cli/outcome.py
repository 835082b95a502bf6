"""How a command ends: exit codes, and what a refused user reads on the standard error; no answer goes there."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum, StrEnum

import typer

from npd_client.client import AddressUnknown, DateMalformed
from npd_client.credentials import CredentialsError
from npd_client.errors import Refusal, Unreachable
from npd_client.merkle import EvidenceInvalid


class ExitCode(IntEnum):
    """What a script learns from a command."""

    ANSWERED = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    NO_MATCH = 4
    NOT_PROVEN = 5


class Language(StrEnum):
    """The languages of refusals."""

    ENGLISH = "en"
    VIETNAMESE = "vi"


_RIGHTS = {
    Language.ENGLISH: "`npd-client rights` shows what your agreements grant now, and if nothing, why.",
    Language.VIETNAMESE: "`npd-client rights` cho biết các thỏa thuận hiện cho phép gì, hoặc vì sao không.",
}
_WHOAMI = {
    Language.ENGLISH: "`npd-client whoami` shows whom the mesh takes you for, and in which state your system is.",
    Language.VIETNAMESE: "`npd-client whoami` cho biết hệ thống nhận ra bạn là ai và trạng thái của hệ thống bạn.",
}
_NEXT: tuple[tuple[str, Mapping[Language, str]], ...] = (
    ("AGREEMENT_", _RIGHTS),
    ("MODE_", _RIGHTS),
    ("FIELD_NOT_GRANTED", _RIGHTS),
    ("FIELD_OUTSIDE_PURPOSE", _RIGHTS),
    ("SYSTEM_", _WHOAMI),
    ("METHOD_NOT_ALLOWED", _WHOAMI),
)


@contextmanager
def answering(language: Language = Language.ENGLISH, *, as_json: bool = False) -> Iterator[None]:
    """Turn what a command raises into a message and an exit code."""
    try:
        yield
    except Refusal as refusal:
        _say(_json_of(refusal) if as_json else _text_of(refusal, language))
        code = ExitCode.UNREACHABLE if isinstance(refusal, Unreachable) else ExitCode.REFUSED
        raise typer.Exit(code) from refusal
    except CredentialsError as error:
        _fail(str(error), ExitCode.UNREACHABLE, as_json=as_json)
    except EvidenceInvalid as error:
        _fail(f"NOT PROVEN ({type(error).__name__}): {error}.", ExitCode.NOT_PROVEN, as_json=as_json)
    except (AddressUnknown, DateMalformed, OSError) as error:
        _fail(str(error), ExitCode.USAGE, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail(message: str, code: ExitCode, *, as_json: bool) -> None:
    _say(json.dumps({"message": message}, ensure_ascii=False) if as_json else message)
    raise typer.Exit(code)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _text_of(refusal: Refusal, language: Language) -> str:
    """Reason and code, the sentence, the fields concerned, and the next step."""
    head = "UNREACHABLE" if isinstance(refusal, Unreachable) else "REFUSED"
    lines = [f"{head}: {refusal.reason} ({refusal.code.name})" if refusal.reason else f"{head} ({refusal.code.name})"]
    lines.append(refusal.sentence(language))
    lines += [f"  {violation.field}: {violation.description}" for violation in refusal.violations]
    if refusal.retry_after is not None:
        seconds = f"{refusal.retry_after.total_seconds():g}"
        lines.append(f"Thử lại sau {seconds} giây." if language is Language.VIETNAMESE else f"Retry after {seconds} s.")
    lines += [text[language] for prefix, text in _NEXT if refusal.reason.startswith(prefix)][:1]
    if refusal.request_id:
        label = "Mã yêu cầu" if language is Language.VIETNAMESE else "Request id"
        lines.append(f"{label}: {refusal.request_id}")
    return "\n".join(line for line in lines if line)


def _json_of(refusal: Refusal) -> str:
    facts = {
        "code": refusal.code.name,
        "reason": refusal.reason,
        "metadata": refusal.metadata,
        "violations": [{"field": one.field, "description": one.description} for one in refusal.violations],
        "retry_after_seconds": refusal.retry_after.total_seconds() if refusal.retry_after else None,
        "messages": refusal.messages,
        "request_id": refusal.request_id,
    }
    return json.dumps(facts, ensure_ascii=False)
