"""The registry is away: the others decide by what they hold of its policy, say so, and stop where it grows too old."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import grpc
import pytest

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.evidence_pb2 import Outcome
from npd.registry.v1 import agency_pb2, agency_pb2_grpc
from npd.sharing.v1.contribution_pb2 import ContributionResult
from npd_client.channel import RotatingChannel
from npd_client.client import Client
from npd_client.errors import Refusal
from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local import citizens
from services.local.mesh import LocalMesh, MeshSettings
from services.local.sample import OPERATORS, TAX
from services.local.sandbox import Sandbox, a_citizen, stated
from tests.mesh_fixture import wait_until

_DEGRADED_AFTER = {"NPD_POLICY_STALE_AFTER": "PT4S"}  # signs of life come every 3 s


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the mesh, which each test starts anew."""
    return tmp_path_factory.mktemp("mesh") / "npd"


class Mesh:
    """A mesh that is up, and the tax administration as a client of its sharing room."""

    def __init__(self, local: LocalMesh, agreement_id: str) -> None:
        self.local = local
        self.access = AccessContext(agreement_id=agreement_id, case_reference="HS-1", officer_id=TAX.officers[0])
        self._citizen = stated(a_citizen())

    def look_up(self) -> None:
        """A lookup that must be answered, on a new connection. Raises Refusal."""
        citizen = self._citizen
        with Client(self.local.endpoints, self.local.layout.system(TAX.agency, TAX.system).tls) as client:
            answer = client.get_citizen(
                self.access, citizen.pin, citizen.full_name, citizen.birth_date, ["full_name"], timeout=10
            )
        assert answer.outcome == Outcome.OUTCOME_DISCLOSED

    def is_answered(self) -> bool:
        """Whether a lookup is answered."""
        return self.refusal() is None

    def refusal(self) -> Refusal | None:
        """What refuses a lookup."""
        try:
            self.look_up()
        except Refusal as refusal:
            return refusal
        return None

    def readiness(self) -> Any:
        """What the sharing room says of itself; nothing while it does not run."""
        address = urlsplit(self.local.probes["sharing"])
        connection = HTTPConnection(address.hostname or "", address.port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return json.loads(connection.getresponse().read())
        except (OSError, HTTPException):
            return {"ready": False, "not_ready": {}, "degraded": {}}
        finally:
            connection.close()

    @contextmanager
    def without_registry(self) -> Iterator[None]:
        """The registry is killed, and whenever it is started again it finds no address of its database and ends."""
        url = self.local.layout.room("registry").database_url
        away = url.rename(url.with_suffix(".away"))
        self.local.kill("registry")
        try:
            yield
        finally:
            away.rename(url)
            self.local.wait_ready("registry")


@contextmanager
def up(directory: Path, **variables: str) -> Iterator[Mesh]:
    """The mesh with the sample registered; further NPD_* variables are for the sharing room."""
    settings = MeshSettings(first_port=25001, room_variables={"sharing": _DEGRADED_AFTER | variables})
    with LocalMesh(directory, discover(), prepare=prepare_store, operators=OPERATORS, settings=settings) as local:
        sandbox = Sandbox(local)
        agreements = sandbox.register(lambda _: None)
        sandbox.contribute(200, lambda _: None)
        yield Mesh(local, agreements[TAX.title])


def test_a_room_serves_on_and_starts_from_its_snapshot_while_the_registry_is_away(directory: Path) -> None:
    with up(directory) as mesh:
        wait_until(lambda: mesh.readiness() == {"ready": True, "not_ready": {}, "degraded": {}})
        with mesh.without_registry():
            mesh.look_up()
            mesh.local.kill("sharing")
            mesh.local.wait_ready("sharing")
            mesh.look_up()
            wait_until(lambda: "policy" in mesh.readiness()["degraded"])
            told = mesh.readiness()
            assert (told["ready"], told["not_ready"]) == (True, {})
            assert told["degraded"]["policy"].startswith("the policy was confirmed ")
            mesh.look_up()
        wait_until(lambda: mesh.readiness() == {"ready": True, "not_ready": {}, "degraded": {}}, 20)
        set_state(mesh.local, agency_pb2.SYSTEM_STATE_SUSPENDED)
        wait_until(lambda: reason_of(mesh.refusal()) == "SYSTEM_SUSPENDED")
        set_state(mesh.local, agency_pb2.SYSTEM_STATE_ACTIVE)
        wait_until(mesh.is_answered)


def test_agencies_and_rooms_are_refused_when_the_policy_grows_too_old(directory: Path) -> None:
    with up(directory, NPD_REVOCATIONS_MAX_AGE="PT6S") as mesh:
        with mesh.without_registry():
            mesh.look_up()
            wait_until(lambda: not mesh.is_answered(), 20)
            refusal = mesh.refusal()
            assert refusal is not None
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "POLICY_STALE")
            assert refusal.metadata["limit_seconds"] == "6"
            told = mesh.readiness()
            assert not told["ready"]
            assert told["not_ready"]["policy"].endswith("over the limit of 6 s")
            with pytest.raises(Refusal) as refused:
                contribute_as_a_room(mesh.local)
            assert refused.value.reason == "POLICY_STALE"
        wait_until(mesh.is_answered, 20)
        contribute_as_a_room(mesh.local)
        wait_until(lambda: mesh.readiness()["ready"])


def test_a_policy_that_was_tampered_with_on_disk_is_not_used(directory: Path) -> None:
    with up(directory) as mesh:
        with mesh.without_registry():
            snapshot = mesh.local.layout.room("sharing").policy / "snapshot.binpb"
            content = bytearray(snapshot.read_bytes())
            content[len(content) // 2] ^= 1
            snapshot.write_bytes(content)
            mesh.local.kill("sharing")
            wait_until(lambda: mesh.readiness()["not_ready"] == {"policy": "no policy was received yet"}, 20)
            assert reason_of(mesh.refusal()) == "POLICY_STALE"
        wait_until(mesh.is_answered, 20)
        wait_until(lambda: mesh.readiness() == {"ready": True, "not_ready": {}, "degraded": {}}, 20)


def reason_of(refusal: Refusal | None) -> str:
    """The reason of a refusal, if it has one."""
    return "" if refusal is None else refusal.reason


def set_state(mesh: LocalMesh, state: "agency_pb2.SystemState.ValueType") -> None:
    """Suspend or resume the tax administration's system, as an operator."""
    with RotatingChannel(mesh.endpoints["registry"], mesh.layout.operator(OPERATORS[0]).tls) as channel:
        stub = agency_pb2_grpc.SystemServiceStub(channel)
        ground = {"request_id": str(uuid4()), "agency_id": TAX.agency, "system_id": TAX.system}
        if state == agency_pb2.SYSTEM_STATE_SUSPENDED:
            stub.SuspendSystem(agency_pb2.SuspendSystemRequest(**ground, cause="Risk."))
        else:
            stub.ResumeSystem(agency_pb2.ResumeSystemRequest(**ground))


def contribute_as_a_room(mesh: LocalMesh) -> None:
    """Another room's call, which must be served."""
    newcomer = citizens.population(201).citizen(200)
    with Client(mesh.endpoints, mesh.layout.room("identity").tls) as client:
        (result,) = client.contribute([citizens.item_of(newcomer)], timeout=10).results
    assert result.status == ContributionResult.STATUS_APPLIED
