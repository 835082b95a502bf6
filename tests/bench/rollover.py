"""Renewals, a rollover of the agency CA and a restart of the issuer from a backup, while callers go on: what fails.

The steps are those of tests/faults/test_pki_rollover.py, at full size.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from npd.registry.v1.revocation_pb2 import REVOCATION_REASON_SUPERSEDED
from npd_pki.identity import Kind
from services.local.mesh import LocalMesh
from tests.holders import Backup, Crowd, PkiAdmin, Told, further_certificate, name_of

STEPS = 5
_CALLERS = 32


def renewals(
    mesh: LocalMesh, places: Sequence[Path], agreement_id: str, count: int, counted: Callable[[int], object]
) -> Table:
    """So many renewals under load."""
    with Crowd(mesh, places, agreement_id, callers=_CALLERS) as crowd:
        crowd.wait_more()
        crowd.renew_all(times=-(-count // len(crowd.directories)), renewed=counted)
        crowd.wait_more()
        told = crowd.told
    return _table(f"{told.renewed:,} renewals, {_CALLERS} callers", [("in all", told)])


def measure(mesh: LocalMesh, places: Sequence[Path], agreement_id: str, counted: Callable[[int], object]) -> Table:
    """A full rollover of the agency CA, then a restart of the issuer from a backup that is older than a revocation."""
    rows: list[tuple[str, Told]] = []
    with PkiAdmin(mesh) as admin, tempfile.TemporaryDirectory() as scratch:
        with Crowd(mesh, places, agreement_id, callers=_CALLERS) as crowd:
            crowd.wait_more()
            successor = admin.new_authority(Kind.AGENCY)
            admin.prepare(successor)
            former = admin.activate(successor)
            counted(1)
            crowd.renew_all()
            counted(2)
            assert {crowd.issuer_of(place) for place in crowd.directories} == {successor}
            admin.supersede_all_of(former)
            admin.retire(former)
            counted(3)
            crowd.wait_more()
            rows.append(("prepared, activated, all leaves renewed, the old CA retired", crowd.told))
        with Crowd(mesh, places, agreement_id, callers=_CALLERS) as crowd:
            lost = name_of(further_certificate(mesh, Path(scratch) / "lost"))
            backup = Backup(mesh, Path(scratch) / "issuer.dump")
            admin.revoke(lost, REVOCATION_REASON_SUPERSEDED)
            crowd.renew_all()
            backup.restore()
            counted(4)
            crowd.renew_all()
            crowd.wait_more()
            state = admin.state_of(lost)
            rows.append((f"restored from a backup; what was revoked after it is {state}", crowd.told))
            counted(STEPS)
    return _table(f"beside {_CALLERS} callers", rows)


def _table(title: str, rows: list[tuple[str, Told]]) -> Table:
    drawn = Table(title, "renewed", "calls answered", "calls failed", "reasons")
    for what, told in rows:
        failed = str(len(told.failed))
        drawn.add_row(what, f"{told.renewed:,}", f"{told.answered:,}", failed, told.reasons)
    drawn.caption = f"renewals that were sent again: {sum(len(told.repeated) for _, told in rows)}"
    return drawn
