"""Identifies a citizen by what a caller states, before anything is released; counts mismatches and closes PINs.

Works on psycopg itself and for many questions at once: it stands on the hot path.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from services.mesh.core.db import bytea_array
from services.mesh.core.errors import Kind, MeshError
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.stated import StatedIdentity
from services.sharing.record.resolution import Assertion

MISMATCHES_A_DAY = 5
CONTRADICTIONS_A_DAY = 20

_READ = """
SELECT r.subject_id, r.name_key, r.birth_year, r.birth_month, r.birth_day, r.person, r.disputed, m.count
FROM unnest(%s::text[], %s::bytea[], %s::text[]) WITH ORDINALITY AS claim (pin, pin_mark, system, nth)
LEFT JOIN pins p ON p.pin = claim.pin
LEFT JOIN records r ON r.subject_id = p.subject_id
LEFT JOIN mismatches m ON m.pin_mark = claim.pin_mark AND m.system = claim.system AND m.day = %s
ORDER BY claim.nth"""
_READ_ASSERTIONS = """
SELECT ordinal, path, item_key, source, value, event_time, record_time
FROM assertions WHERE subject_id = %s AND path = ANY(%s)"""
_COUNT_MISMATCHES = """
INSERT INTO mismatches (pin_mark, system, day, count) SELECT pin_mark, system, %s, count
FROM unnest(%s::bytea[], %s::text[], %s::int[]) AS counted (pin_mark, system, count)
ON CONFLICT (pin_mark, system, day) DO UPDATE SET count = mismatches.count + excluded.count"""

_READ_CONTRADICTIONS = """
SELECT coalesce(m.contradictions, 0)
FROM unnest(%s::bytea[], %s::text[]) WITH ORDINALITY AS claim (pin_mark, system, nth)
LEFT JOIN mismatches m ON m.pin_mark = claim.pin_mark AND m.system = claim.system AND m.day = %s
ORDER BY claim.nth"""
_COUNT_CONTRADICTIONS = """
INSERT INTO mismatches (pin_mark, system, day, count, contradictions) SELECT pin_mark, system, %s, 0, count
FROM unnest(%s::bytea[], %s::text[], %s::int[]) AS counted (pin_mark, system, count)
ON CONFLICT (pin_mark, system, day)
DO UPDATE SET contradictions = mismatches.contradictions + excluded.contradictions"""


class PinClosedToday(MeshError):
    """Too many mismatches on the PIN by this system today, or too many contradicted claims."""

    kind, reason = Kind.RESOURCE_EXHAUSTED, "PIN_CLOSED_TODAY"


@dataclass(frozen=True, slots=True)
class Claim:
    """An identity as one system states it; `pin_mark` is the PIN's keyed hash, under which mismatches are counted."""

    system: str
    pin_mark: bytes
    stated: StatedIdentity

    @property
    def key(self) -> tuple[bytes, str]:
        """What guesses are counted against."""
        return self.pin_mark, self.system


@dataclass(frozen=True, slots=True)
class Found:
    """The record of a PIN, matched or not."""

    subject_id: UUID
    is_match: bool
    person: bytes
    disputed: tuple[str, ...]


Finding = Found | PinClosedToday | None
"""None: nobody has the PIN."""


def take_turn(driver: psycopg.Connection[tuple[Any, ...]], claim: Claim) -> None:
    """Wait for others who are identifying by this PIN, and let them wait until the caller's transaction ends.

    So that callers at once have no more guesses than callers in turn. (Lookups take turns by being gathered.)
    """
    driver.execute("SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(claim.pin_mark[:8], signed=True),))


def identify(driver: psycopg.Connection[tuple[Any, ...]], claims: Sequence[Claim], day: date) -> list[Finding]:
    """What stands behind each claim, in their order; one read.

    A PIN that is closed to the system today stays closed even for a claim that would match, or closing it would tell.
    Mismatches among these very claims count too: asking at once gives no more guesses than asking in turn.
    """
    pins = "{" + ",".join([claim.stated.pin for claim in claims]) + "}"  # digits, so nothing to quote
    marks = bytea_array([claim.pin_mark for claim in claims])
    systems = "{" + ",".join([f'"{claim.system}"' for claim in claims]) + "}"  # of the grammar of identities
    with driver.cursor(binary=True) as cursor:
        rows = cursor.execute(_READ, (pins, marks, systems, day)).fetchall()
    findings, more = list[Finding](), Counter[tuple[bytes, str]]()
    for claim, row in zip(claims, rows, strict=True):
        finding = _finding(claim, row, more[claim.key])
        more[claim.key] += finding is None or (isinstance(finding, Found) and not finding.is_match)
        findings.append(finding)
    return findings


def read_assertions(
    driver: psycopg.Connection[tuple[Any, ...]], subject_id: UUID, paths: Iterable[str]
) -> list[Assertion]:
    """All that was ever told for some paths of a subject: for the provenance of what is released."""
    with driver.cursor(binary=True) as cursor:
        cursor.execute(_READ_ASSERTIONS, (subject_id, list(paths)))
        return [Assertion(*row) for row in cursor.fetchall()]


def count_mismatches(driver: psycopg.Connection[tuple[Any, ...]], claims: Sequence[Claim], day: date) -> None:
    """Count claims that did not match, against their systems and PINs; in the caller's transaction."""
    _count(driver, _COUNT_MISMATCHES, Counter(claim.key for claim in claims), day)


def read_contradictions(driver: psycopg.Connection[tuple[Any, ...]], claims: Sequence[Claim], day: date) -> list[int]:
    """How many claims about each PIN were contradicted today to the system that asks; in their order."""
    marks, systems = [claim.pin_mark for claim in claims], [claim.system for claim in claims]
    return [count for (count,) in driver.execute(_READ_CONTRADICTIONS, (marks, systems, day)).fetchall()]


def count_contradictions(
    driver: psycopg.Connection[tuple[Any, ...]], counts: Mapping[tuple[bytes, str], int], day: date
) -> None:
    """Count contradicted claims against PINs and systems (keys of claims); in the caller's transaction."""
    _count(driver, _COUNT_CONTRADICTIONS, counts, day)


def _count(
    driver: psycopg.Connection[tuple[Any, ...]],
    statement: LiteralString,
    counts: Mapping[tuple[bytes, str], int],
    day: date,
) -> None:
    counted = sorted((key, count) for key, count in counts.items() if count)
    if counted:
        columns = [key[0] for key, _ in counted], [key[1] for key, _ in counted], [count for _, count in counted]
        driver.execute(statement, (day, *columns))


def _finding(claim: Claim, row: tuple[Any, ...], more_mismatches: int) -> Finding:
    subject_id, name_key, year, month, day, person, disputed, mismatches = row
    if (mismatches or 0) + more_mismatches >= MISMATCHES_A_DAY:
        return PinClosedToday(limit=MISMATCHES_A_DAY)
    if subject_id is None:
        return None
    stated, birth_date = claim.stated, PartialDate(year, month, day)
    is_match = stated.matches(name_key, birth_date)
    return Found(subject_id, is_match, person, tuple(disputed))
