"""The files that a ceremony reads beside its own: each read once, so that what was shown is what is signed."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from npd_pki.ceremony.errors import InputForeign, InputUnreadable
from npd_pki.description import fingerprint
from npd_pki.errors import PemMalformed, PkiError
from npd_pki.tbs import environment_of
from npd_pki.trust_bundle import read_certificates

_LARGEST_INPUT = 64 << 20


@dataclass(frozen=True, slots=True)
class Inputs:
    """Reads public files only; keys are for `keys`. `base` is the directory from which the ceremony's paths count."""

    base: Path
    environment: str
    _contents: dict[Path, bytes] = field(default_factory=dict)

    def read(self, path: Path) -> bytes:
        """The bytes of a file, always those of the first reading. Raises InputUnreadable."""
        if path not in self._contents:
            try:
                with path.open("rb") as stream:
                    self._contents[path] = stream.read(_LARGEST_INPUT)
            except OSError as error:
                raise InputUnreadable(f"{self.name(path)} cannot be read: {error.strerror}") from error
        return self._contents[path]

    def certificate(self, path: Path) -> x509.Certificate:
        """The certificate in a file, the first if a chain follows it. Raises InputUnreadable."""
        return self.certificates(path)[0]

    def certificates(self, path: Path) -> tuple[x509.Certificate, ...]:
        """All certificates in a file. Raises InputUnreadable."""
        try:
            return read_certificates(self.read(path), self.name(path))
        except PemMalformed as error:
            raise InputUnreadable(str(error)) from error

    def authority(self, path: Path) -> x509.Certificate:
        """The only certificate in a file, that of a CA of this environment. Raises InputUnreadable, InputForeign."""
        certificate, *others = self.certificates(path)
        if others:
            raise InputForeign(f"{self.name(path)} holds several certificates; a CA's file holds its own alone")
        try:
            environment = environment_of(certificate.subject)
        except PkiError as error:
            raise InputForeign(f"{self.name(path)} is not the certificate of a CA: {error}") from error
        if environment != self.environment:
            raise InputForeign(f"{self.name(path)} is a CA of {environment}, the ceremony is for {self.environment}")
        return certificate

    def name(self, path: Path) -> str:
        """A path as the ceremony's file states it."""
        return os.path.relpath(path, self.base)

    def digests(self) -> list[tuple[str, str]]:
        """Name and SHA-256 of every file that was read, in the order of reading."""
        return [(self.name(path), fingerprint(content)) for path, content in self._contents.items()]
