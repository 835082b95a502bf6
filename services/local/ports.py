"""Ports of a local mesh: a block for the rooms and one for their probes, claimed so that two meshes never share one."""

import errno
import socket
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import Final, Self

from services.local.errors import LocalError

STEP: Final = 100
"""From one block to the next, and from a room's port to that of its probes."""

_DOOR: Final = 50  # far behind the last room
_BLOCKS_TRIED: Final = 50
_LOOPBACK: Final = "127.0.0.1"


class PortsTaken(LocalError):
    """No block of free ports was found."""


@dataclass(frozen=True, slots=True)
class PortBlock:
    """Ports `first`, `first + 1`, ... for rooms, the same plus STEP for their probes, one for the door; until `close`.

    The claim on each hundred is its last port, bound, on which nothing ever listens: the kernel frees it however we
    die, and rooms can be killed and come back without losing their ports to another mesh.
    """

    first: int
    _gates: tuple[socket.socket, ...] = field(repr=False, compare=False)

    @classmethod
    def claim(cls, first: int, size: int) -> Self:
        """Claim the first block from `first` on of which no port is taken. Raises PortsTaken."""
        for block in range(first, first + _BLOCKS_TRIED * STEP, STEP):
            hundreds = (block, block + STEP)
            with ExitStack() as taken:
                gates = tuple(_bind(hundred + STEP - 1, reuse=False) for hundred in hundreds)
                held = tuple(gate for gate in gates if gate is not None)
                for gate in held:
                    taken.enter_context(gate)
                ports = [hundred + number for hundred in hundreds for number in range(size)] + [block + _DOOR]
                if len(held) == len(gates) and all(map(_is_free, ports)):
                    taken.pop_all()
                    return cls(block, held)
        raise PortsTaken(f"no {size} free ports in {_BLOCKS_TRIED} blocks from {first} on: name another with --port")

    def room(self, number: int) -> int:
        """The port of a room, numbered from 0."""
        return self.first + number

    def probes(self, number: int) -> int:
        """The port of its probes and metrics."""
        return self.first + number + STEP

    @property
    def door(self) -> int:
        """The port of the issuer's door, which asks for no certificate."""
        return self.first + _DOOR

    def close(self) -> None:
        """Give the block up. May be repeated."""
        for gate in self._gates:
            gate.close()


def _is_free(port: int) -> bool:
    bound = _bind(port, reuse=True)  # a connection that has just ended does not make a port taken
    if bound is None:
        return False
    bound.close()
    if not socket.has_ipv6:
        return True
    with closing(socket.socket(socket.AF_INET6)) as other:  # a client that dials "localhost" may come this way
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("::1", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE  # a machine without IPv6 has nobody there
    return True


def _bind(port: int, *, reuse: bool) -> socket.socket | None:
    bound = socket.socket(socket.AF_INET)
    with suppress(OSError, OverflowError):
        if reuse:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((_LOOPBACK, port))
        return bound
    bound.close()
    return None
