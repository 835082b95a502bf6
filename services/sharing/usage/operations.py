"""The use cases of usage: the log's entries about a citizen, and what officers read in source rooms put into it."""

from collections.abc import Callable, Sequence
from uuid import UUID

from services.mesh.core.caller import Caller
from services.mesh.core.clock import CLOCKS_APART, Clock, legal_date
from services.mesh.core.db import Database
from services.mesh.core.errors import InvalidField, MeshError
from services.mesh.core.evidence.entry import Entry, Outcome, Sealer
from services.mesh.core.evidence.log import StoredEntry
from services.mesh.core.person.stated import StatedIdentity
from services.mesh.core.rights import Access, Agreement, Mode, Policy
from services.sharing.record.identification import Claim, count_mismatches, identify, take_turn
from services.sharing.unit import Sharing
from services.sharing.usage.domain import Usage, Use


class FindingUsage:
    """Shows a citizen who used his record."""

    def __init__(
        self,
        database: Database[Sharing],
        policy: Callable[[], Policy],
        sealer: Sealer,
        clock: Clock,
    ) -> None:
        self._db = database
        self._policy = policy
        self._sealer = sealer
        self._clock = clock

    def find_usage(
        self,
        caller: Caller,
        method: str,
        access: Access,
        identity: StatedIdentity,
        page_size: int,
        before: int | None,
    ) -> Usage:
        """The uses of a citizen's record, newest first; those without a position yet stand on the first page.

        1. The ground is confirmed: an agreement in mode USAGE.
        2. The stated identity must match, as for a lookup.
        3. This call is itself recorded, in the same transaction.

        Raises what `Policy.authorise` raises, PinClosedToday, StoreUnavailable.
        """
        day = legal_date(self._clock.now())
        ground = self._policy().authorise(caller.agency_id, caller.system_id, access, Mode.USAGE, ("pin",), day)  # (1)
        claim = Claim(caller.name, self._sealer.mark(identity.pin), identity)
        with self._db.transaction() as tx:
            take_turn(tx.driver, claim)
            [finding] = identify(tx.driver, [claim], day)  # (2)
            if isinstance(finding, MeshError):
                raise finding
            subject_id = finding.subject_id if finding else None
            is_match = finding is not None and finding.is_match
            outcome = Outcome.DISCLOSED if is_match else Outcome.NO_MATCH
            uses, next_before = list[StoredEntry](), None
            if finding is None or not is_match:
                count_mismatches(tx.driver, [claim], day)
            else:
                pseudonym = self._sealer.pseudonym(finding.subject_id)
                uses, next_before = tx.log.of_subject(pseudonym, before=before, limit=page_size)
            receipt = tx.log.record(Entry(caller, method, outcome, ground, subject_id, ("pin",)))  # (3)
        return Usage(outcome, receipt, tuple(uses), next_before)


class RecordingUses:
    """Takes in uses."""

    def __init__(self, database: Database[Sharing], policy: Callable[[], Policy], clock: Clock) -> None:
        self._db = database
        self._policy = policy
        self._clock = clock

    def record_uses(self, room: Caller, uses: Sequence[Use]) -> None:
        """Record each use that this room has not told before; when this returns all are durable.

        The entry is of the system that read, as the room asserts; it names the room and the time of the reading, since
        the entry's own time is now. What it asserts must not contradict the policy: an agreement that is known is the
        reader's, with its purpose and provision. One that is not known any more is taken: uses come late.

        Raises InvalidField for a use that lies ahead or contradicts the policy, and then records none.
        """
        now, policy = self._clock.now(), self._policy()
        for use in uses:
            _require_ground(use, policy.agreements.get(use.ground.access.agreement_id))
        if any(use.use_time > now + CLOCKS_APART for use in uses):
            raise InvalidField("uses.use_time", "must not lie in the future")
        by_id: dict[UUID, Use] = {}
        for use in uses:
            by_id.setdefault(use.use_id, use)
        with self._db.transaction() as tx:
            new = tx.uses.note(room.name, by_id.keys(), now)
            tx.log.record_all([_entry(room, by_id[use_id]) for use_id in by_id if use_id in new])


def _require_ground(use: Use, agreement: Agreement | None) -> None:
    if agreement is None:
        return
    if (agreement.agency_id, agreement.system_id) != (use.reader.agency_id, use.reader.system_id):
        raise InvalidField("uses.access.agreement_id", "must be an agreement of the system that read")
    if use.ground.purpose != agreement.purpose:
        raise InvalidField("uses.purpose", "must be that of the agreement")
    if use.ground.provision != agreement.provision:
        raise InvalidField("uses.provision", "must be that of the agreement")


def _entry(room: Caller, use: Use) -> Entry:
    told = f"use {use.use_id} at {use.use_time.isoformat()}, told by {room.identity}"
    return Entry(use.reader, use.method, use.outcome, use.ground, use.subject_id, use.paths, object=told)
