"""Signing requests (PKCS #10), as holders send them: all that can be wrong with one, before anything is stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki import errors as pki
from npd_pki.identity import Identity
from npd_pki.keys import key_id
from npd_pki.request import load_request, proven_public_key, require_names
from services.issuer.domain import CsrMalformed, CsrNameForeign, CsrNotProven, KeyBlocked, KeyUnacceptable, Wanted
from services.issuer.operations.office import Office
from services.issuer.repository import Ledger
from services.mesh.core import caller as callers
from services.mesh.core.errors import Violation

_FIELD = "csr"
_LARGEST = 16 << 10
_SEEN = 100


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """A sound request for one identity: its DER bytes, their SHA-256, and the id of the key that it proves."""

    identity: str
    der: bytes
    digest: bytes
    key_id: str


def read_signing_request(pem: bytes, identity: str) -> SigningRequest:
    """Read a request for an identity that is settled already.

    1. It is one whole PKCS #10 request in PEM, and no book.
    2. Its key is of a type that the mesh takes, and signed it.
    3. It asks for no other name.

    Raises CsrMalformed, KeyUnacceptable, CsrNotProven, CsrNameForeign.
    """
    if len(pem) > _LARGEST or pem.count(b"-----BEGIN ") != 1:  # (1)
        raise CsrMalformed(Violation(_FIELD, f"must be one request in PEM, {_LARGEST} bytes at most"))
    try:
        request = load_request(pem)
        public_key = proven_public_key(request)  # (2)
        require_names(request, Identity.parse(identity))  # (3)
    except (pki.PemMalformed, x509.InvalidVersion) as error:
        raise CsrMalformed() from error
    except pki.KeyUnacceptable as error:
        raise KeyUnacceptable() from error
    except pki.ProofOfPossessionFailed as error:
        raise CsrNotProven() from error
    except pki.NamesForeign as error:
        raise CsrNameForeign(identity=identity) from error
    der = request.public_bytes(Encoding.DER)
    return SigningRequest(identity, der, sha256(der).digest(), key_id(public_key))


class KeyRules:
    """Which keys cannot have a certificate, however strong they are. `roots` are those of the bundle in use."""

    def __init__(self, office: Office, roots: Callable[[], Sequence[x509.Certificate]]) -> None:
        self._office = office
        self._roots = roots

    def require_usable(self, tx: Ledger, request: SigningRequest) -> None:
        """Raises KeyBlocked for a compromised key, KeyUnacceptable for that of a CA."""
        if tx.blocked_keys.holds(request.key_id):
            raise KeyBlocked()
        is_known = request.key_id in self._office.keyring.opened or tx.authorities.find(request.key_id) is not None
        if is_known or any(callers.key_id(root) == request.key_id for root in self._roots()):
            raise KeyUnacceptable(Violation(_FIELD, "must not hold the key of a CA"))

    def require_new(self, tx: Ledger, request: SigningRequest, *held: str) -> None:
        """A renewal is for a new key: a key that leaked unnoticed ends with its certificate. Raises KeyUnacceptable.

        `held` are keys that the holder has whether or not they are known here. A key of an intent can be used again.
        """
        now = self._office.clock.now()
        before = tx.certificates.page(Wanted(identity=request.identity, key_id=request.key_id), now, None, _SEEN)
        if request.key_id in held or any(one.der for one in before):
            raise KeyUnacceptable(Violation(_FIELD, "must hold a new key, of which no certificate was issued before"))
