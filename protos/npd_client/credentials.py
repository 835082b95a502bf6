"""The three PEM files by which a system proves who it is, checked before anybody dials; never says what the key holds.

gRPC reports an expired, foreign or incomplete certificate as "Socket closed", because the server of a failed handshake
says nothing. What can be seen in the files is therefore said here, with what to do next.
"""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Self, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

CERTIFICATE_FILE = "tls.crt"
"""The system's certificate, then the CAs above it up to but not including the root."""
KEY_FILE = "tls.key"
"""The private key of that certificate, unencrypted PEM, readable by its owner alone."""
AUTHORITIES_FILE = "ca.crt"
"""The root certificates that the system trusts."""
DATA_LINK = "..data"
"""Symbolic link to the generation of files in use, where a whole generation is swapped at once (Kubernetes' layout)."""

DirectoryPath: TypeAlias = str | os.PathLike[str]

DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # id-kp-documentSigning, RFC 9336 section 3.1

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_END = re.compile(rb"-----END ([A-Z0-9 ]+)-----")
_KEY_LABELS = (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"EC PRIVATE KEY", b"RSA PRIVATE KEY")
_CERTIFICATE_LABELS = (b"CERTIFICATE",)


class CredentialsError(Exception):
    """These files cannot open a connection. The message says why, and what to do next."""


class FileMissing(CredentialsError):
    """One of the three files is not there or cannot be read."""


class PemIncomplete(CredentialsError):
    """A file holds no whole PEM block of the kind that belongs there, or is cut off."""


class KeyExposed(CredentialsError):
    """Others than its owner may read the key."""


class KeyUnusable(CredentialsError):
    """The key is encrypted, or of a kind that cannot be read."""


class KeyMismatch(CredentialsError):
    """The key is not that of the certificate."""


class CertificateUnfit(CredentialsError):
    """The certificate is not one by which a TLS client may identify itself."""


class CertificateExpired(CredentialsError):
    """The certificate has expired, by the clock of this computer."""


class CertificateNotYetValid(CredentialsError):
    """The certificate is not valid yet, by the clock of this computer."""


