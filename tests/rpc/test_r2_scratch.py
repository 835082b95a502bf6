import time
from concurrent.futures import ThreadPoolExecutor
from datetime import *
from sqlalchemy import text, create_engine
from tests.mesh_fixture import *
from tests.rpc.test_mesh_approvals import *
from services.mesh.core.stored import from_stored
from services.registry.domain import Agency

def test_stored():
    print("R2 stored", from_stored(b'{"value":{"agency_id":"tax","name":"x"}}', Agency))

def test_store_away(registry, system):
    request = suspension(system)
    conn = registry.house.engine.connect(); tx=conn.begin(); conn.execute(text("LOCK TABLE approvals IN ACCESS EXCLUSIVE MODE"))
    t=time.monotonic(); r = suspend_refused(registry, request); print("R2 away", r.reason, time.monotonic()-t); tx.rollback(); conn.close()
    with registry.house.engine.begin() as c: c.execute(text("ALTER TABLE approvals RENAME TO gone"))
    r = suspend_refused(registry, suspension(system)); print("R2 gone", r.reason)
    with registry.house.engine.begin() as c: c.execute(text("ALTER TABLE gone RENAME TO approvals"))
    assert state_of(registry, system) == STATES.SYSTEM_STATE_ACTIVE
    assert suspend_refused(registry, request).reason == "APPROVAL_NEEDED"

def test_flood(registry, system):
    t=time.monotonic(); n=len(registry.entries())
    def go(i):
        r=suspension(system, cause="x"*400); r.MergeFromString(b"\xfa\x7f\xc0\x84\x3d"+b"y"*1000000) if False else None
        return suspend_refused(registry, r).reason
    with ThreadPoolExecutor(8) as p: print("R2 flood", set(p.map(go, range(1000))), time.monotonic()-t, "entries", len(registry.entries())-n)
    t=time.monotonic(); a=approvals_of(registry,"minh").ListApprovals(approval_pb2.ListApprovalsRequest(page_size=1000)); print("R2 list", len(a.approvals), time.monotonic()-t)

def test_unknown_fields(registry, system):
    request = suspension(system)
    approval=asked(registry, request)
    approvals_of(registry,"minh").ApproveRequest(approving(approval))
    more = agency_pb2.SuspendSystemRequest.FromString(request.SerializeToString()+b"\xfa\x01\x01x")
    print("R2 unknown", suspend_refused(registry, more).reason)
    # order of fields: non-canonical bytes but the same message
    print("R2 same", suspend(registry, request).state)

def test_migrate(postgres, tmp_path):
    from alembic import command
    from services.cli import migration
    import inspect; print("R2", [n for n in dir(migration)])
