"""Issues what a second person has approved, beside the calls."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

import structlog

from services.issuer.domain import Application, Approvable, Origin
from services.issuer.operations.applications import APPLY
from services.issuer.operations.issuing import Issuing
from services.issuer.operations.office import Office
from services.mesh.core.approvals import ApprovalAltered
from services.mesh.core.background import Stopping
from services.mesh.core.errors import StoreUnavailable
from services.mesh.core.logs import describe

log = structlog.get_logger(__name__)

_EVERY = 1.0
_AT_ONCE = 1000
_LONGEST_PAUSE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Failure:
    attempts: int
    due_time: datetime
    reason: str


class Issuance:
    """Looks for approved applications when woken and every few seconds. `approvable` is what their approvers read."""

    def __init__(self, office: Office, issuing: Issuing, approvable: Callable[[Application], Approvable]) -> None:
        self._office = office
        self._issuing = issuing
        self._approvable = approvable
        self._pending = threading.Event()
        self._failed: dict[UUID, _Failure] = {}

    def wake(self) -> None:
        """Somebody has decided: look now."""
        self._pending.set()

    def run(self, stopping: Stopping) -> None:
        """Issue until told to stop."""
        while not stopping.is_set():
            self._pending.clear()
            self.step(stopping)
            self._pending.wait(_EVERY)

    def step(self, stopping: Stopping) -> None:
        """Issue what is approved, each for itself: one that cannot be issued holds up no other, and is tried again.

        Raises StoreUnavailable.
        """
        now = self._office.clock.now()
        with self._office.database.transaction() as tx:
            approved = tx.applications.approved(now, _AT_ONCE)
        self._failed = {known: failure for known, failure in self._failed.items() if known in set(approved)}
        for application_id in approved:
            failure = self._failed.get(application_id)
            if stopping.is_set():
                return
            if failure is not None and now < failure.due_time:
                continue
            try:
                self._issue(application_id)
            except StoreUnavailable:
                raise
            except Exception as error:  # whatever it is, the others are not to wait for it
                self._note(application_id, failure, error, now)

    def _issue(self, application_id: UUID) -> None:
        """1. What was approved is still this very application. 2. Issue it. Raises ApprovalAltered, and what it may."""
        application = self._issuing.shown(application_id).application
        with self._office.database.transaction() as tx:  # (1)
            approval = tx.approvals.find(application_id, self._office.clock.now())
        approval.require_of(self._approvable(application).digest)
        if sha256(application.csr).digest() != application.csr_digest:
            raise ApprovalAltered(approval=application_id)
        actor = application.identity if application.origin is Origin.ENROLLED else application.applicant
        self._issuing.issue(application_id, APPLY, actor)  # (2)

    def _note(self, application_id: UUID, before: _Failure | None, error: Exception, now: datetime) -> None:
        attempts = before.attempts + 1 if before else 1
        pause = min(_LONGEST_PAUSE, timedelta(seconds=2.0 ** min(attempts, 20)))
        reason = describe(error)[-1]
        if before is None or before.reason != reason:
            log.error("an approved application cannot be issued yet", application=str(application_id), fault=reason)
        self._failed[application_id] = _Failure(attempts, now + pause, reason)
