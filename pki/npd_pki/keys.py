"""Key pairs: making, saving and loading them. Signs nothing and issues nothing.

EC P-384 for the root, EC P-256 for issuing CAs and leaves (DESIGN.md part 5; NIST SP 800-186), Ed25519 for the policy
snapshots and checkpoints of a room (RFC 8410), which are never TLS keys. The key that an agency brings for a leaf may
also be RSA; no CA signs with one.
"""

from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from npd_pki.errors import (
    KeyUnacceptable,
    PassphraseMissing,
    PassphraseWrong,
    PemMalformed,
    PrivateKeyUnencrypted,
)
from npd_pki.files import PRIVATE, PUBLIC, PemFile, read_private, replace_files
from npd_pki.passphrase import require_passphrase
from npd_pki.rsa_weakness import require_strong

SigningKey: TypeAlias = ec.EllipticCurvePrivateKey
"""What a CA signs with. The seam for a hardware module: `cryptography` calls `sign` and `public_key` of any subclass of
this abstract class, so a key that never leaves its device is a subclass whose `private_bytes` refuses."""

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
LeafKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
LeafPublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_HASHES: dict[str, hashes.SHA256 | hashes.SHA384] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384()}


def generate_p384_key() -> ec.EllipticCurvePrivateKey:
    """Make a key for a root, which lives for decades."""
    return ec.generate_private_key(ec.SECP384R1())


def generate_p256_key() -> ec.EllipticCurvePrivateKey:
    """Make a key for an issuing CA or a leaf."""
    return ec.generate_private_key(ec.SECP256R1())


def generate_ed25519_key() -> ed25519.Ed25519PrivateKey:
    """Make a key with which a room signs its policy snapshots or checkpoints."""
    return ed25519.Ed25519PrivateKey.generate()


def private_key_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """A private key as PKCS#8 PEM (RFC 5958), encrypted if a passphrase is given. Only ever for a file of mode 0600.

    Raises PassphraseMalformed.
    """
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        encryption = BestAvailableEncryption(require_passphrase(passphrase))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def save_private_key(path: Path, key: PrivateKey, passphrase: bytes | None = None) -> None:
    """Write a private key into a file of mode 0600, whole or not at all, replacing what was there.

    Raises PassphraseMalformed, OSError.
    """
    replace_files(path.parent, [PemFile(path.name, private_key_pem(key, passphrase), PRIVATE)])


def save_public_key(path: Path, key: PublicKey) -> None:
    """Write a public key (SubjectPublicKeyInfo PEM) into a file that all may read, likewise. Raises OSError."""
    content = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    replace_files(path.parent, [PemFile(path.name, content, PUBLIC)])


def load_ec_private_key(path: Path, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Read the P-256 or P-384 key of a CA or a leaf.

    Raises PrivateKeyExposed if others than the owner may touch the file, PassphraseMissing if the key is encrypted and
    no passphrase is given, PassphraseWrong, PrivateKeyUnencrypted if one is given for a bare key, PemMalformed,
    KeyUnacceptable for another type or curve, OSError.
    """
    key = _load_private_key(path, passphrase)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnacceptable(f"{path} holds no EC key")
    require_ec_public_key(key.public_key())
    return key


def load_ed25519_private_key(path: Path) -> ed25519.Ed25519PrivateKey:
    """Read a room's policy or checkpoint key. Raises as `load_ec_private_key` does."""
    key = _load_private_key(path, None)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise KeyUnacceptable(f"{path} holds no Ed25519 key")
    return key


def load_ed25519_public_key(path: Path) -> ed25519.Ed25519PublicKey:
    """Read the public half of a room's policy or checkpoint key. Raises PemMalformed, KeyUnacceptable, OSError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PemMalformed(f"{path} holds no PEM public key") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise KeyUnacceptable(f"{path} holds no Ed25519 key")
    return key


def require_ec_public_key(key: PublicKeyTypes) -> ec.EllipticCurvePublicKey:
    """Return the key if it may be a CA's: EC on P-256 or P-384. Raises KeyUnacceptable."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise KeyUnacceptable("a CA of the mesh has an EC key on P-256 or P-384, no other")
    return key


def require_leaf_public_key(key: PublicKeyTypes) -> LeafPublicKey:
    """Return the key if it may stand in a leaf: EC on P-256 or P-384, or RSA from 3072 bits, without known weakness.

    Raises KeyUnacceptable. Source: NIST SP 800-57 part 1, 5.6.1.1 (128 bits of strength).
    """
    if isinstance(key, rsa.RSAPublicKey):
        return require_strong(key)
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise KeyUnacceptable("a certificate of the mesh holds an EC key on P-256 or P-384, or RSA from 3072 bits")
    return key


def signature_hash(key: LeafPublicKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash with which a key signs, as strong as its curve (RFC 5480 section 4); SHA-256 for RSA."""
    return hashes.SHA256() if isinstance(key, rsa.RSAPublicKey) else _HASHES[key.curve.name]


def key_id(key: PublicKey | rsa.RSAPublicKey) -> str:
    """SHA-256 of a public key's DER SubjectPublicKeyInfo, in lower-case hexadecimal.

    The same for every certificate that a key has ever had, so it outlives the renewal of a CA certificate.
    """
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _load_private_key(path: Path, passphrase: bytes | None) -> object:
    """Without the passphrase first: what is no key at all is told apart from what the passphrase does not open.

    No cause is chained to a refusal: what a parser says about the bytes of a private key has no place in a log.
    """
    content = read_private(path)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        return _decrypted(path, content, passphrase)
    except (ValueError, UnsupportedAlgorithm):
        raise PemMalformed(f"{path} holds no whole PEM private key: restore it from a copy") from None
    if passphrase is not None:
        raise PrivateKeyUnencrypted(f"{path} is not encrypted, but a passphrase is given: is it the file you mean?")
    return key


def _decrypted(path: Path, content: bytes, passphrase: bytes | None) -> object:
    if passphrase is None:
        raise PassphraseMissing(f"{path} is encrypted: give its passphrase")
    try:
        return load_pem_private_key(content, password=require_passphrase(passphrase))
    except ValueError:
        raise PassphraseWrong(f"the passphrase does not open {path}, or the file is damaged") from None
    except UnsupportedAlgorithm:
        raise PemMalformed(f"{path} is encrypted in a way that cannot be read here") from None
