"""Certificates and keys of a local mesh: made when missing, kept when fit, issued anew when near their end.

In production the rooms' certificates come from cert-manager and those of agencies from `issuer`; here the first ones
come from one PKI in a directory, root key included, and the room `issuer` has copies of the two CAs that it uses.
"""

import secrets
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from cryptography import x509

from npd_client.note import VerifierKey
from npd_pki.authority import IssuingCA
from npd_pki.ca_store import Hierarchy, load_hierarchy, save_hierarchy
from npd_pki.credentials import Credentials, load_credentials, write_credentials
from npd_pki.errors import PkiError
from npd_pki.files import PRIVATE, PUBLIC, PemFile, replace_files
from npd_pki.identity import Kind, agency_uri, mesh_uri, operator_uri
from npd_pki.issuance import IssuedCertificate
from npd_pki.keys import generate_ed25519_key, generate_p256_key, load_ed25519_private_key, save_private_key
from npd_pki.keys import save_public_key as save_public
from npd_pki.passphrase import read_passphrase
from npd_pki.profile import CLIENT_TLS, ROOM_TLS, SIGNING, Profile
from npd_pki.signed_bundle import sign_trust_bundle
from services.local.errors import DirectoryUnusable
from services.local.layout import Layout, make_private, write_text
from services.mesh.core.evidence.integrator import log_origin

HOST: Final = "localhost"
"""What clients dial, and so the DNS name in every room's certificate."""

_RENEWED_WITH_LEFT: Final = 1 / 3
_PSEUDONYM_KEY_BYTES: Final = 32
_PASSPHRASE_BYTES: Final = 32
_FIRST_SEQUENCE: Final = 1


