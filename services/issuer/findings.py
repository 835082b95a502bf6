"""What the mesh thinks of a certificate, and the sentences that say so. Decides nothing: `diagnosis` does."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from importlib import resources
from typing import TypeAlias

import yaml

_LONGEST = 200
_SPANS = (("DAYS", timedelta(days=1)), ("HOURS", timedelta(hours=1)), ("MINUTES", timedelta(minutes=1)))


class Finding(Enum):
    """What the mesh thinks of a certificate, with the numbers of npd.issuer.v1.Finding."""

    ACCEPTED = 1
    EXPIRED = 2
    NOT_YET_VALID = 3
    ROOT_FOREIGN = 4
    INTERMEDIATE_MISSING = 5
    REVOKED = 6
    USAGE = 7
    IS_AUTHORITY = 8
    IDENTITY_MALFORMED = 9
    ENVIRONMENT_FOREIGN = 10
    ISSUER_NOT_ENTITLED = 11
    AUTHORITY_GIVEN_UP = 12
    ISSUER_EXPIRED = 13
    SYSTEM_UNKNOWN = 14
    SYSTEM_SUSPENDED = 15
    OPERATOR_UNKNOWN = 16
    SIGNATURE_INVALID = 17
    RENEW_NOW = 18


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words within a sentence that each language has its own of, by their key in findings.yaml."""

    key: str
    facts: Mapping[str, "Fact"]


Fact: TypeAlias = str | int | datetime | timedelta | Phrase


@dataclass(frozen=True, slots=True)
class Found:
    """A finding and the facts that its sentence names."""

    finding: Finding
    facts: Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A finding in words: what is wrong, and what to do."""

    finding: Finding
    english: str
    vietnamese: str


@cache
def catalogue() -> Mapping[str, Mapping[str, str]]:
    """The texts of findings.yaml: finding or phrase -> language -> sentence with braces for facts."""
    text = resources.files(__package__).joinpath("findings.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Mapping[str, str]] = yaml.safe_load(text)
    return loaded


def explain(found: Found) -> Explanation:
    """A finding in words."""
    english, vietnamese = (_sentence(found.finding.name, found.facts, language) for language in ("en", "vi"))
    return Explanation(found.finding, english, vietnamese)


def _sentence(key: str, facts: Mapping[str, Fact], language: str) -> str:
    return catalogue()[key][language].format_map({name: _words(fact, language) for name, fact in facts.items()})


def _words(fact: Fact, language: str) -> str:
    match fact:
        case datetime():
            return f"{fact.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        case timedelta():
            key, unit = next((span for span in _SPANS if fact >= 2 * span[1]), _SPANS[-1])
            return _sentence(key, {"count": max(fact // unit, 0)}, language)
        case Phrase():
            return _sentence(fact.key, fact.facts, language)
    # names come out of the certificate, which anybody may have made
    plain = "".join(letter if letter.isprintable() else "?" for letter in str(fact))
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."
