"""The roots to trust, signed by one of them, as a file from a ceremony: handed on with every certificate."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import structlog
from cryptography import x509

from npd_pki.errors import PkiError
from npd_pki.signed_bundle import read_trust_bundle

log = structlog.get_logger(__name__)


class TrustBundle:
    """The file's content, as it is now. What no root in use here has signed is not handed on."""

    def __init__(self, path: Path | None, roots: Callable[[], Sequence[x509.Certificate]]) -> None:
        self._path = path
        self._roots = roots
        self._under: Sequence[x509.Certificate] = ()
        self._judged = b""
        self._content = b""

    def content(self) -> bytes:
        """The bundle, or nothing: there is none, it cannot be read, or it is not sound. Faults are logged once."""
        if self._path is None:
            return b""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self._judge(repr(error).encode(), error)
            return b""
        roots = self._roots()
        if roots is not self._under:  # what was judged under another bundle counts no more
            self._under, self._judged = roots, b""
        if sha256(content).digest() != self._judged:
            try:
                read_trust_bundle(content, roots)
                self._judge(content, None)
                self._content = content
            except PkiError as error:
                self._judge(content, error)
        return self._content

    def _judge(self, seen: bytes, fault: Exception | None) -> None:
        digest = sha256(seen).digest()
        if digest == self._judged:
            return
        self._judged, self._content = digest, b""
        if fault is not None:
            log.error("the trust bundle cannot be handed on", problem=str(fault))
