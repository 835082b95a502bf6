"""Gathering: who leads, who waits, who gives up, and that nobody is ever forgotten."""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest

from services.mesh.core.errors import DeadlinePassed, Internal, InvalidField, MeshError, Overloaded, StoreUnavailable
from services.mesh.core.gather import Gatherer

PATIENCE = 10.0


def wait_until(claim: Callable[[], bool]) -> None:
    pause, give_up = threading.Event(), time.monotonic() + PATIENCE
    while not claim():
        assert time.monotonic() < give_up, "did not come true in time"
        pause.wait(0.001)


class Work:
    """Answers n with 10 n, one batch at a time, and remembers who worked on what. `hold` stops it inside a batch."""

    def __init__(self, *, queue: int = 100, batch: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.leaders: list[int] = []
        self._free = threading.Event()
        self._free.set()
        self.at_work = 0
        self.most_at_work = 0
        self._askers = ThreadPoolExecutor(64)
        self.gatherer: Gatherer[int, int] = Gatherer(self.run, queue=queue, batch=batch)

    def run(self, questions: Sequence[int]) -> Sequence[int | MeshError]:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            self.batches.append(list(questions))
            self.leaders.append(threading.get_ident())
            assert self._free.wait(PATIENCE)
            return [self.answer(question) for question in questions]
        finally:
            self.at_work -= 1

    def answer(self, question: int) -> int | MeshError:
        return question * 10

    def ask(self, question: int, timeout: float = PATIENCE) -> "Future[int]":
        """Ask from another thread."""
        return self._askers.submit(self.gatherer.ask, question, timeout)

    @contextmanager
    def hold(self, *waiting: int, timeout: float = PATIENCE) -> Iterator[list["Future[int]"]]:
        """One asker (question 0) leads and is held at work; `waiting` then queue up, in order, until the block ends."""
        self._free.clear()
        futures = [self.ask(0)]
        wait_until(lambda: len(self.batches) == 1)
        for place, question in enumerate(waiting, start=1):
            futures.append(self.ask(question, timeout))
            wait_until(lambda place=place: len(self.gatherer._waiting) == place)  # type: ignore[misc]
        yield futures
        self._free.set()


def test_a_lone_asker_works_for_itself_in_its_own_thread() -> None:
    work = Work()
    assert [work.gatherer.ask(n, 1.0) for n in (1, 2)] == [10, 20]
    assert work.batches == [[1], [2]]
    assert set(work.leaders) == {threading.get_ident()}


def test_what_comes_during_a_batch_is_answered_in_the_next_one() -> None:
    work = Work()
    with work.hold(1, 2, 3, 4) as futures:
        pass
    assert [future.result(PATIENCE) for future in futures] == [0, 10, 20, 30, 40]
    assert work.batches == [[0], [1, 2, 3, 4]]


def test_the_lead_goes_to_the_first_who_came_meanwhile_batch_by_batch() -> None:
    work = Work(batch=3)
    threads: dict[int, int] = {}

    def ask_and_tell(question: int) -> int:
        threads[question] = threading.get_ident()
        return work.gatherer.ask(question, PATIENCE)

    with work.hold() as held:
        futures = []
        for question in range(1, 8):
            futures.append(work._askers.submit(ask_and_tell, question))
            wait_until(lambda place=question: len(work.gatherer._waiting) == place)  # type: ignore[misc]
    assert [future.result(PATIENCE) for future in held + futures] == [0, 10, 20, 30, 40, 50, 60, 70]
    assert work.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]
    assert work.leaders[1:] == [threads[1], threads[4], threads[7]]


def test_who_gives_up_waiting_is_not_worked_for() -> None:
    work = Work()
    with work.hold() as held:
        for place in (1, 2, 3):
            with pytest.raises(DeadlinePassed):
                work.gatherer.ask(-place, 0.0)
        patient = work.ask(1)
        wait_until(lambda: len(work.gatherer._waiting) == 4)
        with pytest.raises(DeadlinePassed):
            work.gatherer.ask(-4, 0.01)
        last = work.ask(2)
        wait_until(lambda: len(work.gatherer._waiting) == 6)
    assert [held[0].result(PATIENCE), patient.result(PATIENCE), last.result(PATIENCE)] == [0, 10, 20]
    assert work.batches == [[0], [1, 2]]


def test_when_all_have_given_up_the_next_asker_leads_anew() -> None:
    work = Work()
    with work.hold() as held, pytest.raises(DeadlinePassed):
        work.gatherer.ask(-1, -1.0)
    held[0].result(PATIENCE)
    assert work.gatherer.ask(1, 1.0) == 10
    assert work.batches == [[0], [1]]


def test_who_gives_up_in_the_moment_of_getting_the_lead_still_leads() -> None:
    work = Work()

    class Pausing:
        """The gatherer's mutex; when the first leader has passed the lead on, it waits before it opens the gate."""

        def __init__(self) -> None:
            self.mutex = threading.Lock()
            self.heir: Future[int] | None = None

        def __enter__(self) -> None:
            self.mutex.acquire()

        def __exit__(self, *_: object) -> None:
            self.mutex.release()
            if self.heir and threading.get_ident() == work.leaders[0]:
                wait([self.heir], PATIENCE)

    pausing = Pausing()
    work.gatherer._mutex = pausing  # type: ignore[assignment]
    with work.hold(1, timeout=0.3) as futures:
        pausing.heir = futures[1]
    assert [future.result(PATIENCE) for future in futures] == [0, 10]
    assert work.gatherer.ask(2, 1.0) == 20


