"""The acts of a Deployment's life under load, and what callers saw of them."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from tests.mesh_fixture import wait_until
from tests.pods import callers
from tests.pods.callers import Call
from tests.pods.deployment import Deployment
from tests.pods.nameserver import SECONDS_TO_LIVE
from tests.pods.pod import Pod
from tests.pods.site import Site

_LOAD: Final = (("read", "first"), ("read", "second"), ("contribute", "source"), ("watch", "follower"))
_COUNTED: Final = tuple(
    f'npd_calls_total{{method="/npd.sharing.v1.{method}",reason="OK"}}'
    for method in ("LookupService/GetCitizen", "VerificationService/VerifyCitizen", "ChangeService/PullChanges")
)


@dataclass
class Rehearsal:
    """What happened, for the tests below."""

    begins: dict[str, float] = field(default_factory=dict)
    """When each act began, in their order."""
    into_use: dict[str, float] = field(default_factory=dict)
    """Seconds from a pod's readiness to its first answer."""
    calls: list[Call] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)
    """Calls that each pod answered at the end, within the same time."""
    shown: tuple[bytes, bytes] = (b"", b"")
    """The certificate that a live pod shows after the swap, and the one that was put into the Secret."""
    clear_text: int = -1
    watched: Sequence[int] = ()
    """Positions as the Watch brought them; the first is where it began."""
    feed: Sequence[int] = ()
    contributed: int = 0
    interruptions: int = 0
    children: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    """Processes below ours, before and after."""
    namespaces: frozenset[int] = frozenset()
    """The network namespaces that there were (by inode)."""

    def act(self, name: str) -> list[Call]:
        """The calls that began during an act."""
        begins = [*self.begins.items(), ("", float("inf"))]
        number = list(self.begins).index(name)
        return [call for call in self.calls if begins[number][1] <= call.begin < begins[number + 1][1]]

    def figures(self) -> Iterator[str]:
        """What is worth knowing, line by line."""
        yield f"{len(self.calls)} calls, {sum(bool(call.error) for call in self.calls)} failed"
        for name in list(self.begins)[:-1]:
            calls = [call.seconds for call in self.act(name)]
            cuts = quantiles(calls, n=100)
            begin, end = self.begins[name], list(self.begins.values())[list(self.begins).index(name) + 1]
            errors = Counter(call.error for call in self.act(name) if call.error)
            p50, p99 = cuts[49] * 1000, cuts[98] * 1000
            yield (
                f"{name:>28}, {end - begin:4.1f} s: {len(calls):5} calls, p50 {p50:5.1f} ms, p99 {p99:6.1f} ms, "
                f"slowest {max(calls):.2f} s {dict(errors) or ''}"
            )
        yield "; ".join(
            f"{name} took calls {seconds:.1f} s after it was ready" for name, seconds in self.into_use.items()
        )
        yield f"balance at the end: {self.answered}"
        yield (
            f"feed: {len(self.feed)} changes, {len(self.watched) - 1} of them watched over {self.interruptions} "
            f"interruptions, {self.contributed} contributed meanwhile"
        )


