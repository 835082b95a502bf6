"""Contributions: what an item is, who may write what, and how one bad item stands alone."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import error_reason_pb2, person_pb2
from npd.sharing.v1 import contribution_pb2
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.clock import CLOCKS_APART, Validity
from services.mesh.core.errors import FieldRequired, InvalidField, MaskEmpty, MaskUnknownPath
from services.mesh.core.person.pin import SandboxPin
from services.mesh.core.rights import FieldDefinition, Policy
from services.mesh.core.stored import from_stored, to_stored
from services.sharing.contribution.convert import access_of, items_from_wire, results_to_wire
from services.sharing.contribution.domain import (
    EventIdReused,
    FieldNotWritable,
    Item,
    Malformed,
    PinTaken,
    Result,
    Results,
    Status,
    rejected,
    require_times,
    write_right,
)
from services.sharing.record.fields import Person, Value

NOW = datetime(2026, 3, 14, 8, tzinfo=UTC)
DAY = date(2026, 3, 14)
ID = "6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21"
ROOM = Caller("spiffe://mesh.test/identity", CallerKind.ROOM, "identity")
SYSTEM = Caller("spiffe://agency.test/moh/medical", CallerKind.AGENCY, "moh/medical", "moh", "medical")
Wire = contribution_pb2.ContributionItem


def wire_item(**changes: object) -> Wire:
    item = Wire(
        event_id="e-1",
        pin="079303012345",
        person=Person(sex=person_pb2.SEX_FEMALE, phone="+84"),
        update_mask=FieldMask(paths=["sex", "father"]),
    )
    item.event_time.FromDatetime(NOW - timedelta(days=2))
    item.register_time.FromDatetime(NOW - timedelta(days=1))
    for name, value in changes.items():
        item.ClearField(name)  # type: ignore[arg-type]
        item.MergeFrom(Wire(**{name: value}))  # type: ignore[arg-type]
    return item


def read(*items: Wire, caller: Caller = SYSTEM, sandbox: bool = False) -> list[Item | Malformed]:
    return items_from_wire(contribution_pb2.ContributeRequest(items=items), NOW, caller, sandbox=sandbox)


# Who may write what


def field(path: str, *authority: str, end: date | None = None) -> FieldDefinition:
    return FieldDefinition(path, "L26", False, authority, Validity(date(2024, 7, 1), end))


POLICY = Policy(
    fields={
        "sex": field("sex", "civil_status", "identity"),
        "phone": field("phone", "identity", "agency"),
        "blood_type": field("blood_type", "agency"),
        "religion": field("religion", "identity", "agency", end=DAY - timedelta(days=1)),
    }
)


def test_a_room_may_write_the_fields_whose_rule_names_it() -> None:
    right = write_right(ROOM, frozenset({"blood_type"}), POLICY, DAY)
    assert (right.source, right.paths) == ("identity", {"sex", "phone"})
    right.require(["sex", "phone"])
    with pytest.raises(FieldNotWritable) as refused:
        right.require(["sex", "blood_type", "phone"])
    assert refused.value.metadata == {
        "field": "blood_type",
        "source": "identity",
        "rule": "the authority rule names identity for other fields",
    }


def test_a_system_may_write_what_it_was_granted_where_the_rule_knows_agencies() -> None:
    right = write_right(SYSTEM, frozenset({"blood_type", "sex"}), POLICY, DAY)
    assert (right.source, right.paths) == ("moh/medical", {"blood_type"})
    for path in ("sex", "phone"):
        with pytest.raises(FieldNotWritable) as refused:
            right.require([path])
        assert refused.value.metadata["rule"] == "its agreement grants CONTRIBUTE of blood_type"


def test_a_system_without_a_usable_grant_may_write_nothing() -> None:
    right = write_right(SYSTEM, frozenset({"sex"}), POLICY, DAY)
    assert (right.paths, right.rule) == (set(), "its agreement grants CONTRIBUTE of nothing")


def test_a_field_is_written_only_while_it_is_one() -> None:
    granted = frozenset({"religion"})
    assert write_right(SYSTEM, granted, POLICY, DAY - timedelta(days=1)).paths == {"religion"}
    assert write_right(SYSTEM, granted, POLICY, DAY).paths == set()
    assert write_right(ROOM, frozenset(), POLICY, date(2024, 6, 30)).paths == set()


def test_a_room_that_no_rule_names_may_write_nothing() -> None:
    exchange = Caller("spiffe://mesh.test/exchange", CallerKind.ROOM, "exchange")
    assert write_right(exchange, frozenset({"sex"}), POLICY, DAY).paths == set()


@settings(deadline=None)
@given(st.frozensets(st.sampled_from([*POLICY.fields, "pin", "unknown"])))
def test_a_grant_never_widens_the_authority_rule(granted: frozenset[str]) -> None:
    assert write_right(SYSTEM, granted, POLICY, DAY).paths == granted & {"phone", "blood_type"}


@pytest.mark.parametrize(
    ("event", "register", "field_named"),
    [
        (-2, -1, None),
        (0, 0, None),
        (-1, 0, None),
        (-1, -2, "register_time"),
        (-1, 1, "register_time"),
        (1, 1, "register_time"),
    ],
)
def test_an_event_happens_before_it_is_registered_and_both_before_now(
    event: int, register: int, field_named: str | None
) -> None:
    times = NOW + timedelta(days=event), NOW + timedelta(days=register)
    if field_named is None:
        require_times(*times, NOW)
        return
    with pytest.raises(InvalidField) as refused:
        require_times(*times, NOW)
    assert refused.value.violations[0].field == field_named


def test_clocks_may_lie_a_little_apart() -> None:
    require_times(NOW, NOW + CLOCKS_APART, NOW)
    with pytest.raises(InvalidField):
        require_times(NOW, NOW + CLOCKS_APART + timedelta(seconds=1), NOW)


# Items from the wire


def test_an_item_tells_the_paths_of_its_mask_alone() -> None:
    [item] = read(wire_item())
    assert isinstance(item, Item)
    assert (item.event_id, item.pin, item.subject_id, item.pin_told) == ("e-1", "079303012345", None, "")
    female = Person(sex=person_pb2.SEX_FEMALE).SerializeToString()
    assert item.values == (Value("sex", "", female), Value("father", "", None))
    assert item.paths == {"sex", "father"}
    assert (item.event_time, item.register_time) == (NOW - timedelta(days=2), NOW - timedelta(days=1))


def test_a_pin_is_told_only_if_the_mask_names_it() -> None:
    person = Person(pin="079303012345")
    [told] = read(wire_item(person=person, update_mask=FieldMask(paths=["pin"])))
    [untold] = read(wire_item(person=person, update_mask=FieldMask(paths=["sex"])))
    assert isinstance(told, Item)
    assert isinstance(untold, Item)
    assert (told.pin_told, untold.pin_told) == ("079303012345", "")


def test_a_room_may_name_a_subject_and_a_system_may_not() -> None:
    item = wire_item(subject_id=ID.upper())
    [named] = read(item, caller=ROOM)
    assert isinstance(named, Item)
    assert (named.subject_id, named.pin) == (UUID(ID), "")
    [refused] = read(item)
    assert isinstance(refused, Malformed)
    assert refused.error.violations[0].field == "subject_id"


@pytest.mark.parametrize(
    ("changes", "kind", "field_named"),
    [
        ({"event_id": ""}, FieldRequired, "event_id"),
        ({"event_id": "x" * 65}, InvalidField, "event_id"),
        ({"event_id": "e 1"}, InvalidField, "event_id"),
        ({"event_id": "é"}, InvalidField, "event_id"),
        ({"pin": "1"}, InvalidField, "pin"),
        ({"subject_id": "1"}, InvalidField, "subject_id"),
        ({"update_mask": FieldMask()}, MaskEmpty, "update_mask"),
        ({"update_mask": FieldMask(paths=["sex", "zodiac"])}, MaskUnknownPath, "update_mask"),
        ({"update_mask": FieldMask(paths=["father.name"])}, MaskUnknownPath, "update_mask"),
        ({"person": Person(birth_date=Date(year=2027))}, InvalidField, "person.birth_date"),
        ({"person": Person(pin="979303012345")}, SandboxPin, ""),
    ],
)
def test_a_bad_item_stands_alone(changes: dict[str, object], kind: type[Exception], field_named: str) -> None:
    first, bad, last = read(wire_item(), wire_item(**changes), wire_item(event_id="e-3"), caller=ROOM)
    assert isinstance(first, Item)
    assert isinstance(last, Item)
    assert isinstance(bad, Malformed)
    assert type(bad.error) is kind
    assert [violation.field for violation in bad.error.violations] == ([field_named] if field_named else [])
    assert bad.event_id == ("" if "event_id" in changes else "e-1")


def test_whom_it_is_about_and_when_must_be_said() -> None:
    for name, named in (("pin", "pin"), ("event_time", "event_time"), ("person", "person")):
        item = wire_item()
        item.ClearField(name)  # type: ignore[arg-type]
        [bad] = read(item)
        assert isinstance(bad, Malformed)
        assert bad.error.violations[0].field == named


def test_an_impossible_instant_is_refused() -> None:
    item = wire_item()
    item.event_time.seconds = 2**62
    [bad] = read(item)
    assert isinstance(bad, Malformed)
    assert bad.error.violations[0].field == "event_time"


def test_no_more_than_a_thousand_items_are_taken() -> None:
    item = wire_item()
    assert len(read(*[item] * 1000)) == 1000
    with pytest.raises(InvalidField) as refused:
        read(*[item] * 1001)
    assert refused.value.violations[0].field == "items"


def test_an_item_has_a_size_that_a_batch_can_bear() -> None:
    large = Person(other_names=[person_pb2.PersonName(full=f"{n} " + "x" * 180) for n in range(400)])
    first, bad = read(wire_item(), wire_item(person=large))
    assert isinstance(first, Item)
    assert isinstance(bad, Malformed)
    assert bad.error.violations[0].field == "person"


def test_the_content_hash_is_of_what_was_sent() -> None:
    def hash_of(item: Wire) -> bytes:
        [one] = read(item)
        assert isinstance(one, Item)
        return one.content_hash

    assert hash_of(wire_item()) == hash_of(wire_item())
    spoils: list[Callable[[Wire], object]] = [
        lambda item: setattr(item.person, "phone", "+85"),
        lambda item: item.update_mask.paths.append("phone"),
        lambda item: item.register_time.FromDatetime(NOW),
    ]
    for spoil in spoils:
        other = wire_item()
        spoil(other)
        assert hash_of(other) != hash_of(wire_item())


def test_an_item_that_waits_is_kept_whole() -> None:
    [item] = read(wire_item(person=Person(phone="Hòa"), update_mask=FieldMask(paths=["phone", "sex"])))
    assert isinstance(item, Item)
    assert from_stored(to_stored(item, Item), Item) == item


def test_a_ground_that_is_absent_is_none() -> None:
    assert access_of(contribution_pb2.ContributeRequest()) is None


# Results


def test_results_keep_their_order_and_say_what_became_of_each() -> None:
    results = Results(
        (
            Result("e-1", Status.APPLIED, ("sex",)),
            rejected("e-2", PinTaken()),
            rejected("e-3", FieldNotWritable(field="sex", source="moh/medical", rule="no")),
            rejected("", InvalidField("event_id", "must be visible ASCII")),
        )
    )
    wire = results_to_wire(results).results
    statuses = contribution_pb2.ContributionResult.Status
    assert [statuses.Name(one.status) for one in wire] == ["STATUS_APPLIED", *["STATUS_REJECTED"] * 3]
    reasons = [error_reason_pb2.ErrorReason.Name(one.reason).removeprefix("ERROR_REASON_") for one in wire]
    assert reasons == ["UNSPECIFIED", "PIN_TAKEN", "FIELD_NOT_WRITABLE", "FIELD_INVALID"]
    assert [one.field for one in wire] == ["", "", "sex", "event_id"]
    assert wire[0].disputed_paths == ["sex"]
    assert wire[2].message == "The source moh/medical may not write sex: no."
    assert wire[3].message == "event_id must be visible ASCII"


@pytest.mark.parametrize("error", [EventIdReused(), PinTaken(), SandboxPin(), FieldRequired()])
def test_every_rejection_has_a_sentence(error: InvalidField) -> None:
    assert rejected("e-1", error).message.endswith(".")
