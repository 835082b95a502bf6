"""Gathers concurrent questions into one piece of work: natural batching, no delay when idle, a bounded queue."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from services.mesh.core.errors import DeadlinePassed, MeshError, Overloaded

Question = TypeVar("Question")
Result = TypeVar("Result")


class _Ticket(Generic[Question, Result]):
    """A question in the queue, its asker's gate, and what came of it. The gate opens with an outcome or the lead."""

    __slots__ = ("abandoned", "gate", "leads", "outcome", "question")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.outcome: Result | BaseException | None = None
        self.leads = False
        self.abandoned = False
        self.gate = threading.Lock()
        self.gate.acquire()


class Gatherer(Generic[Question, Result]):
    """Runs `run` over what queued while it last ran, one batch at a time.

    There is no thread of its own: the asker who finds nobody at work leads, works on everybody's questions, and hands
    the lead to the first who came meanwhile. So a lone call changes no thread, and a batch of n wakes n - 1 threads.

    `run` answers every question with a result or an error of its own; if it raises, a batch of several is asked again
    one by one, so that one bad question never fails its neighbours - except for a MeshError, which is everybody's.
    """

    def __init__(
        self, run: Callable[[Sequence[Question]], Sequence[Result | MeshError]], *, queue: int, batch: int
    ) -> None:
        self._run = run
        self._queue_limit = queue
        self._batch_limit = batch
        self._mutex = threading.Lock()
        self._waiting: deque[_Ticket[Question, Result]] = deque()
        self._busy = False

    def ask(self, question: Question, timeout: float) -> Result:
        """The result for one question. Raises its error, Overloaded (queue full), DeadlinePassed (`timeout` s)."""
        ticket: _Ticket[Question, Result] = _Ticket(question)
        with self._mutex:
            if len(self._waiting) >= self._queue_limit:
                raise Overloaded()
            self._waiting.append(ticket)
            if not self._busy:
                self._busy = ticket.leads = True
        if not ticket.leads:
            self._await_gate(ticket, timeout)
        if ticket.leads:
            self._lead()
        outcome = ticket.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            raise RuntimeError("a question was left without an outcome")
        return outcome

    def _await_gate(self, ticket: _Ticket[Question, Result], timeout: float) -> None:
        if ticket.gate.acquire(timeout=max(timeout, 0.0)):
            return
        with self._mutex:
            if ticket.leads or ticket.outcome is not None:
                return  # it was served in the moment of giving up
            ticket.abandoned = True
        raise DeadlinePassed()

    def _lead(self) -> None:
        """Work on one batch (it holds the leader's own question, first in the queue), then pass the lead on."""
        with self._mutex:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_limit))]
            batch = [ticket for ticket in batch if not ticket.abandoned]
        try:
            self._work(batch)
        finally:
            with self._mutex:
                while self._waiting and self._waiting[0].abandoned:
                    self._waiting.popleft()
                heir = self._waiting[0] if self._waiting else None
                if heir is None:
                    self._busy = False
                else:
                    heir.leads = True
            if heir is not None:
                heir.gate.release()

    def _work(self, batch: Sequence[_Ticket[Question, Result]]) -> None:
        try:
            outcomes: Sequence[Result | BaseException] = self._run([ticket.question for ticket in batch])
        except MeshError as error:
            outcomes = [error] * len(batch)
        except Exception as error:
            outcomes = [error] if len(batch) == 1 else [self._alone(ticket.question) for ticket in batch]
        if len(outcomes) != len(batch):
            outcomes = [RuntimeError("there are not as many results as questions")] * len(batch)
        for ticket, outcome in zip(batch, outcomes, strict=True):
            ticket.outcome = outcome
            if not ticket.leads:
                ticket.gate.release()

    def _alone(self, question: Question) -> Result | BaseException:
        try:
            return self._run([question])[0]
        except Exception as error:
            return error