class _Acts:
    """The acts, one after the other."""

    def __init__(self, site: Site, sharing: Deployment, seen: Rehearsal) -> None:
        self._site, self._sharing, self._seen = site, sharing, seen

    def begin(self, name: str) -> None:
        self._seen.begins[name] = time.monotonic()

    def is_steady(self, calls: int = 600) -> None:
        """Let so many calls be answered."""
        self._await_calls(self._sharing.ready, calls)

    def roll(self) -> None:
        """Replace the pods one by one, and wait until the old ones are gone."""
        old = list(self._sharing.pods)
        self._sharing.restart()
        self._site.cluster.settle(self._sharing)
        wait_until(lambda: all(pod.is_gone for pod in old), 60)

    def renew(self) -> None:
        """Swap the volume with the certificate of a live pod."""
        pod = self._sharing.ready[0]
        renewed = self._site.renew_certificate("sharing").public_bytes(Encoding.DER)
        before = self._site.cluster.presented(pod)
        assert before != renewed
        self._site.cluster.update_volumes(pod)
        wait_until(lambda: self._site.cluster.presented(pod) != before)
        self._seen.shown = self._site.cluster.presented(pod), renewed

    def kill(self) -> None:
        """Kill -9 a pod's process while the name server is silent; the container starts again in the same pod."""
        pod, other = self._sharing.ready
        self._site.cluster.nameserver.fall_silent()
        pod.kill()
        self._await_calls([other], 300)
        self._site.cluster.nameserver.answer_again()
        wait_until(lambda: pod.restarts == 1 and pod.is_ready, 60)
        self._take_into_use("the restarted pod", pod)
        self._site.cluster.settle(self._sharing)

    def lose(self) -> None:
        """Lose a pod's node: nothing closes its connections. When its probes have failed it is replaced."""
        pod = self._sharing.ready[0]
        self._site.cluster.network.cut(pod.namespace)
        wait_until(lambda: not pod.is_ready, 60)
        pod.delete(grace=0)
        known = list(self._sharing.pods)
        wait_until(lambda: self._sharing.reconcile() or len(self._sharing.pods) > len(known))
        (replacement,) = (one for one in self._sharing.pods if one not in known)
        wait_until(lambda: replacement.is_ready, 60)
        self._take_into_use("the replacement", replacement)
        self._site.cluster.settle(self._sharing)

    def weigh(self) -> None:
        """When every caller has had the time to find every pod, count what each answers within the same time."""
        self.is_steady(2000)
        pods = self._sharing.ready
        before = [self._answered(pod) for pod in pods]
        self._await_calls(pods, 1000)
        for pod, count in zip(pods, before, strict=True):
            self._seen.answered[pod.namespace.address] = self._answered(pod) - count

    def _take_into_use(self, name: str, pod: Pod) -> None:
        ready_time = pod.ready_time
        assert ready_time is not None
        self._wait(lambda: self._answered(pod) > 0)
        self._seen.into_use[name] = max(0.0, time.monotonic() - ready_time)

    def _await_calls(self, pods: Sequence[Pod], count: int) -> None:
        goal = sum(map(self._answered, pods)) + count
        self._wait(lambda: sum(map(self._answered, pods)) >= goal)

    def _wait(self, claim: Callable[[], bool]) -> None:
        """Wait for a claim about metrics, but look at most five times a second: to render them takes a pod's time."""
        next_look = 0.0

        def look() -> bool:
            nonlocal next_look
            if time.monotonic() < next_look:
                return False
            next_look = time.monotonic() + 0.2
            return claim()

        wait_until(look, 90)

    def _answered(self, pod: Pod) -> int:
        samples = self._site.cluster.samples(pod)
        return int(sum(samples.get(name, 0.0) for name in _COUNTED))


def play(site: Site, sharing: Deployment, seen: Rehearsal) -> None:
    """Play every act under load, and write down what was seen."""
    parties = site.layout.directory
    site.call_once("register", "register")
    *load, follower = (site.start_callers(act, name) for act, name in _LOAD)
    acts = _Acts(site, sharing, seen)
    site.cluster.nameserver.lag = SECONDS_TO_LIVE
    wait_until((parties / "follower.changes").exists, 30)
    for name, act in (
        ("before", acts.is_steady),
        ("rolled one by one", acts.roll),
        ("certificate swapped", acts.renew),
        ("killed, name server silent", acts.kill),
        ("lost with its node", acts.lose),
        ("after", acts.weigh),
    ):
        acts.begin(name)
        act()
    acts.begin("end")
    seen.clear_text = site.store.count_clear_text()
    site.finish(load)
    site.call_once("pull", "feed")
    seen.feed = callers.positions(parties / "feed.changes")
    wait_until(lambda: callers.positions(parties / "follower.changes")[-1] >= seen.feed[-1])
    site.finish([follower])
    seen.watched = callers.positions(parties / "follower.changes")
    seen.calls = [call for name in ("first", "second") for call in callers.calls(parties / f"{name}.calls")]
    seen.contributed = int((parties / "source.told").read_text())
    seen.interruptions = int((parties / "follower.interruptions").read_text())
