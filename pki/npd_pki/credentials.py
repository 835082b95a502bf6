"""What a party of the mesh holds to speak TLS, and the directory it stands in, laid out as cert-manager does.

tls.crt   the leaf, then its issuing CA
tls.key   the leaf's private key, mode 0600
ca.crt    the roots to trust, never an issuing CA
"""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from npd_pki.errors import CredentialsMismatched
from npd_pki.files import PRIVATE, PUBLIC, PemFile, replace_files
from npd_pki.issuance import IssuedCertificate
from npd_pki.keys import load_ec_private_key, private_key_pem
from npd_pki.trust_bundle import (
    certificates_pem,
    is_authority,
    is_issued_by,
    load_certificates,
    load_trust_bundle,
    require_roots,
)

TLS_CRT = "tls.crt"
TLS_KEY = "tls.key"
CA_CRT = "ca.crt"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A leaf with its chain, its private key and the roots to trust. An instance that exists belongs together.

    Raises CredentialsMismatched or TrustBundleMalformed when constructed from anything else. Dates, purposes and
    revocation are for whoever uses it to check, at the moment of use.
    """

    issued: IssuedCertificate
    private_key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    roots: tuple[x509.Certificate, ...]

    def __post_init__(self) -> None:
        require_roots(self.roots)
        path = (self.issued.certificate, *self.issued.chain)
        if path[0].public_key() != self.private_key.public_key():
            raise CredentialsMismatched("the private key is not that of the leaf")
        if not self.issued.chain or not all(map(is_authority, self.issued.chain)):
            raise CredentialsMismatched("the leaf is not followed by its issuing CA")
        if not all(is_issued_by(certificate, issuer) for certificate, issuer in pairwise(path)):
            raise CredentialsMismatched("the leaf was not issued by the CA that follows it")
        if not any(is_issued_by(path[-1], root) for root in self.roots):
            raise CredentialsMismatched("the issuing CA was not issued by a root of the bundle")


def write_credentials(directory: Path, credentials: Credentials) -> None:
    """Put credentials into a directory, which is made if absent, replacing those that are there.

    All three files are on the disk before the first is renamed into place. A reader that comes between the renames
    finds files of two generations, which `load_credentials` refuses; it keeps what it had and reads again.
    Raises OSError.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    replace_files(
        directory,
        [
            PemFile(CA_CRT, certificates_pem(credentials.roots), PUBLIC),
            PemFile(TLS_KEY, private_key_pem(credentials.private_key), PRIVATE),
            PemFile(TLS_CRT, credentials.issued.pem(), PUBLIC),
        ],
    )


def load_credentials(directory: Path) -> Credentials:
    """Read the credentials in a directory.

    Raises PrivateKeyExposed, PemMalformed, KeyUnacceptable, TrustBundleMalformed, CredentialsMismatched, OSError.
    """
    leaf, *chain = load_certificates(directory / TLS_CRT)
    return Credentials(
        issued=IssuedCertificate(leaf, tuple(chain)),
        private_key=load_ec_private_key(directory / TLS_KEY),
        roots=load_trust_bundle(directory / CA_CRT),
    )
