"""The use case of lookups: verify, release, record; for many questions at once."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias

import psycopg

from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.db import DirectConnection
from services.mesh.core.errors import MeshError
from services.mesh.core.evidence import log
from services.mesh.core.evidence.entry import Entry, Outcome, SealedEntry, Sealer
from services.mesh.core.rights import FieldDefinition, Ground, Mode, Policy
from services.sharing.lookup.domain import Disclosure, Lookup, Provenance
from services.sharing.record.fields import select
from services.sharing.record.identification import Claim, Finding, Found, count_mismatches, identify, read_assertions
from services.sharing.record.resolution import resolve_all

Fields: TypeAlias = Mapping[str, FieldDefinition]
_Driver = psycopg.Connection[tuple[Any, ...]]


class LookingUp:
    """Answers lookups."""

    def __init__(
        self,
        store: DirectConnection,
        policy: Callable[[], Policy],
        sealer: Sealer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._policy = policy
        self._sealer = sealer
        self._clock = clock

    def get_citizens(self, lookups: Sequence[Lookup]) -> list[Disclosure | MeshError]:
        """Answer each question, in order; a refusal of one is none of the others'.

        1. The ground of each question is confirmed by the policy in force: agreement, officer, fields.
        2. The stated identities are looked up together.
        3. A match releases the named fields, and those alone; anything else releases nothing and is counted.
        4. The entries of all answers are committed. Only then does any answer leave.

        Raises StoreUnavailable: then nobody is answered.
        """
        policy, day = self._policy(), legal_date(self._clock.now())
        questions = [self._confirm(lookup, policy, day) for lookup in lookups]  # (1)
        fields = policy.fields_in_force(day) if any(lookup.include_provenance for lookup in lookups) else {}
        confirmed = [one for one in questions if isinstance(one, _Confirmed)]
        if not confirmed:
            return [one for one in questions if isinstance(one, MeshError)]
        with self._store.use() as driver:
            findings = iter(identify(driver, [one.claim for one in confirmed], day))  # (2)
            answers = [
                one if isinstance(one, MeshError) else self._decide(driver, one, next(findings), fields)  # (3)
                for one in questions
            ]
            decided = [one for one in answers if isinstance(one, _Decided)]
            mismatches = [one.claim for one in decided if one.is_mismatch]
            with driver.transaction() if mismatches else nullcontext():  # (4)
                count_mismatches(driver, mismatches, day)
                log.append(driver, [one.sealed for one in decided])
        return [one if isinstance(one, MeshError) else one.disclosure for one in answers]

    def _confirm(self, lookup: Lookup, policy: Policy, day: date) -> "_Confirmed | MeshError":
        caller = lookup.caller
        try:
            ground = policy.authorise(caller.agency_id, caller.system_id, lookup.access, Mode.LOOKUP, lookup.paths, day)
        except MeshError as refusal:
            return refusal
        claim = Claim(caller.name, self._sealer.mark(lookup.identity.pin), lookup.identity)
        return _Confirmed(lookup, ground, claim)

    def _decide(self, driver: _Driver, one: "_Confirmed", finding: Finding, fields: Fields) -> "_Decided | MeshError":
        if isinstance(finding, MeshError):
            return finding
        lookup, is_match = one.lookup, finding is not None and finding.is_match
        sealed = self._sealer.seal(
            Entry(
                caller=lookup.caller,
                method=lookup.method,
                outcome=Outcome.DISCLOSED if is_match else Outcome.NO_MATCH,
                ground=one.ground,
                subject_id=finding.subject_id if finding else None,
                paths=lookup.paths,
            )
        )
        receipt = self._sealer.receipt(sealed)
        if finding is None or not finding.is_match:
            return _Decided(Disclosure(Outcome.NO_MATCH, receipt), sealed, one.claim, is_mismatch=True)
        tops = {path.partition(".")[0] for path in lookup.paths}
        disclosure = Disclosure(
            outcome=Outcome.DISCLOSED,
            receipt=receipt,
            citizen=select(finding.person, lookup.paths),
            disputed_paths=tuple(path for path in finding.disputed if path in tops),
            provenance=_provenance(driver, finding, tops, fields) if lookup.include_provenance else (),
        )
        return _Decided(disclosure, sealed, one.claim, is_mismatch=False)


@dataclass(frozen=True, slots=True)
class _Confirmed:
    lookup: Lookup
    ground: Ground
    claim: Claim


@dataclass(frozen=True, slots=True)
class _Decided:
    disclosure: Disclosure
    sealed: SealedEntry
    claim: Claim
    is_mismatch: bool


def _provenance(driver: _Driver, found: Found, paths: set[str], fields: Fields) -> tuple[Provenance, ...]:
    resolved = resolve_all(read_assertions(driver, found.subject_id, paths), fields)
    return tuple(
        Provenance(current.path, current.item_key, current.source, current.event_time, current.record_time)
        for resolution in resolved.values()
        if (current := resolution.current) is not None
    )