class ChainBroken(CredentialsError):
    """The certificate does not lead to a trusted root through the CAs that stand after it."""


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """The bytes of the three files, read together and not judged yet."""

    certificate_chain: bytes = field(repr=False)
    private_key: bytes = field(repr=False)
    root_certificates: bytes = field(repr=False)
    key_is_exposed: bool
    directory: Path
    roots_file: Path | None = None

    @classmethod
    def read(cls, directory: DirectoryPath, roots_file: DirectoryPath | None = None) -> Self:
        """Read the files of one generation. Raises FileMissing.

        A mounted Kubernetes Secret and `npd_client.store` swap the symbolic link `..data`, and others swap the
        directory itself: the link is followed once, so that no key is read with another generation's certificate. It
        counts only where all files lead through it, for somebody may have put plain ones in their places since.

        With `roots_file` the roots are read there and `ca.crt` is not looked at: where another volume holds them, they
        have generations of their own, and one file is always of one generation.
        """
        place, roots_place = Path(directory), Path(roots_file) if roots_file is not None else None
        names = (CERTIFICATE_FILE, KEY_FILE) if roots_place else (CERTIFICATE_FILE, KEY_FILE, AUTHORITIES_FILE)
        is_swapped = _is_swapped(place, names)
        generation = _generation(place, is_swapped)
        try:
            key, key_is_exposed = _read(place, generation / KEY_FILE)
            chain, _ = _read(place, generation / CERTIFICATE_FILE)
            if roots_place:
                roots, _ = _read(roots_place.parent, roots_place)
            else:
                roots, _ = _read(place, generation / AUTHORITIES_FILE)
        except FileMissing:
            if _generation(place, is_swapped) == generation:
                raise
            return cls.read(directory, roots_file)  # the generation was swapped, and removed, while it was read
        if not is_swapped and _is_swapped(place, names):  # the plain files became links while they were read
            return cls.read(directory, roots_file)
        return cls(chain, key, roots, key_is_exposed, place, roots_place)

    @property
    def authorities(self) -> Path:
        """The file that the roots stand in."""
        return self.roots_file or self.directory / AUTHORITIES_FILE

    @property
    def digest(self) -> bytes:
        """SHA-256 of the contents; modification times say nothing when a link is swapped."""
        parts = (self.certificate_chain, self.private_key, self.root_certificates)
        return sha256(b"".join(sha256(part).digest() for part in parts)).digest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files that passed every check that can be made without a server."""

    files: CredentialFiles = field(repr=False)
    leaf: x509.Certificate
    digest: bytes = field(repr=False)

    @classmethod
    def from_directory(
        cls, path: DirectoryPath, *, roots_file: DirectoryPath | None = None, now: datetime | None = None
    ) -> Self:
        """Read and check `tls.crt`, `tls.key` and `ca.crt`, or `roots_file` in its place. Raises CredentialsError."""
        return cls.of(CredentialFiles.read(path, roots_file), now=now)

    @classmethod
    def of(cls, files: CredentialFiles, *, now: datetime | None = None) -> Self:
        """Check files, or refuse them with the reason.

        1. Only its owner reads the key.
        2. Every PEM block is whole, and the certificates parse.
        3. The key is usable, and that of the first certificate.
        4. That certificate is for a TLS client, not a CA's and not one for signing documents alone.
        5. It is valid now.
        6. It leads to one of the roots through the CAs that stand after it, all valid now.

        Whether the server trusts that root, and whether the certificate was revoked, only the server can say.
        Raises CredentialsError.
        """
        now = now or datetime.now(UTC)
        require_private(files)  # (1)
        leaf, *presented = certificates_of(files.directory / CERTIFICATE_FILE, files.certificate_chain)  # (2)
        anchors = certificates_of(files.authorities, files.root_certificates)
        require_key(files, leaf, presented)  # (3)
        require_client_usage(files.directory / CERTIFICATE_FILE, leaf)  # (4)
        credentials = cls(files, leaf, files.digest)
        credentials.require_valid_at(now)  # (5)
        require_chain(files.directory, leaf, presented, anchors, now, files.roots_file)  # (6)
        return credentials

    @property
    def identity(self) -> str:
        """The URI that the certificate names, such as `spiffe://agency.npd.gov.vn/tax/core`; empty if it names none."""
        return identity_of(self.leaf)

    @property
    def expire_time(self) -> datetime:
        """The last moment of the certificate, UTC."""
        return self.leaf.not_valid_after_utc

    def require_valid_at(self, now: datetime) -> None:
        """Raise CertificateExpired or CertificateNotYetValid unless the certificate is valid at that moment."""
        require_valid_at(self.files.directory / CERTIFICATE_FILE, self.leaf, now)


def _is_swapped(place: Path, names: Sequence[str]) -> bool:
    return (place / DATA_LINK).exists() and all(_leads_through(place / name) for name in names)


def _generation(place: Path, is_swapped: bool) -> Path:
    return (place / DATA_LINK if is_swapped else place).resolve()


def _leads_through(path: Path) -> bool:
    return path.is_symlink() and os.readlink(path).startswith(f"{DATA_LINK}/")


def _read(place: Path, path: Path) -> tuple[bytes, bool]:
    """The content of a file, and whether others may read it; the mode is that of the opened file."""
    try:
        with path.open("rb") as stream:
            return stream.read(), _is_exposed(os.fstat(stream.fileno()))
    except OSError as error:
        raise FileMissing(
            f"{place / path.name} cannot be read ({error.strerror}). The directory holds {CERTIFICATE_FILE}, "
            f"{KEY_FILE} and {AUTHORITIES_FILE}, as your PKI administrator gave them; is it the right one?"
        ) from error


def _is_exposed(status: os.stat_result) -> bool:
    """PostgreSQL's rule for key files: one's own is for oneself alone, root's may be lent to a group to read.

    A Kubernetes volume with fsGroup lends so: root's, of the pod's group, mode 0440. npd_pki.files has the same rule.
    """
    if sys.platform == "win32":
        return False
    lent_by_root = status.st_uid == 0 and os.geteuid() != 0
    return bool(status.st_mode & (0o037 if lent_by_root else 0o077))


def require_private(files: CredentialFiles) -> None:
    """Raise KeyExposed if others than its owner may read the key."""
    if files.key_is_exposed:
        raise KeyExposed(
            f"{files.directory / KEY_FILE} can be read by others. Make it yours alone (chmod 600), and if others "
            "had access to this computer, ask for a new certificate with a new key."
        )


def identity_of(leaf: x509.Certificate) -> str:
    """The first URI that a certificate names; empty if it names none."""
    return next(iter(identities_of(leaf)), "")


def identities_of(leaf: x509.Certificate) -> list[str]:
    """The URIs that a certificate names. Rooms refuse one that does not name exactly one."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def require_valid_at(path: Path, leaf: x509.Certificate, now: datetime) -> None:
    """Raise CertificateExpired or CertificateNotYetValid unless that file's certificate is valid at that moment."""
    if now > leaf.not_valid_after_utc:
        raise CertificateExpired(
            f"Your certificate {path} expired on {_text(leaf.not_valid_after_utc)}. Renew it. If that moment "
            f"is still to come, set this computer's clock, which says {_text(now)}."
        )
    if now < leaf.not_valid_before_utc:
        raise CertificateNotYetValid(
            f"Your certificate {path} is valid only from {_text(leaf.not_valid_before_utc)}, but this "
            f"computer's clock says {_text(now)}. Set the clock if it is slow; otherwise wait."
        )