def test_a_full_queue_refuses_and_is_open_again_afterwards() -> None:
    work = Work(queue=2)
    with work.hold(1, 2) as futures, pytest.raises(Overloaded) as refused:
        work.gatherer.ask(3, PATIENCE)
    assert refused.value.retry_after is not None
    assert [future.result(PATIENCE) for future in futures] == [0, 10, 20]
    assert work.gatherer.ask(4, 1.0) == 40


class Fragile(Work):
    """Breaks on question 13, refuses question 7."""

    def answer(self, question: int) -> int | MeshError:
        if question == 13:
            raise ValueError("unlucky")
        return InvalidField("question", "must not be 7") if question == 7 else question * 10


def test_one_bad_question_fails_alone() -> None:
    work = Fragile()
    with work.hold(1, 13, 2) as futures:
        pass
    assert [futures[n].result(PATIENCE) for n in (0, 1, 3)] == [0, 10, 20]
    with pytest.raises(ValueError, match="unlucky"):
        futures[2].result(PATIENCE)
    assert work.batches == [[0], [1, 13, 2], [1], [13], [2]]


def test_a_lone_bad_question_is_not_asked_twice() -> None:
    work = Fragile()
    with pytest.raises(ValueError, match="unlucky"):
        work.gatherer.ask(13, 1.0)
    assert work.batches == [[13]]


def test_a_refusal_of_one_is_none_of_the_others() -> None:
    work = Fragile()
    with work.hold(1, 7, 2) as futures:
        pass
    assert [futures[n].result(PATIENCE) for n in (0, 1, 3)] == [0, 10, 20]
    with pytest.raises(InvalidField):
        futures[2].result(PATIENCE)
    assert work.batches == [[0], [1, 7, 2]]


def test_a_mesh_error_of_the_work_is_everybodys_and_nothing_is_asked_again() -> None:
    class Down(Work):
        def answer(self, question: int) -> int | MeshError:
            if question:
                raise StoreUnavailable()
            return 0

    work = Down()
    with work.hold(1, 2, 3) as futures:
        pass
    for future in futures[1:]:
        with pytest.raises(StoreUnavailable):
            future.result(PATIENCE)
    assert work.batches == [[0], [1, 2, 3]]


@pytest.mark.parametrize("answers", [[], [1, 2], [None]])
def test_results_that_do_not_fit_the_questions_are_a_fault(answers: list[int]) -> None:
    gatherer: Gatherer[int, int] = Gatherer(lambda questions: answers, queue=5, batch=5)
    with pytest.raises(RuntimeError) as fault:
        gatherer.ask(1, 1.0)
    assert not isinstance(fault.value, Internal), "the outermost interceptor makes it one, with the request's id"


def test_a_leader_that_is_killed_passes_the_lead_on() -> None:
    class Killed(Work):
        def answer(self, question: int) -> int | MeshError:
            if question == 0:
                raise KeyboardInterrupt
            return question * 10

    work = Killed()
    with work.hold(1, 2) as futures:
        pass
    with pytest.raises(KeyboardInterrupt):
        futures[0].result(PATIENCE)
    assert [future.result(PATIENCE) for future in futures[1:]] == [10, 20]


class Busy(Work):
    """Lets other threads go on in the middle of its work."""

    def answer(self, question: int) -> int | MeshError:
        time.sleep(0)  # gives the processor away, no more
        return super().answer(question)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads change places all the time, also in the middle of the gatherer's own lines."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_no_wake_up_is_lost_under_64_threads() -> None:
    work, asked = Busy(batch=16), 40
    start = threading.Barrier(64)

    def ask_many(first: int) -> bool:
        start.wait(PATIENCE)
        return all(work.gatherer.ask(n, PATIENCE) == n * 10 for n in range(first, first + asked))

    futures = [work._askers.submit(ask_many, thread * asked) for thread in range(64)]
    assert all(future.result(2 * PATIENCE) for future in futures)
    assert sorted(n for batch in work.batches for n in batch) == list(range(64 * asked))
    assert (max(map(len, work.batches)), work.most_at_work) == (16, 1)
    assert work.gatherer.ask(5, 1.0) == 50


@pytest.mark.usefixtures("restless")
def test_giving_up_at_random_never_blocks_the_others() -> None:
    work, asked = Busy(queue=40, batch=8), 40
    start = threading.Barrier(64)

    def ask_many(seed: int) -> dict[str, int]:
        chance, ends = random.Random(seed), {"served": 0, "gave up": 0, "full": 0}
        start.wait(PATIENCE)
        for n in range(asked):
            try:
                assert work.gatherer.ask(n, chance.choice([0.0, 0.0002, 0.002, PATIENCE])) == n * 10
                ends["served"] += 1
            except DeadlinePassed:
                ends["gave up"] += 1
            except Overloaded:
                ends["full"] += 1
        return ends

    futures = [work._askers.submit(ask_many, thread) for thread in range(64)]
    ends = [future.result(2 * PATIENCE) for future in futures]
    for end in ("served", "gave up", "full"):
        assert sum(one[end] for one in ends) > 0, end
    assert work.most_at_work == 1
    assert work.gatherer.ask(5, 1.0) == 50
