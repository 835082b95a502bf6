"""What recovers a room's database on Kubernetes: from its own backup, into a new folder, noted before it serves."""

import pytest

from services.cli.rooms import names
from tests.k8s.manifests import K8S, Manifests, render

ROOMS = tuple(name.replace("_", "-") for name in names())
RESTORE = K8S / "restore"


def cluster(room: str) -> Manifests:
    """The objects of a room's recovery."""
    return render(RESTORE / room / "cluster")


@pytest.mark.parametrize("room", ROOMS)
def test_a_database_is_recovered_from_its_own_backup_to_a_moment_and_archives_elsewhere(room: str) -> None:
    spec = cluster(room).find("Cluster", f"npd-{room}-postgres").spec
    assert list(spec["bootstrap"]) == ["recovery"]
    recovery = spec["bootstrap"]["recovery"]
    role = f"npd_{room.replace('-', '_')}"
    assert (recovery["database"], recovery["owner"]) == (role, role)
    assert recovery["secret"]["name"] == f"npd-{room}-database"
    assert recovery["recoveryTarget"]["targetTime"].endswith("Z")
    [source] = spec["externalClusters"]
    [archiver] = spec["plugins"]
    assert source["name"] == recovery["source"]
    places = [one["parameters"] for one in (source["plugin"], archiver)]
    assert {place["barmanObjectName"] for place in places} == {f"npd-{room}-backup"}
    assert places[0]["serverName"] == f"npd-{room}-postgres" != places[1]["serverName"]
    assert archiver["isWALArchiver"] is True


@pytest.mark.parametrize("room", ROOMS)
def test_it_is_otherwise_the_cluster_that_it_was(room: str) -> None:
    name = f"npd-{room}-postgres"
    before = render(K8S / "components" / "postgres-cloudnative-pg" / "rooms" / room).find("Cluster", name).spec
    after = cluster(room).find("Cluster", name).spec
    changed = {"bootstrap", "externalClusters", "plugins"}
    assert {key: value for key, value in after.items() if key not in changed} == {
        key: value for key, value in before.items() if key not in changed
    }


@pytest.mark.parametrize("room", ROOMS)
def test_the_job_migrates_then_notes_the_restore_and_is_not_tried_again_by_itself(room: str) -> None:
    argument = room.replace("-", "_")
    job = render(RESTORE / room / "job").workload(f"npd-restored-{room}")
    assert [container.args for container in job.containers] == [("migrate", argument), ("restored", argument)]
    assert job.manifest.spec["backoffLimit"] == 0
    assert job.labels["app.kubernetes.io/component"] == "migration", "so that it may reach the database"
    assert all(container.image.count(":") == 1 for container in job.containers), "of a release"


def test_identity_alone_is_told_that_it_was_told_again() -> None:
    [job] = render(RESTORE / "identity" / "told-again").workloads()
    assert job.containers[-1].args == ("restored", "identity", "--told-again")
    assert [place.parent.name for place in RESTORE.glob("*/told-again")] == ["identity"]


@pytest.mark.parametrize("room", ROOMS)
def test_a_database_answers_its_own_role_by_tls_alone_and_loses_nothing_that_it_answered(room: str) -> None:
    role = f"npd_{room.replace('-', '_')}"
    spec = (
        render(K8S / "components" / "postgres-cloudnative-pg" / "rooms" / room)
        .find("Cluster", f"npd-{room}-postgres")
        .spec
    )
    assert spec["postgresql"]["pg_hba"] == [f"hostssl {role} {role} all scram-sha-256", "host all all all reject"]
    assert spec["postgresql"]["synchronous"] == {"method": "any", "number": 1, "dataDurability": "required"}
    assert (spec["instances"], spec["enableSuperuserAccess"]) == (3, False)
    assert spec["bootstrap"]["initdb"]["dataChecksums"] is True
