"""Contacts for the directory: whom a room heard of, and that no failed report forgets any."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from services.mesh.core import contacts as module
from services.mesh.core.background import Stopping
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.contacts import Backlog, Contact, Contacts, Flow

TAX = Caller("spiffe://agency.test/tax/core", CallerKind.AGENCY, "tax/core", "tax", "core")
SHARING = Caller("spiffe://mesh.test/sharing", CallerKind.ROOM, "sharing")
LAN = Caller("spiffe://operator.test/lan", CallerKind.OPERATOR, "lan")
FLOW = Flow(Backlog(3, None, 1))
START = datetime(2026, 3, 14, 8, tzinfo=UTC)


class Clock:
    """A second later at each look."""

    def __init__(self) -> None:
        self.time = START - timedelta(seconds=1)

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def at(second: int) -> datetime:
    return START + timedelta(seconds=second)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPORT_EVERY", 0.0)


def reported(contacts: Contacts) -> list[Contact]:
    """What the next report says."""
    stopping, told = Stopping(), list[Contact]()

    def report(due: Sequence[Contact], flow: Flow, policy_revision: int) -> None:
        assert (flow, policy_revision) == (FLOW, 7)
        told.extend(due)
        stopping.set()

    contacts.run(stopping, report, lambda: FLOW, lambda: 7)
    return told


def fail(due: Sequence[Contact], flow: Flow, policy_revision: int) -> None:
    raise ConnectionError


def test_the_last_contact_and_the_last_served_are_told_once() -> None:
    contacts = Contacts(Clock())
    for served in (False, True, False):
        contacts.note(TAX, served)
    contacts.note(SHARING, False)
    assert reported(contacts) == [Contact("tax/core", at(2), at(1)), Contact("sharing", at(3), None)]
    assert reported(contacts) == [], "an empty report is a sign of life"


def test_people_are_not_in_the_directory() -> None:
    contacts = Contacts(Clock())
    contacts.note(LAN, True)
    assert reported(contacts) == []


def test_a_report_that_fails_goes_into_the_next_one() -> None:
    contacts = Contacts(Clock())
    contacts.note(TAX, True)
    contacts.note(SHARING, True)
    with pytest.raises(ConnectionError):
        contacts.run(Stopping(), fail, Flow, lambda: 7)
    contacts.note(TAX, False)
    assert sorted(reported(contacts), key=lambda one: one.name) == [
        Contact("sharing", at(1), at(1)),
        Contact("tax/core", at(2), at(0)),
    ]


def test_who_calls_while_a_report_fails_loses_no_success() -> None:
    contacts = Contacts(Clock())
    contacts.note(TAX, True)

    def meanwhile(due: Sequence[Contact], flow: Flow, policy_revision: int) -> None:
        contacts.note(TAX, False)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        contacts.run(Stopping(), meanwhile, Flow, lambda: 7)
    assert reported(contacts) == [Contact("tax/core", at(1), at(0))]
