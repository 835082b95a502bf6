"""The cluster's name server: gives the addresses of the ready pods behind each headless Service. dnsmasq does the work.

What it answers for a name that it does not know, and for IPv6, is what CoreDNS answers: no such name, no such record.
"""

import signal
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Self

from services.local.leash import Leashed
from tests.pods.network import SERVICE_ADDRESS, Network
from tests.programs import program

_DOMAIN: Final = "svc.cluster.local"
SECONDS_TO_LIVE: Final = 5
"""Of a record, as CoreDNS's kubernetes plugin gives it."""


class NameServer:
    """Serves on SERVICE_ADDRESS in the node's namespace. As a context it starts and ends."""

    def __init__(self, network: Network, directory: Path, namespace: str) -> None:
        """`namespace` is the Kubernetes one whose Services are named."""
        directory.mkdir()
        self._network, self._namespace = network, namespace
        self._hosts, self._log = directory / "hosts", directory / "dnsmasq.log"
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._server: Leashed | None = None
        self._lock = threading.Lock()
        self.lag = 0.0
        """Seconds until a change is told: CoreDNS may answer from its cache while a record lives."""

    @property
    def resolver(self) -> str:
        """The content of /etc/resolv.conf in a pod, as the kubelet writes it (dnsPolicy ClusterFirst)."""
        search = f"{self._namespace}.{_DOMAIN} {_DOMAIN} cluster.local"
        return f"search {search}\nnameserver {SERVICE_ADDRESS}\noptions ndots:5\n"

    @property
    def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """What it answers now, by Service."""
        return self._addresses

    def __enter__(self) -> Self:
        self._write()
        self._server = Leashed(
            (
                *self._network.node.command,
                program("dnsmasq"),
                *("--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root"),
                *("--bind-interfaces", f"--listen-address={SERVICE_ADDRESS}"),
                *("--no-resolv", "--no-hosts", f"--addn-hosts={self._hosts}", "--local=/#/"),
                *(f"--local-ttl={SECONDS_TO_LIVE}", "--log-facility=-"),
            ),
            env={},
            log=self._log,
            stop_plan=((signal.SIGTERM, 2.0),),
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.send(signal.SIGCONT)
            self._server.stop()

    def publish(self, service: str, addresses: Iterable[str]) -> None:
        """A Service's name has these addresses from now on, or after the lag; with none there is no such name."""
        if not self.lag:
            self._tell(service, tuple(addresses))
            return
        later = threading.Timer(self.lag, self._tell, (service, tuple(addresses)))
        later.daemon = True
        later.start()

    def fall_silent(self) -> None:
        """Answer nobody any more, without a refusal either, as behind a network that drops packets."""
        self._send(signal.SIGSTOP)

    def answer_again(self) -> None:
        """Take up where `fall_silent` left off."""
        self._send(signal.SIGCONT)

    def _tell(self, service: str, addresses: tuple[str, ...]) -> None:
        with self._lock:
            if self._addresses.get(service) != addresses:
                self._addresses[service] = addresses
                self._write()
                self._send(signal.SIGHUP)

    def _write(self) -> None:
        lines = (
            f"{address} {service}.{self._namespace}.{_DOMAIN}\n"
            for service, addresses in self._addresses.items()
            for address in addresses
        )
        draft = self._hosts.with_suffix(".new")
        draft.write_text("".join(lines))
        draft.replace(self._hosts)

    def _send(self, number: signal.Signals) -> None:
        assert self._server is not None, "only as a context"
        self._server.send(number)
