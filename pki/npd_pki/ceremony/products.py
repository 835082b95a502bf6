"""What a ceremony makes: each object with the lines that describe it and the files that it becomes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.authority import CertificateAuthority
from npd_pki.ca_store import CERTIFICATE_FILE
from npd_pki.ceremony.errors import SignatureUnusable
from npd_pki.description import certificate_lines, fingerprint, list_lines
from npd_pki.distribution import crl_file_name
from npd_pki.errors import PkiError
from npd_pki.files import PUBLIC, PemFile
from npd_pki.revocation_list import verify_revocation_list
from npd_pki.signed_bundle import read_trust_bundle
from npd_pki.trust_bundle import certificates_pem, is_issued_by

BUNDLE_FILE = "trust-bundle.txt"


@dataclass(frozen=True, slots=True)
class Product:
    """One object that is signed. `place` is where below the output its `files` go, `proofs` are what auditors compare.

    `drawn` names what is known only once it is signed, so that a rehearsal shows a mark in its stead; of what
    `is_exact` a rehearsal knows every byte to be signed. `verify` raises PkiError unless the signature is the CA's.
    """

    title: str
    place: PurePosixPath
    lines: tuple[str, ...]
    signed_digest: str
    digest: str
    files: tuple[PemFile, ...]
    drawn: Mapping[str, str]
    is_exact: bool
    verify: Callable[[], None]


def certificate_product(
    title: str, place: str, certificate: x509.Certificate, issuer: x509.Certificate, kept: tuple[PemFile, ...] = ()
) -> Product:
    """A CA's certificate, with what is kept of its key."""

    def verify() -> None:
        if not is_issued_by(certificate, issuer):
            raise SignatureUnusable(f"the {title} does not bear a signature that verifies under its issuer's key")

    return Product(
        title,
        PurePosixPath(place),
        tuple(certificate_lines(certificate)),
        fingerprint(certificate.tbs_certificate_bytes),
        fingerprint(certificate.public_bytes(Encoding.DER)),
        (*kept, PemFile(CERTIFICATE_FILE, certificates_pem([certificate]), PUBLIC)),
        {f"{certificate.serial_number:x}": "<drawn at the run: 159 random bits>"},
        False,
        verify,
    )


def list_product(
    title: str, signed: x509.CertificateRevocationList, authority: CertificateAuthority, *, is_exact: bool
) -> Product:
    """A revocation list, in the file whose name the certificates of its CA carry."""

    def verify() -> None:
        verify_revocation_list(signed, authority.certificate)

    return Product(
        title,
        PurePosixPath(),
        tuple(list_lines(signed)),
        fingerprint(signed.tbs_certlist_bytes),
        fingerprint(signed.public_bytes(Encoding.DER)),
        (PemFile(crl_file_name(authority.key_id), signed.public_bytes(Encoding.DER), PUBLIC),),
        {},
        is_exact,
        verify,
    )


def bundle_product(title: str, content: bytes, signer: x509.Certificate, lines: tuple[str, ...]) -> Product:
    """A signed trust bundle. What is signed is all of it but the last line."""

    def verify() -> None:
        read_trust_bundle(content, [signer])

    signed = content[: content.rindex(b"signed by ")]
    return Product(
        title,
        PurePosixPath(),
        lines,
        fingerprint(signed),
        fingerprint(content),
        (PemFile(BUNDLE_FILE, content, PUBLIC),),
        {},
        True,
        verify,
    )


def require_usable(product: Product) -> None:
    """Refuse what a defective key signed. Raises SignatureUnusable."""
    try:
        product.verify()
    except SignatureUnusable:
        raise
    except PkiError as error:
        raise SignatureUnusable(f"the {product.title} was signed with something else than its CA's key") from error
