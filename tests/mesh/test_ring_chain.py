"""A death, followed through the rooms with `npd chain show`: what led to what, and whether the law's time was kept."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest

from npd.common.v1.person_pb2 import SEX_FEMALE, SEX_MALE
from services.local.sample import OPERATORS
from tests.mesh.test_cli_operators import Answer, run
from tests.mesh_fixture import today, wait_until
from tests.ring import ROOMS, Ring, open_ring, some_day

_TOLD_OF_DEATH = "civil_status.register_death"


@dataclass(frozen=True)
class Death:
    """A death that was registered, and the ring in which it was."""

    ring: Ring
    act_id: str

    def show(self, *words: str) -> Answer:
        """What `npd chain show` makes of it, as a process of its own."""
        operator = self.ring.mesh.layout.operator(OPERATORS[0]).tls
        return run("chain", "show", self.act_id, *words, NPDCTL_DIRECTORY=str(operator))

    def links(self) -> Counter[str]:
        """The links that the rooms tell, by act."""
        return Counter(link.act for room in ROOMS for link in self.ring.cast.operator.links(room, self.act_id))


@pytest.fixture(scope="module")
def death(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Death]:
    """A married man who heads a household and holds a card dies, and everything follows."""
    with open_ring(tmp_path_factory.mktemp("chain"), 27201) as ring:
        ring.mesh.publish()
        wife = ring.birth("Lê Thị Mai", SEX_FEMALE, some_day(40))
        husband = ring.birth("Trần Văn Đức", SEX_MALE, some_day(42))
        ring.marry(wife, husband)
        ring.move(husband, "Số 1 đường Lê Lợi")
        ring.issue_card(husband, "C00000001")
        ring.settle()
        registrar = ring.cast.registrar
        registered = ring.insist(lambda: registrar.register_death(husband.stated, today(), entry="KT-1"))
        ring.settle()
        yield Death(ring, registered.act.act_id)
