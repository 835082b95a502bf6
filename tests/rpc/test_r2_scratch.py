import secrets, time
from datetime import *
import pytest
from sqlalchemy import text
from npd.registry.v1 import policy_pb2, revocation_pb2, revocation_pb2_grpc
from npd_pki.identity import Kind
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import *
from tests.rpc.test_registry_certificate_acts import record, revoking, name, revision

@pytest.fixture(scope="module")
def sharing(stage, registry): return stage.start(SHARING)

def test_restore(stage, registry, sharing):
    for _ in range(3): record(registry, revoking(name()))
    stage.settle()
    eng=registry.house.engine
    with eng.begin() as c:
        r=revision(registry)
        c.execute(text("DELETE FROM revoked_certificates WHERE revision > :r") if False else text("UPDATE policy_revision SET revision = revision - 3"))
        c.execute(text("DELETE FROM revocations WHERE revision > :r"),{"r":r-3})
    bad=name()
    record(registry, revoking(bad))
    time.sleep(8)
    for room in (registry, sharing):
        p=room.house.keeper.current
        print("RESTORE", room.house.room.name, p.revision, "store", revision(registry), "known:", bad in p.revoked, "age", room.house.keeper.age(datetime.now(UTC)))
    record(registry, revoking(name())); record(registry, revoking(name()));
    time.sleep(8)
    for room in (registry, sharing):
        p=room.house.keeper.current
        print("RESTORE", room.house.room.name, p.revision, "store", revision(registry), "known:", bad in p.revoked, "age", room.house.keeper.age(datetime.now(UTC)))
