"""Two replicas of `sharing` under load, from the image and the rendered manifests: rolled, renewed, killed, lost.

Agencies call by the headless Service's name with the client as it is. The figures stand in pytest's summary. What it
cannot show without a cluster: limits by cgroups, seccomp, network policies, a real CoreDNS and real nodes.
"""

import copy
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.k8s.manifests import overlay
from tests.mesh_fixture import wait_until
from tests.pods import callers
from tests.pods.deployment import Deployment
from tests.pods.image import built_image
from tests.pods.rehearsal import Rehearsal, play
from tests.pods.site import OVERLAY, Site

pytestmark = pytest.mark.timeout(300)  # under 120 s on two cores that are free
REPLICAS = 2


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """Play every act, then take everything down."""
    directory = tmp_path_factory.mktemp("rollout")
    seen, before = Rehearsal(), _children()
    with Site(built_image(), directory) as site:
        site.migrate()
        site.deploy("registry", 1)
        sharing = site.deploy("sharing", REPLICAS)
        play(site, sharing, seen)
        seen.namespaces = _inodes()
    seen.children = before, _children()
    return seen


def test_no_idempotent_call_fails(rehearsal: Rehearsal, tell: Callable[[str], None]) -> None:
    for line in rehearsal.figures():
        tell(line)
    assert {call.method for call in rehearsal.calls} == set(callers.METHODS)
    assert [call for call in rehearsal.calls if call.error] == []


@pytest.mark.parametrize("act", ["rolled one by one", "killed, name server silent", "lost with its node"])
def test_every_act_has_calls_to_lose(rehearsal: Rehearsal, act: str) -> None:
    assert len(rehearsal.act(act)) > 200


def test_the_replicas_share_the_calls_afterwards(rehearsal: Rehearsal) -> None:
    assert len(rehearsal.answered) == REPLICAS
    fewest, most = min(rehearsal.answered.values()), max(rehearsal.answered.values())
    assert fewest >= 0.9 * most, rehearsal.answered


def test_a_live_pod_shows_the_certificate_that_was_swapped_in(rehearsal: Rehearsal) -> None:
    shown, renewed = rehearsal.shown
    assert shown == renewed


def test_the_watch_lost_and_doubled_nothing(rehearsal: Rehearsal) -> None:
    start, *positions = rehearsal.watched
    assert positions == [position for position in rehearsal.feed if position > start]
    assert len(positions) > 200
    assert rehearsal.interruptions > 0


def test_no_contribution_is_lost_or_doubled(rehearsal: Rehearsal) -> None:
    assert rehearsal.contributed > 200
    assert len(rehearsal.feed) == callers.CITIZENS + rehearsal.contributed


def test_no_connection_to_the_store_is_in_the_clear(rehearsal: Rehearsal) -> None:
    assert rehearsal.clear_text == 0


@pytest.mark.parametrize("name", ["npd-registry", "npd-sharing"])
def test_what_is_rehearsed_is_what_prod_has(name: str) -> None:
    """But for the environment's name, and that synthetic people exist there."""
    specs, services, environments = [], [], []
    for manifests in map(overlay, (OVERLAY, "prod")):
        workload = manifests.workload(name)
        (container,) = workload.containers
        spec = copy.deepcopy(dict(workload.manifest.spec))
        del spec["template"]["spec"]["containers"][0]["envFrom"]
        specs.append(spec)
        services.append(manifests.find("Service", name).spec)
        environments.append(manifests.environment(container))
    assert specs[0] == specs[1]
    assert services[0] == services[1]
    assert dict(environments[0].items() ^ environments[1].items()).keys() <= {"NPD_ENVIRONMENT", "NPD_SANDBOX"}


def test_nothing_is_left_behind(rehearsal: Rehearsal) -> None:
    before, after = rehearsal.children
    assert after <= before
    assert len(rehearsal.namespaces) > REPLICAS
    _require_nothing_left(rehearsal.namespaces)


class _MishapError(Exception):
    pass


def test_a_mishap_leaves_nothing_behind_either(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(built_image(), tmp_path_factory.mktemp("mishap"))
    before, namespaces = _children(), frozenset[int]()

    def settle(deployment: Deployment) -> None:
        nonlocal namespaces
        deployment.reconcile()
        namespaces = _inodes()
        wait_until(lambda: len(_children() - before) == 3)  # name server, store and pod
        raise _MishapError

    def begin() -> None:
        with site:
            site.cluster.nameserver.fall_silent()
            site.deploy("sharing", 1)

    monkeypatch.setattr(site.cluster, "settle", settle)
    with pytest.raises(_MishapError):
        begin()
    assert _children() <= before
    _require_nothing_left(namespaces)


def _require_nothing_left(namespaces: frozenset[int]) -> None:
    assert _namespaces() == []
    wait_until(lambda: _processes(namespaces) == [])


def _mine() -> str:
    """What the names of our network namespaces begin with."""
    return f"npd-{os.getpid()}-"


def _namespaces() -> list[Path]:
    """Our network namespaces; their cables end with them, and a container's mounts with its process."""
    return list(Path("/run/netns").glob(f"{_mine()}*"))


def _inodes() -> frozenset[int]:
    """By which the kernel knows them, even when their names are gone."""
    return frozenset(path.stat().st_ino for path in _namespaces())


def _processes(namespaces: frozenset[int]) -> list[str]:
    """Processes, whosever children, that are in one of these namespaces or were told of one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or not even for root to look at
            told = _mine() in (path / "cmdline").read_bytes().decode(errors="replace")
            if told or (path / "ns" / "net").stat().st_ino in namespaces:
                found.append(path.name)
    return found


def _children() -> frozenset[str]:
    """The processes that we are the parent of."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return frozenset(child for path in listed for child in path.read_text().split())