class LocalAuthority:
    """The CAs of a local mesh, and what they issue into its layout. Safe to ask again and again."""

    def __init__(self, layout: Layout, environment: str) -> None:
        """`layout` must have been made. Nothing is read or issued yet."""
        self._layout = layout
        self._environment = environment

    @classmethod
    def found_in(cls, layout: Layout) -> Self:
        """The authority of a mesh that exists, of whatever environment. Raises DirectoryUnusable if there is none."""
        try:
            environment = load_hierarchy(layout.pki, _passphrase(layout)).environment
        except (PkiError, OSError) as error:
            raise DirectoryUnusable(f"{layout.directory} holds no mesh: {error}") from error
        return cls(layout, environment)

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """The CAs, made at their first use. Raises DirectoryUnusable for those of another environment, PkiError."""
        if not self._layout.pki.exists():
            if not self._layout.pki_passphrase.exists():
                write_text(self._layout.pki_passphrase, secrets.token_urlsafe(_PASSPHRASE_BYTES) + "\n")
            save_hierarchy(self._layout.pki, Hierarchy.create(self._environment), _passphrase(self._layout))
        found = load_hierarchy(self._layout.pki, _passphrase(self._layout))
        if found.environment != self._environment:
            raise DirectoryUnusable(
                f"{self._layout.directory} holds a mesh of the environment {found.environment}, not of "
                f"{self._environment}: name another directory, or that environment"
            )
        return found

    def ensure_policy_key(self) -> None:
        """The key with which the registry signs policy, and its public half."""
        if not self._layout.policy_key.exists():
            save_private_key(self._layout.policy_key, generate_ed25519_key())
        public = load_ed25519_private_key(self._layout.policy_key).public_key()
        save_public(self._layout.policy_public_key, public)

    def ensure_room(self, name: str) -> None:
        """A room's certificate and keys, and the key by which others verify its log."""
        places = self._layout.room(name)
        self.ensure_room_certificate(name)
        make_private(places.policy)
        if not places.checkpoint_key.exists():
            save_private_key(places.checkpoint_key, generate_ed25519_key())
        if not places.pseudonym_key.exists():
            write_text(places.pseudonym_key, secrets.token_hex(_PSEUDONYM_KEY_BYTES) + "\n")
        key = load_ed25519_private_key(places.checkpoint_key)
        verifier = VerifierKey.of(log_origin(self._environment, name), key)
        write_text(places.verifier_key, f"{verifier}\n", mode=0o644)

    def ensure_issuer(self) -> None:
        """What the room `issuer` works with: the CAs of agencies and operators, and the roots to trust, signed.

        The keys of the root and of the rooms' CA never go there.
        """
        places, root = self._layout.issuer, self.hierarchy.root
        for kind in (Kind.AGENCY, Kind.OPERATOR):
            make_private(places.authorities / kind)
            held = self._layout.pki / kind
            files = [PemFile("ca.key", (held / "ca.key").read_bytes(), PRIVATE)]
            files += [PemFile("ca.crt", (held / "ca.crt").read_bytes(), PUBLIC)]
            if not all(_holds(places.authorities / kind / one.name, one.content) for one in files):
                replace_files(places.authorities / kind, files)
        make_private(places.revocation_lists)
        if not places.trust_bundle.exists():
            bundle = sign_trust_bundle(root, _FIRST_SEQUENCE, [root.certificate])
            write_text(places.trust_bundle, bundle.decode(), mode=PUBLIC)

    def ensure_room_certificate(self, name: str) -> None:
        """A room's certificate alone: enough to call as a room that does not serve here."""
        uri = mesh_uri(self._environment, name)
        self._ensure(self._layout.room(name).tls, self.hierarchy.mesh, ROOM_TLS, uri, hosts=(HOST,))

    def ensure_system(self, agency: str, system: str) -> None:
        """What an agency's system calls with, and what it signs agreements with."""
        places, uri = self._layout.system(agency, system), agency_uri(self._environment, agency, system)
        self._ensure(places.tls, self.hierarchy.agency, CLIENT_TLS, uri)
        self._ensure(places.signing, self.hierarchy.agency, SIGNING, uri)

    def ensure_operator(self, name: str) -> None:
        """What an operator calls with, and what he signs agreements with."""
        places, uri = self._layout.operator(name), operator_uri(self._environment, name)
        self._ensure(places.tls, self.hierarchy.operator, CLIENT_TLS, uri)
        self._ensure(places.signing, self.hierarchy.operator, SIGNING, uri)

    def reissue_system(self, agency: str, system: str) -> IssuedCertificate:
        """Replace the TLS certificate and key of a system, whatever it holds; for instance after a revocation."""
        uri = agency_uri(self._environment, agency, system)
        return self._issue(self._layout.system(agency, system).tls, self.hierarchy.agency, CLIENT_TLS, uri)

    def _ensure(
        self, directory: Path, authority: IssuingCA, profile: Profile, uri: str, hosts: tuple[str, ...] = ()
    ) -> None:
        if not _is_fit(directory, self.hierarchy.root.certificate, uri):
            self._issue(directory, authority, profile, uri, hosts)

    def _issue(
        self, directory: Path, authority: IssuingCA, profile: Profile, uri: str, hosts: tuple[str, ...] = ()
    ) -> IssuedCertificate:
        make_private(directory)
        key = generate_p256_key()
        issued = authority.issue(profile, uri, key.public_key(), dns_names=hosts)
        write_credentials(directory, Credentials(issued, key, (self.hierarchy.root.certificate,)))
        return issued


def read_certificate(directory: Path) -> IssuedCertificate:
    """The certificate in a directory of credentials. Raises PkiError, OSError."""
    return load_credentials(directory).issued


def _passphrase(layout: Layout) -> bytes | None:
    """Of the CAs' keys; a mesh that was made without one has them in the clear."""
    return read_passphrase(layout.pki_passphrase) if layout.pki_passphrase.exists() else None


def _holds(place: Path, content: bytes) -> bool:
    return place.is_file() and place.read_bytes() == content


def _is_fit(directory: Path, root: x509.Certificate, uri: str) -> bool:
    """Whether credentials may stay: whole, of this identity, below the root that we hold, and not near their end.

    Their CA need not be ours: the issuer may have rolled it over.
    """
    try:
        held = load_credentials(directory)
    except (PkiError, OSError):
        return False
    leaf = held.issued.certificate
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [uri]:
        return False
    if root not in held.roots:
        return False
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return leaf.not_valid_after_utc - datetime.now(UTC) > life * _RENEWED_WITH_LEFT
