"""The use case of verification: verify the identity, judge the claims, record; for many questions at once."""

from collections import Counter
from collections.abc import Callable, Sequence
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
from services.sharing.record.identification import (
    CONTRADICTIONS_A_DAY,
    Claim,
    Found,
    PinClosedToday,
    count_contradictions,
    count_mismatches,
    identify,
    read_assertions,
    read_contradictions,
)
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
        2. The stated identities are looked up together. One that does not match is counted and recorded at once, as for
           a lookup; of a PIN with too many contradicted claims nothing is looked up.
        3. A match gets a verdict on every claim; one about a field that is not granted never touches the record.
           Judging holds no connection: lookups go on meanwhile.
        4. The contradicted claims are counted and the entries of these answers committed. Only then does any leave.

        Raises StoreUnavailable: then nobody is answered.
        """
        policy, day = self._policy(), legal_date(self._clock.now())
        questions = [self._confirm(one, policy, day) for one in asked]  # (1)
        if all(isinstance(one, MeshError) for one in questions):
            return [one for one in questions if isinstance(one, MeshError)]
        with self._store.use() as driver:
            found = self._identify(driver, questions, day)  # (2)
        answers, guesses = list[_Decided | Verdicts | MeshError](), Counter[tuple[bytes, str]]()
        for one in found:
            answer = (
                self._judge(one, guesses[one.confirmed.claim.key], day) if isinstance(one, _Matched) else one
            )  # (3)
            if isinstance(answer, _Decided):
                guesses[answer.claim.key] += answer.verdicts.contradicted_count
            answers.append(answer)
        sealed = [one.sealed for one in answers if isinstance(one, _Decided)]
        if sealed:
            with self._store.use() as driver, driver.transaction():  # (4)
                count_contradictions(driver, guesses, day)
                log.append(driver, sealed)
        return [one.verdicts if isinstance(one, _Decided) else one for one in answers]

    def _confirm(self, asked: Verification, policy: Policy, day: date) -> "_Confirmed | MeshError":
        caller, access = asked.caller, asked.access
        try:
            ground = policy.authorise(caller.agency_id, caller.system_id, access, Mode.VERIFY, (), day)
            granted = policy.usable_paths(policy.agreements[access.agreement_id], Mode.VERIFY, day)
        except MeshError as refusal:
            return refusal
        claim = Claim(caller.name, self._sealer.mark(asked.identity.pin), asked.identity)
        return _Confirmed(asked, ground, asked.paths & granted, claim)

    def _identify(
        self, driver: _Driver, questions: Sequence["_Confirmed | MeshError"], day: date
    ) -> list["_Matched | Verdicts | MeshError"]:
        confirmed = [one for one in questions if isinstance(one, _Confirmed)]
        counts = read_contradictions(driver, [one.claim for one in confirmed], day)
        is_open = [one for one, count in zip(confirmed, counts, strict=True) if count < CONTRADICTIONS_A_DAY]
        findings = iter(identify(driver, [one.claim for one in is_open], day))
        states, mismatched, counted = list[_Matched | Verdicts | MeshError](), list[_Decided](), iter(counts)
        for one in questions:
            if isinstance(one, MeshError):
                states.append(one)
                continue
            contradictions = next(counted)
            finding = next(findings) if contradictions < CONTRADICTIONS_A_DAY else _closed()
            if isinstance(finding, MeshError):
                states.append(finding)
            elif finding is not None and finding.is_match:
                states.append(_Matched(one, finding, _told(driver, one, finding), contradictions))
            else:
                mismatched.append(self._decided(one, Outcome.NO_MATCH, finding))
                states.append(mismatched[-1].verdicts)
        if mismatched:
            with driver.transaction():
                count_mismatches(driver, [one.claim for one in mismatched], day)
                log.append(driver, [one.sealed for one in mismatched])
        return states

    def _judge(self, one: "_Matched", more_contradictions: int, day: date) -> "_Decided | MeshError":
        if one.contradictions + more_contradictions >= CONTRADICTIONS_A_DAY:
            return _closed()
        return self._decided(one.confirmed, Outcome.DISCLOSED, one.found, *_verdicts(one, day))

    def _decided(
        self,
        one: "_Confirmed",
        outcome: Outcome,
        found: Found | None,
        fields: tuple[tuple[str, Verdict], ...] = (),
        predicates: tuple[Verdict, ...] = (),
    ) -> "_Decided":
        subject_id = found.subject_id if found else None
        entry = Entry(one.asked.caller, one.asked.method, outcome, one.ground, subject_id, sorted(one.granted))
        sealed = self._sealer.seal(entry)
        return _Decided(Verdicts(outcome, self._sealer.receipt(sealed), fields, predicates), sealed, one.claim)


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """A question whose ground is confirmed, and those of its fields that are granted."""

    asked: Verification
    ground: Ground
    granted: frozenset[str]
    claim: Claim


@dataclass(frozen=True, slots=True)
class _Matched:
    """A question about a citizen who is identified; `told`: paths claimed to be empty of which some source told."""

    confirmed: _Confirmed
    found: Found
    told: frozenset[str]
    contradictions: int


@dataclass(frozen=True, slots=True)
class _Decided:
    verdicts: Verdicts
    sealed: SealedEntry
    claim: Claim


def _closed() -> PinClosedToday:
    return PinClosedToday(limit=CONTRADICTIONS_A_DAY)


def _told(driver: _Driver, one: _Confirmed, found: Found) -> frozenset[str]:
    nothing = [claim.path for claim in one.asked.claims if claim.claims_none and claim.path in one.granted]
    return (
        frozenset(told.path for told in read_assertions(driver, found.subject_id, nothing)) if nothing else frozenset()
    )


def _verdicts(one: _Matched, day: date) -> tuple[tuple[tuple[str, Verdict], ...], tuple[Verdict, ...]]:
    """The verdicts on the claimed fields and on the predicates, from the granted fields of the record alone."""
    granted, asked, found = one.confirmed.granted, one.confirmed.asked, one.found
    record = select(found.person, granted)

    def unless_barred(path: str, verdict: Callable[[], Verdict]) -> Verdict:
        if path not in granted:
            return Verdict.NOT_GRANTED
        return Verdict.DISPUTED if path in found.disputed else verdict()

    def of_predicate(predicate: Predicate) -> Verdict:
        return unless_barred(predicate.path, lambda: judge_predicate(predicate, record, day))

    def of_claim(claim: Claimed) -> Verdict:
        return unless_barred(claim.path, lambda: judge_field(claim, record, was_told=claim.path in one.told))

    fields = tuple((claim.path, of_claim(claim)) for claim in asked.claims)
    return fields, tuple(of_predicate(predicate) for predicate in asked.predicates)
