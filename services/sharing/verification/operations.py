"""The use case of verification: verify the identity, judge the claims, record; for many questions at once."""

from collections.abc import Callable, Sequence
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
from services.mesh.core.rights import Ground, Mode, Policy
from services.sharing.record.fields import select
from services.sharing.record.identification import Claim, Finding, Found, count_mismatches, identify, read_assertions
from services.sharing.verification.domain import (
    Claimed,
    Predicate,
    Verdict,
    Verdicts,
    Verification,
    judge_field,
    judge_predicate,
)

_Driver: TypeAlias = psycopg.Connection[tuple[Any, ...]]


class Verifying:
    """Judges claims."""

    def __init__(self, store: DirectConnection, policy: Callable[[], Policy], sealer: Sealer, clock: Clock) -> None:
        self._store = store
        self._policy = policy
        self._sealer = sealer
        self._clock = clock

    def verify_citizens(self, asked: Sequence[Verification]) -> list[Verdicts | MeshError]:
        """Answer each question, in order; a refusal of one is none of the others'.

        1. The ground of each question is confirmed by the policy in force: an agreement in mode VERIFY.
        2. The stated identities are looked up together.
        3. A match gets a verdict on every claim; one about a field that is not granted never touches the record.
           Anything else gets none and is counted, as for a lookup.
        4. The entries of all answers are committed. Only then does any answer leave.

        Raises StoreUnavailable: then nobody is answered.
        """
        policy, day = self._policy(), legal_date(self._clock.now())
        questions = [self._confirm(one, policy, day) for one in asked]  # (1)
        confirmed = [one for one in questions if isinstance(one, _Confirmed)]
        if not confirmed:
            return [one for one in questions if isinstance(one, MeshError)]
        with self._store.use() as driver:
            findings = iter(identify(driver, [one.claim for one in confirmed], day))  # (2)
            answers = [
                one if isinstance(one, MeshError) else self._decide(driver, one, next(findings), day)  # (3)
                for one in questions
            ]
            decided = [one for one in answers if isinstance(one, _Decided)]
            mismatches = [one.claim for one in decided if one.verdicts.outcome is Outcome.NO_MATCH]
            with driver.transaction() if mismatches else nullcontext():  # (4)
                count_mismatches(driver, mismatches, day)
                log.append(driver, [one.sealed for one in decided])
        return [one if isinstance(one, MeshError) else one.verdicts for one in answers]

    def _confirm(self, asked: Verification, policy: Policy, day: date) -> "_Confirmed | MeshError":
        caller, access = asked.caller, asked.access
        try:
            ground = policy.authorise(caller.agency_id, caller.system_id, access, Mode.VERIFY, (), day)
            granted = policy.usable_paths(policy.agreements[access.agreement_id], Mode.VERIFY, day)
        except MeshError as refusal:
            return refusal
        claim = Claim(caller.name, self._sealer.mark(asked.identity.pin), asked.identity)
        return _Confirmed(asked, ground, asked.paths & granted, claim)

    def _decide(self, driver: _Driver, one: "_Confirmed", finding: Finding, day: date) -> "_Decided | MeshError":
        if isinstance(finding, MeshError):
            return finding
        is_match = finding is not None and finding.is_match
        sealed = self._sealer.seal(
            Entry(
                caller=one.asked.caller,
                method=one.asked.method,
                outcome=Outcome.DISCLOSED if is_match else Outcome.NO_MATCH,
                ground=one.ground,
                subject_id=finding.subject_id if finding else None,
                paths=sorted(one.granted),
            )
        )
        receipt = self._sealer.receipt(sealed)
        if finding is None or not finding.is_match:
            return _Decided(Verdicts(Outcome.NO_MATCH, receipt), sealed, one.claim)
        fields, predicates = _judge(driver, one, finding, day)
        return _Decided(Verdicts(Outcome.DISCLOSED, receipt, fields, predicates), sealed, one.claim)


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """A question whose ground is confirmed, and those of its fields that are granted."""

    asked: Verification
    ground: Ground
    granted: frozenset[str]
    claim: Claim


@dataclass(frozen=True, slots=True)
class _Decided:
    verdicts: Verdicts
    sealed: SealedEntry
    claim: Claim


def _judge(
    driver: _Driver, one: _Confirmed, found: Found, day: date
) -> tuple[tuple[tuple[str, Verdict], ...], tuple[Verdict, ...]]:
    """The verdicts on the claimed fields and on the predicates, from the granted fields of the record alone."""
    record, asked = select(found.person, one.granted), one.asked
    nothing = [claim.path for claim in asked.claims if claim.claims_none and claim.path in one.granted]
    told = {one.path for one in read_assertions(driver, found.subject_id, nothing)} if nothing else set()

    def unless_barred(path: str, verdict: Callable[[], Verdict]) -> Verdict:
        if path not in one.granted:
            return Verdict.NOT_GRANTED
        return Verdict.DISPUTED if path in found.disputed else verdict()

    def of_predicate(predicate: Predicate) -> Verdict:
        return unless_barred(predicate.path, lambda: judge_predicate(predicate, record, day))

    def of_claim(claim: Claimed) -> Verdict:
        return unless_barred(claim.path, lambda: judge_field(claim, record, was_told=claim.path in told))

    fields = tuple((claim.path, of_claim(claim)) for claim in asked.claims)
    return fields, tuple(of_predicate(predicate) for predicate in asked.predicates)
