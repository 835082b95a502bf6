"""The policy on disk, for a cold start while the registry is away: last snapshot, what followed, last sign of life.

A snapshot of a registry that was restored from a backup may lack revocations: then what told of them is kept before it.
Holds signed bytes and verifies nothing: the keeper verifies what it reads like what it receives.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from npd.registry.v1 import policy_pb2

_EARLIER, _SNAPSHOT, _DELTAS, _SIGN_OF_LIFE = "earlier.binpb", "snapshot.binpb", "deltas.binpb", "sign-of-life.binpb"
_LENGTH = 4
_LONG = 4 << 20


class PolicyFiles:
    """Signed updates in a directory. Every write is on disk before it returns; a torn last one is cut off."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    def read(self) -> Iterator[tuple[bytes, bytes]]:
        """What was kept, (update, signature), in the order in which it counts."""
        for name in (_EARLIER, _SNAPSHOT, _DELTAS, _SIGN_OF_LIFE):
            path, data = self._directory / name, self._kept(name)
            at = 0
            while at < len(data):
                end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "big")
                signed = _unframed(data[at + _LENGTH : end]) if at + _LENGTH < end <= len(data) else None
                if signed is None:
                    os.truncate(path, at)  # torn when the process was killed; what comes next must not follow it
                    break
                yield signed.update, signed.signature
                at = end

    @property
    def are_long(self) -> bool:
        """Whether so much was appended that a whole snapshot is worth asking for."""
        path = self._directory / _DELTAS
        return path.exists() and path.stat().st_size > _LONG

    def keep(
        self,
        update: bytes,
        signature: bytes,
        *,
        whole: bool,
        sign_of_life: bool,
        forgets: bool = False,
        remembers: bool = False,
    ) -> None:
        """Keep an update: a whole snapshot replaces everything, a sign of life the last one, others are appended.

        A snapshot that `forgets` replaces nothing: what was kept stays before it as long as the policy `remembers`
        something by it. A snapshot is there before what it replaces goes: what is left behind by a crash between
        follows on nothing.
        """
        record = policy_pb2.WatchPolicyResponse(update=update, signature=signature).SerializeToString()
        framed = len(record).to_bytes(_LENGTH, "big") + record
        if sign_of_life:
            self._replace(_SIGN_OF_LIFE, framed)
        elif whole:
            if forgets:
                self._replace(_EARLIER, b"".join(map(self._kept, (_EARLIER, _SNAPSHOT, _DELTAS))))
            self._replace(_SNAPSHOT, framed)
            for stale in (_SIGN_OF_LIFE, _DELTAS, *(() if remembers else (_EARLIER,))):
                (self._directory / stale).unlink(missing_ok=True)
        else:
            self._append(framed)
            self._force_names()

    def _kept(self, name: str) -> bytes:
        path = self._directory / name
        return path.read_bytes() if path.exists() else b""

    def _append(self, data: bytes) -> None:
        path = self._directory / _DELTAS
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.truncate(path, size)  # else what is appended later would stand behind torn bytes, and be lost
            raise

    def _replace(self, name: str, data: bytes) -> None:
        scratch = self._directory / f"{name}.new"
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._directory / name)
        self._force_names()

    def _force_names(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _unframed(record: bytes) -> policy_pb2.WatchPolicyResponse | None:
    try:
        return policy_pb2.WatchPolicyResponse.FromString(record)
    except DecodeError:
        return None