def certificates_of(path: Path, pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file in their order, at least one. Raises PemIncomplete, which names the file."""
    _require_whole(path, pem, _CERTIFICATE_LABELS)
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise PemIncomplete(f"{path} holds a certificate that cannot be parsed. Copy the file again.") from error


def _require_whole(path: Path, pem: bytes, labels: Sequence[bytes]) -> None:
    """A parser may pass over a block that is cut off: each begin has its end, and at least one is of the right kind."""
    begun, ended = _BEGIN.findall(pem), _END.findall(pem)
    if begun != ended:
        raise PemIncomplete(f"{path} is cut off: a PEM block has no end. Copy the file again, whole.")
    if not any(label in labels for label in begun):
        raise PemIncomplete(
            f"{path} holds no {labels[0].decode()} in PEM form. Is it the right file, and not DER or empty?"
        )


def require_key(files: CredentialFiles, leaf: x509.Certificate, presented: Sequence[x509.Certificate]) -> None:
    """Raise PemIncomplete, KeyUnusable or KeyMismatch unless the key of the files is that of the leaf."""
    place = files.directory / KEY_FILE
    _require_whole(place, files.private_key, _KEY_LABELS)
    try:
        key = load_pem_private_key(files.private_key, password=None)
    except TypeError:
        raise KeyUnusable(f"{place} is encrypted. Decrypt it: gRPC takes no passphrase.") from None
    except (ValueError, UnsupportedAlgorithm):
        # No cause is chained: what a parser says about the bytes of a key has no place in a log.
        raise KeyUnusable(f"{place} holds no private key that can be read. Copy the file again.") from None
    if spki_of(key.public_key()) == spki_of(leaf.public_key()):
        return
    if any(spki_of(key.public_key()) == spki_of(other.public_key()) for other in presented):
        raise KeyMismatch(
            f"{files.directory / CERTIFICATE_FILE} has another certificate before yours. Put yours first."
        )
    raise KeyMismatch(
        f"{place} is not the key of the certificate in {CERTIFICATE_FILE}. Take both from the same issue; if only one "
        "was renewed, copy the other too."
    )


def spki_of(key: PublicKeyTypes) -> bytes:
    """A public key's SubjectPublicKeyInfo, DER: equal for equal keys."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def require_client_usage(path: Path, leaf: x509.Certificate) -> None:
    """Raise CertificateUnfit for the certificate of a CA, and for one that is not for TLS clients."""
    if is_authority(leaf):
        raise CertificateUnfit(f"{path} begins with the certificate of a CA. Put your own first.")
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise CertificateUnfit(
            f"{path} is not for TLS clients (it may be your signing certificate). Use the system's TLS certificate."
        )


def require_signing_usage(path: Path, leaf: x509.Certificate) -> None:
    """Raise CertificateUnfit unless the certificate is for signing documents (RFC 9336)."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    if is_authority(leaf) or DOCUMENT_SIGNING not in usage:
        raise CertificateUnfit(f"{path} is not for signing agreements (it may be your TLS certificate).")


def require_chain(
    directory: Path,
    leaf: x509.Certificate,
    presented: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    now: datetime,
    roots_file: Path | None = None,
) -> None:
    """Raise ChainBroken unless the leaf leads to one of the anchors, all valid now.

    By signatures and dates alone: the name constraints of the CAs are the server's to enforce.
    """
    if _leads(leaf, _valid(presented, now), _valid(anchors, now)):
        return
    authorities = roots_file or directory / AUTHORITIES_FILE
    if _leads(leaf, presented, anchors):
        raise ChainBroken(
            f"A CA above your certificate, in {directory / CERTIFICATE_FILE} or {authorities.name}, has expired or is "
            f"not valid yet at {_text(now)}. Check this computer's clock; then ask your PKI administrator for the new "
            "chain."
        )
    missing = leaf
    while above := next((other for other in presented if _issued(missing, other) and other is not missing), None):
        missing, presented = above, [other for other in presented if other is not above]
    raise ChainBroken(
        f"Your certificate leads up to {missing.issuer.rfc4514_string()!r}, which {authorities} does "
        f"not hold. If that is an intermediate CA, append its certificate to {CERTIFICATE_FILE}; if it is a root, "
        f"{authorities.name} is of another environment: take the one that came with your certificate."
    )


def _leads(
    certificate: x509.Certificate, presented: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]
) -> bool:
    # Each is looked at once: to try every path through cross-certificates of one key would take for ever.
    reached, left = [certificate], list(presented)
    while reached:
        current = reached.pop()
        if any(_issued(current, anchor) for anchor in anchors):
            return True
        above = [other for other in left if _issued(current, other)]
        left = [other for other in left if other not in above]
        reached += above
    return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if not is_authority(issuer):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_issued_by_itself(certificate: x509.Certificate) -> bool:
    """Whether this is a root: a CA's certificate, signed with its own key."""
    return _issued(certificate, certificate)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether the basic constraints say that this is a CA's certificate."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _valid(certificates: Sequence[x509.Certificate], now: datetime) -> list[x509.Certificate]:
    return [one for one in certificates if one.not_valid_before_utc <= now <= one.not_valid_after_utc]


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
