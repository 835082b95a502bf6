"""Cards' states, documents' validity, and the enums that stand for the contract's numbers."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Any
from uuid import uuid4

import pytest

from npd.identity.v1 import card_pb2, number_pb2
from services.identity import domain
from services.identity.domain import Cancellation, Card, CardState, Document
from services.mesh.core.errors import StateNotAllowed
from services.mesh.core.person.dates import PartialDate

NOW = datetime(2026, 11, 23, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
DOCUMENT = Document("AB123456", PartialDate(2026, 11, 1), "Hà Nội", PartialDate(2030, 2, 28))


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (domain.NumberState, number_pb2.NumberState, "NUMBER_STATE_"),
        (domain.SuccessionGround, number_pb2.SuccessionGround, "SUCCESSION_GROUND_"),
        (domain.CardState, card_pb2.CardState, "CARD_STATE_"),
        (domain.Cancellation, card_pb2.CardCancellation, "CARD_CANCELLATION_"),
    ],
)
def test_enums_have_the_numbers_of_the_contract(ours: type[Enum], theirs: Any, prefix: str) -> None:
    assert {f"{prefix}{one.name}": one.value for one in ours} | {f"{prefix}UNSPECIFIED": 0} == dict(theirs.items())


def requested() -> Card:
    return Card(uuid4(), uuid4(), CardState.REQUESTED, NOW, NOW)


def test_a_request_becomes_a_card_and_the_card_ends() -> None:
    issued = requested().issued(DOCUMENT, LATER)
    assert (issued.state, issued.document, issued.request_time, issued.state_time) == (
        CardState.ISSUED, DOCUMENT, NOW, LATER,
    )  # fmt: skip
    ended = issued.cancelled(Cancellation.LOST, LATER)
    assert (ended.state, ended.cancellation, ended.document) == (CardState.CANCELLED, Cancellation.LOST, DOCUMENT)


def test_a_card_is_issued_once_and_cancelled_once() -> None:
    issued = requested().issued(DOCUMENT, NOW)
    ended = issued.cancelled(Cancellation.DAMAGED, NOW)
    acts: list[Callable[[], Card]] = [
        lambda: issued.issued(DOCUMENT, NOW),
        lambda: ended.issued(DOCUMENT, NOW),
        lambda: ended.cancelled(Cancellation.LOST, NOW),
    ]
    for act in acts:
        with pytest.raises(StateNotAllowed) as refused:
            act()
        assert refused.value.metadata["object"] == f"card {issued.card_id}"


@pytest.mark.parametrize(
    ("expiry", "day", "expired"),
    [
        (None, date(2999, 1, 1), False),
        (PartialDate(2030, 2, 28), date(2030, 2, 28), False),
        (PartialDate(2030, 2, 28), date(2030, 3, 1), True),
        (PartialDate(2028, 2), date(2028, 2, 29), False),
        (PartialDate(2028, 2), date(2028, 3, 1), True),
        (PartialDate(2030), date(2030, 12, 31), False),
        (PartialDate(2030), date(2031, 1, 1), True),
    ],
)
def test_a_document_is_valid_to_the_end_of_its_last_day_as_far_as_known(
    expiry: PartialDate | None, day: date, expired: bool
) -> None:
    assert Document("AB123456", None, "", expiry).has_expired(day) is expired
