"""Random life events through the three source rooms, with rooms killed at random: the NPD and each room agree with a
plain-Python oracle.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from npd.common.v1.person_pb2 import SEX_FEMALE, SEX_MALE
from tests.ring import ROOMS, SOURCES, Human, Ring, open_ring, some_day

_NAMES = st.sampled_from(["Nguyễn Thị Hòa", "Trần Văn Đức", "Y Krông", "Hà Lê Thuỷ", "Phạm Ánh"])
_FAILPOINTS = st.sampled_from(
    [
        "answer.kept",
        "call.answering",
        "relay.read",
        "relay.delivered",
        "relay.settled",
        "follower.received",
        "follower.applied",
        "follower.acknowledged",
    ]
)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    """The ring, in processes that can be killed."""
    with open_ring(tmp_path_factory.mktemp("model"), 24001) as ring:
        yield ring


class Lives(RuleBasedStateMachine):
    """Everybody whom it has born lives in the same ring; each run ends with a comparison of all of its people."""

    def __init__(self, ring: Ring) -> None:
        super().__init__()
        self._ring = ring
        ring.humans = []
        self._numbers = 0
        ring.acts = ring.count("civil_status", "acts")

    @rule(name=_NAMES, female=st.booleans(), years=st.integers(1, 80), mother=st.none() | st.integers(0, 99))
    def birth(self, name: str, female: bool, years: int, mother: int | None) -> None:
        day = some_day(years)
        women = [human for human in self._people() if human.sex == SEX_FEMALE and human.birth_date < day]
        chosen = women[mother % len(women)] if women and mother is not None else None
        self._ring.birth(name, SEX_FEMALE if female else SEX_MALE, day, chosen)

    @precondition(lambda self: self._people())
    @rule(one=st.integers(0, 99), other=st.integers(0, 99))
    def marriage(self, one: int, other: int) -> None:
        self._ring.marry(self._human(one), self._human(other))

    @precondition(lambda self: self._people())
    @rule(who=st.integers(0, 99))
    def death(self, who: int) -> None:
        self._ring.die(self._human(who))

    @precondition(lambda self: self._people())
    @rule(who=st.integers(0, 99))
    def correction(self, who: int) -> None:
        human = self._human(who)
        is_after_mother = human.mother is None or human.birth_date.year - human.mother.birth_date.year > 1
        if not human.is_dead and is_after_mother:
            self._ring.correct(human)

    @precondition(lambda self: self._people())
    @rule(who=st.integers(0, 99))
    def move(self, who: int) -> None:
        self._numbers += 1
        self._ring.move(self._human(who), f"Số {self._numbers} đường Lê Lợi")

    @precondition(lambda self: self._people())
    @rule(who=st.integers(0, 99))
    def card(self, who: int) -> None:
        self._ring.settle()  # a correction on its way would cancel a card issued before it came: both orders are lawful
        self._ring.issue_card(self._human(who), f"M{self._ring.count('identity', 'cards'):08d}")

    @rule(room=st.sampled_from(ROOMS))
    def kill(self, room: str) -> None:
        self._ring.kill(room)

    @rule(room=st.sampled_from(SOURCES), failpoint=_FAILPOINTS)
    def die_at(self, room: str, failpoint: str) -> None:
        self._ring.die_at(room, failpoint)

    def teardown(self) -> None:
        for file in self._ring.failpoints.values():
            file.unlink(missing_ok=True)
        self._ring.settle()
        self._ring.compare()

    def _people(self) -> list[Human]:
        return self._ring.humans

    def _human(self, number: int) -> Human:
        return self._people()[number % len(self._people())]


def test_the_rooms_and_the_record_agree_with_the_oracle_whatever_dies_when(ring: Ring) -> None:
    run_state_machine_as_test(
        lambda: Lives(ring),  # type: ignore[arg-type]  # it calls what it is given
        settings=settings(
            max_examples=6,
            stateful_step_count=20,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # a run with kills is not repeatable to the letter, so there is nothing to shrink
            suppress_health_check=list(HealthCheck),
        ),
    )
