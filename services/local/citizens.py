"""Puts synthetic citizens into a mesh, contributed as the room `identity` would: with its leaf and its subject ids."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from npd.sharing.v1.contribution_pb2 import ContributionItem, ContributionResult
from npd_client.client import Client
from services.local.errors import LocalError
from services.local.population import Population, SyntheticCitizen

SEED: Final = 2026
AS_OF: Final = date(2026, 9, 1)
"""Fixed, so that the same citizen has the same content on every day: a repeated event is then a duplicate."""

_BATCH: Final = 250
_TIMEOUT: Final = 60.0
_FINE: Final = (ContributionResult.STATUS_APPLIED, ContributionResult.STATUS_DUPLICATE)

Progress = Callable[[int], None]
"""Told how many have been contributed so far."""


class CitizenRefused(LocalError):
    """The record did not take a synthetic citizen; says why."""


@dataclass(frozen=True, slots=True)
class Contributed:
    """How many citizens were contributed, and in how many seconds."""

    count: int
    seconds: float

    @property
    def rate(self) -> float:
        """Citizens a second."""
        return self.count / self.seconds if self.seconds else 0.0


def population(size: int) -> Population:
    """The citizens of the sample; each is the same in a population of any size."""
    return Population(SEED, size, AS_OF)


def contribute(
    sharing: str, credentials: Path, citizens: Population, progress: Progress, *, first: int = 0
) -> Contributed:
    """Contribute citizens from index `first` on to the room at the address `sharing`, in batches.

    `credentials` is a directory with the leaf of the room `identity`. Raises Refusal, CitizenRefused.
    """
    began, done = time.monotonic(), 0
    with Client({"sharing": sharing}, credentials) as client:
        for batch in _batches(citizens.citizen(index) for index in range(first, len(citizens))):
            answer = client.contribute(map(item_of, batch), timeout=_TIMEOUT)
            for result in answer.results:
                _require_taken(result)
            done += len(batch)
            progress(done)
    return Contributed(done, time.monotonic() - began)


def item_of(citizen: SyntheticCitizen) -> ContributionItem:
    """What `identity` tells of a citizen when it has given him his number: every field that is known."""
    item = ContributionItem(
        event_id=f"first-record-{citizen.subject_id}",
        subject_id=str(citizen.subject_id),
        person=citizen.person,
        update_mask=FieldMask(paths=[field.name for field, _ in citizen.person.ListFields()]),
    )
    item.event_time.FromDatetime(citizen.register_time)
    item.register_time.FromDatetime(citizen.register_time)
    return item


def _batches(citizens: Iterator[SyntheticCitizen]) -> Iterator[Sequence[SyntheticCitizen]]:
    while batch := tuple(islice(citizens, _BATCH)):
        yield batch


def _require_taken(result: ContributionResult) -> None:
    if result.status not in _FINE:
        status = ContributionResult.Status.Name(result.status)
        raise CitizenRefused(f"event {result.event_id} was not taken: {status}, {result.field}: {result.message}")
