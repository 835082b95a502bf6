"""The vocabulary of method tables."""

import pytest

from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.methods import Rule, Who, agency, allow, operator, room

TAX = Caller("spiffe://agency.test/tax/core", CallerKind.AGENCY, "tax/core", "tax", "core")
SHARING = Caller("spiffe://mesh.test/sharing", CallerKind.ROOM, "sharing")
REGISTRY = Caller("spiffe://mesh.test/registry", CallerKind.ROOM, "registry")
LAN = Caller("spiffe://operator.test/lan", CallerKind.OPERATOR, "lan")


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        (allow(), []),
        (allow(agency()), [TAX]),
        (allow(operator()), [LAN]),
        (allow(room()), [SHARING, REGISTRY]),
        (allow(room("registry")), [REGISTRY]),
        (allow(room("registry", "sharing"), operator()), [SHARING, REGISTRY, LAN]),
        (allow(agency(), any_state=True), [TAX]),
    ],
)
def test_a_rule_admits_whom_it_names_and_nobody_else(rule: Rule, admitted: list[Caller]) -> None:
    assert [caller for caller in (TAX, SHARING, REGISTRY, LAN) if rule.admits(caller)] == admitted


def test_a_system_or_an_operator_named_like_a_room_is_no_room() -> None:
    for kind in (CallerKind.AGENCY, CallerKind.OPERATOR):
        assert not allow(room("registry")).admits(Caller("spiffe://x", kind, "registry"))


def test_a_rule_reads_as_it_is_written() -> None:
    assert str(allow(room("sharing", "registry"), agency())) == "room(registry, sharing) | agency()"
    assert str(allow(operator(), any_state=True)) == "operator() in any state"
    assert str(allow(operator(), approvals=2)) == "operator() with 2 approvals"


@pytest.mark.parametrize(
    ("who", "approvals", "any_state"),
    [
        ((operator(),), 0, False),
        ((operator(),), 3, False),
        ((agency(),), 2, False),
        ((operator(), agency()), 2, False),
        ((room("registry"),), 2, False),
        ((operator(),), 2, True),
    ],
)
def test_only_a_method_of_operators_on_the_list_can_need_a_second_person(
    who: tuple[Who, ...], approvals: int, any_state: bool
) -> None:
    with pytest.raises(ValueError, match="person"):
        allow(*who, any_state=any_state, approvals=approvals)
