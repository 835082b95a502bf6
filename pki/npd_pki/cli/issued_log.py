"""What an offline CA has signed: `issued.log` beside its certificate, one JSON object a line, only ever appended to.

The intention is on the disk before the signature exists, the result after it: an intention without a result may have
become a certificate, so it is listed and can be revoked like one. Holds no key.
"""

import base64
import errno
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.description import fingerprint
from npd_pki.errors import PkiError
from npd_pki.files import force_directory
from npd_pki.issuance import PreparedCertificate
from npd_pki.keys import LeafPublicKey, key_id
from npd_pki.profile import Profile

LOG_FILE = "issued.log"


class LogDamaged(PkiError):
    """The log of a CA holds a line that it never wrote: what the CA has signed is no longer known from it."""


@dataclass(frozen=True, slots=True)
class Intention:
    """A certificate that a CA was about to sign. Serial in hexadecimal, instants in ISO 8601, digests in SHA-256."""

    time: str
    serial: str
    profile: str
    profile_version: int
    uri: str
    hosts: tuple[str, ...]
    valid_until: str
    key_id: str
    tbs_digest: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One serial number in the log. `digest` is the SHA-256 of the certificate's DER, absent without a result."""

    intention: Intention
    digest: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything in a log, oldest first.

    `cut_off` are the numbers of lines that a crash left unfinished: an intention that came to no signature, or a result
    whose intention stands above it. A line that somebody damaged looks the same.
    """

    entries: tuple[Entry, ...]
    cut_off: tuple[int, ...]


class IssuedLog:
    """The log of the CA in a directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOG_FILE

    def intend(self, intention: Intention) -> None:
        """Record what is about to be signed. Raises OSError, and then nothing may be signed."""
        self._append({"record": "intention", **asdict(intention)})

    def issued(self, serial: str, certificate: x509.Certificate) -> None:
        """Record what was signed, the certificate included. Raises OSError."""
        der = certificate.public_bytes(Encoding.DER)
        result = {"time": now(), "serial": serial, "digest": fingerprint(der)}
        self._append({"record": "issued", **result, "certificate": base64.b64encode(der).decode()})

    def listing(self) -> Listing:
        """Read the log; one that was never begun is empty. Raises LogDamaged, OSError."""
        found: dict[str, Entry] = {}
        cut_off: list[int] = []
        content = self._path.read_bytes() if self._path.exists() else b""
        for place, line in enumerate(content.splitlines(), 1):
            try:
                record = json.loads(line)
            except ValueError:
                cut_off.append(place)
                continue
            try:
                _take(record, found)
            except (KeyError, TypeError, AttributeError) as error:
                raise LogDamaged(
                    f"line {place} of {self._path} was not written by npd-pki: restore the file from a copy"
                ) from error
        return Listing(tuple(found.values()), tuple(cut_off))

    def _append(self, record: dict[str, object]) -> None:
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # a crash cut the last line off; it stays as it is
            if os.write(descriptor, line) != len(line):  # a full disk takes the beginning without complaint
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        force_directory(self._path.parent)


def intention(
    prepared: PreparedCertificate, profile: Profile, uri: str, hosts: Sequence[str], public_key: LeafPublicKey
) -> Intention:
    """What is recorded of a prepared certificate."""
    return Intention(
        time=now(),
        serial=f"{prepared.serial:x}",
        profile=profile.name,
        profile_version=profile.version,
        uri=uri,
        hosts=tuple(hosts),
        valid_until=prepared.linted.not_valid_after_utc.isoformat(),
        key_id=key_id(public_key),
        tbs_digest=fingerprint(prepared.tbs_bytes),
    )


def now() -> str:
    """The moment as the log writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _take(record: dict[str, Any], found: dict[str, Entry]) -> None:
    if record.pop("record") == "intention":
        intended = Intention(**{**record, "hosts": tuple(record["hosts"])})
        found[intended.serial] = Entry(intended, None)
    else:
        serial = record["serial"]
        found[serial] = replace(found[serial], digest=record["digest"])
