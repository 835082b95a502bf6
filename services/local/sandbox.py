"""A mesh to try things out on: a local mesh with the sample registered in it and synthetic citizens in its record."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.type.date_pb2 import Date

from npd_client.client import Client
from npd_pki.errors import PkiError
from services.local import citizens
from services.local.citizens import Contributed
from services.local.errors import DirectoryUnusable
from services.local.layout import write_text
from services.local.mesh import LocalMesh
from services.local.population import SyntheticCitizen
from services.local.registration import PolicyLate, Registration
from services.local.sample import PORTAL, SYSTEMS, SampleSystem

_SHARING = "sharing"
_MINTING_ROOM = "identity"
_POLICY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Stated:
    """A citizen as a caller must state him: date as far as it is known, YYYY-MM-DD."""

    pin: str
    full_name: str
    birth_date: str


class Sandbox:
    """Fills a local mesh that is up. What is in it already stays, so that it can be filled at every start."""

    def __init__(self, mesh: LocalMesh) -> None:
        self._mesh = mesh

    def register(self, tell: Callable[[str], None]) -> Mapping[str, str]:
        """Register the sample, and return when every room decides by it; the agreements' ids by system.

        Raises Refusal, PolicyLate.
        """
        self.renew_certificates()
        registry = self._mesh.endpoints["registry"]
        agreements = Registration(self._mesh.layout, registry, tell).register(SYSTEMS)
        self._mesh.wait_policy(self._revision_with(PORTAL, agreements[PORTAL.title]))
        systems = {
            sample.title: {"agreement_id": agreements[sample.title], "officers": list(sample.officers)}
            for sample in SYSTEMS
        }
        self._note(systems=systems)
        return agreements

    def contribute(self, count: int, counted: Callable[[int], None]) -> Contributed:
        """Contribute citizens until there are so many; those of an earlier start are not sent again.

        Raises Refusal, CitizenRefused.
        """
        held, wanted = self.citizens, citizens.population(count)
        credentials = self._mesh.layout.room(_MINTING_ROOM).tls
        contributed = citizens.contribute(self._mesh.endpoints[_SHARING], credentials, wanted, counted, first=held)
        self._note(citizens=max(held, count))
        return contributed

    def renew_certificates(self) -> None:
        """Issue what anybody here lacks, and anew what comes near its end. Raises DirectoryUnusable, OSError."""
        self._mesh.renew_certificates()
        try:
            self._mesh.authority.ensure_room_certificate(_MINTING_ROOM)
            for sample in SYSTEMS:
                self._mesh.authority.ensure_system(sample.agency, sample.system)
        except PkiError as error:
            raise DirectoryUnusable(f"{self._mesh.layout.directory}: {error}") from error

    @property
    def citizens(self) -> int:
        """How many citizens were contributed at earlier starts and this one."""
        return int(self._noted().get("citizens", 0))

    def _revision_with(self, last: SampleSystem, agreement_id: str) -> int:
        """The revision of the policy in which the last agreement is in force."""
        directory, deadline = self._mesh.layout.system(last.agency, last.system).tls, time.monotonic() + _POLICY_SECONDS
        with Client(self._mesh.endpoints, directory) as client:
            while True:
                rights = client.describe_rights()
                if any(one.agreement_id == agreement_id and not one.refusal for one in rights.agreements):
                    return rights.policy_revision
                if time.monotonic() > deadline:
                    raise PolicyLate(f"the agreement of {last.title} is not in force after {_POLICY_SECONDS} s")
                time.sleep(0.02)

    def _noted(self) -> dict[str, Any]:
        place = self._mesh.layout.sample
        noted: dict[str, Any] = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
        return noted

    def _note(self, **facts: object) -> None:
        text = json.dumps(self._noted() | facts, ensure_ascii=False, indent=2)
        write_text(self._mesh.layout.sample, text + "\n")


def a_citizen(start: int = 0) -> SyntheticCitizen:
    """The first citizen from an index on who is grown up and whose birth date is wholly known."""
    people = citizens.population(start + 1000)
    found = (people.citizen(index) for index in range(start, len(people)))
    return next(one for one in found if one.person.birth_date.day and one.person.birth_date.year < 2000)


def stated(citizen: SyntheticCitizen) -> Stated:
    """What a caller must state of a citizen."""
    person = citizen.person
    return Stated(person.pin, person.full_name.full, date_text(person.birth_date))


def date_text(date: Date) -> str:
    """A date as far as it is known."""
    return "-".join([f"{date.year:04}", *(f"{part:02}" for part in (date.month, date.day) if part)])
