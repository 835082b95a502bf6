"""Answers that are kept: the key of a request, and the stored form that comes back the same."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from services.mesh.core.answers import Answer, AnswerKey
from services.mesh.core.errors import InvalidField
from services.mesh.core.stored import from_stored, to_stored

ID = "6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21"


class Colour(Enum):
    """An enum of a domain."""

    RED = 1
    GREEN = 2


@dataclass(frozen=True, slots=True)
class Part:
    """A nested part."""

    name: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Whole:
    """What an operation may answer with."""

    subject_id: UUID | None
    colour: Colour
    parts: tuple[Part, ...]
    at: datetime
    raw: bytes


@pytest.mark.parametrize("request_id", [ID, ID.upper()])
def test_a_request_is_named_by_a_uuid(request_id: str) -> None:
    assert AnswerKey("/m", request_id, b"").request_id == request_id


@pytest.mark.parametrize(
    "request_id",
    ["", "1", ID[:-1], ID + "0", ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}", f" {ID}", ID.replace("6", "g")],
)
def test_any_other_spelling_is_refused(request_id: str) -> None:
    with pytest.raises(InvalidField) as refused:
        AnswerKey("/m", request_id, b"")
    assert refused.value.violations[0].field == "request_id"


def test_an_operation_must_give_its_answer() -> None:
    answer: Answer[str] = Answer(None)
    assert answer.given is None
    with pytest.raises(RuntimeError, match="without giving its answer"):
        _ = answer.value
    assert answer.give("done") == "done" == answer.value
    assert answer.given is None, "it was not given before"
    assert Answer("before").given == "before" == Answer("before").value


@settings(deadline=None)
@given(
    st.builds(
        Whole,
        subject_id=st.none() | st.uuids(),
        colour=st.sampled_from(Colour),
        parts=st.lists(st.builds(Part, st.text(), st.none() | st.binary())).map(tuple),
        at=st.datetimes(timezones=st.just(UTC)),
        raw=st.binary(),
    )
)
def test_what_is_stored_comes_back_the_same(whole: Whole) -> None:
    assert from_stored(to_stored(whole, Whole), Whole) == whole


def test_what_is_no_stored_form_is_a_fault() -> None:
    for raw in (b"", b"{}", b"[]", b'{"value": 1}', to_stored(Part("x", b"y"), Part)):
        with pytest.raises(ValidationError):
            from_stored(raw, Whole)


def test_a_later_version_may_know_more_fields_with_a_default() -> None:
    @dataclass(frozen=True, slots=True)
    class Grown:
        name: str
        value: bytes | None
        more: int = 7

    assert from_stored(to_stored(Part("x", b"\xff"), Part), Grown) == Grown("x", b"\xff", 7)
