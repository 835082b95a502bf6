"""A cluster's network without a cluster: one network namespace per pod, joined by a bridge in that of the node.

Nothing of it is seen from the machine's own network, so that its addresses cannot clash with anybody's. Only root may.
"""

import ctypes
import itertools
import os
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.programs import program

SERVICE_ADDRESS: Final = "10.96.0.10"
"""Where pods find the name server, as in most clusters."""
_NAMESPACES: Final = Path("/run/netns")
_NODE_ADDRESS: Final = "10.244.0.1"
_POD_NETWORK: Final = "10.244.{}.{}"
_PREFIX_LENGTH: Final = 16
_NETWORK_NAMESPACE: Final = 0x40000000  # CLONE_NEWNET of sched.h


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace: a pod's, the node's or the callers'. `interface` is the node's end of its cable."""

    name: str
    address: str
    interface: str = ""

    @property
    def command(self) -> tuple[str, ...]:
        """What to put before a command that shall run in it; the process id stays that of the command."""
        return (program("nsenter"), f"--net={self._file}", "--")

    def enter(self) -> None:
        """Move the calling thread, and no other, into it: the sockets that it opens from here on are the pod's."""
        with self._file.open() as opened:
            if ctypes.CDLL(None, use_errno=True).setns(opened.fileno(), _NETWORK_NAMESPACE) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), self.name)

    @property
    def _file(self) -> Path:
        return _NAMESPACES / self.name


class Network:
    """The node's namespace with the bridge, and those that were joined to it. As a context it leaves nothing behind."""

    def __init__(self) -> None:
        self._prefix = f"npd-{os.getpid()}"
        self._numbers = itertools.count(2)
        self._joined: dict[str, ExitStack] = {}
        self.node = Namespace(f"{self._prefix}-node", _NODE_ADDRESS)

    def __enter__(self) -> Self:
        _remove_orphans()
        try:
            self._make(self.node.name)
            self._in(self.node, "link", "add", "pods", "type", "bridge")
            self._in(self.node, "address", "add", f"{_NODE_ADDRESS}/{_PREFIX_LENGTH}", "dev", "pods")
            self._in(self.node, "address", "add", f"{SERVICE_ADDRESS}/32", "dev", "lo")
            self._in(self.node, "link", "set", "pods", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self._joined]:
            self._joined.pop(name).close()

    def join(self, name: str) -> Namespace:
        """A new namespace with an address that nobody had before, and a cable to the bridge."""
        number = next(self._numbers)
        address = _POD_NETWORK.format(*divmod(number, 256))
        joined = Namespace(f"{self._prefix}-{name}", address, f"cable{number}")
        self._make(joined.name)
        self._in(self.node, *("link", "add", joined.interface, "type", "veth"), *("peer", "eth0", "netns", joined.name))
        self._in(self.node, "link", "set", joined.interface, "master", "pods", "up")
        self._in(joined, "address", "add", f"{address}/{_PREFIX_LENGTH}", "dev", "eth0")
        self._in(joined, "link", "set", "eth0", "up")
        self._in(joined, "route", "add", "default", "via", _NODE_ADDRESS)
        return joined

    def cut(self, joined: Namespace) -> None:
        """Pull its cable: nobody hears of it again, and no connection to it is closed."""
        self._in(self.node, "link", "set", joined.interface, "down")

    def remove(self, joined: Namespace) -> None:
        """Remove a namespace whose processes have ended."""
        self._joined.pop(joined.name).close()

    def _make(self, name: str) -> None:
        _ip("netns", "add", name)
        self._joined[name] = ExitStack()
        self._joined[name].callback(_ip, "netns", "delete", name)
        _ip("-n", name, "link", "set", "lo", "up")

    def _in(self, namespace: Namespace, *arguments: str) -> None:
        _ip("-n", namespace.name, *arguments)


def _remove_orphans() -> None:
    """Remove namespaces whose maker was killed before it could; his processes ended with him."""
    for path in _NAMESPACES.glob("npd-*-*"):
        maker = path.name.split("-")[1]
        if maker.isdigit() and not Path(f"/proc/{maker}").exists():
            _ip("netns", "delete", path.name)


def _ip(*arguments: str) -> None:
    done = subprocess.run([program("ip"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
