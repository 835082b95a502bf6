"""RSA keys that agencies bring for their leaves: large enough, not known to be broken, and never a CA's."""

from collections.abc import Callable
from math import prod

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.authority import IssuingCA, RootCA, create_root
from npd_pki.errors import KeyUnacceptable, ProofOfPossessionFailed
from npd_pki.identity import Kind, agency_uri, operator_uri
from npd_pki.keys import generate_ed25519_key, generate_p256_key, generate_p384_key, key_id, require_leaf_public_key
from npd_pki.profile import CLIENT_TLS, SIGNING, Profile
from npd_pki.request import create_request, load_request, proven_public_key

ENV = "npd.test"
URI = agency_uri(ENV, "gdt", "tax")
PRIMES = [number for number in range(3, 752) if all(number % below for below in range(2, number))]


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=3072)


@pytest.fixture(scope="module")
def root() -> RootCA:
    return create_root(ENV)


@pytest.fixture(scope="module")
def agency(root: RootCA) -> IssuingCA:
    return root.issue_issuing_ca(Kind.AGENCY)


def key_of(modulus: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def free_of_small_factors(start: int, step: int) -> int:
    """The first number from `start` on, in steps, that no small prime divides: nobody looks whether it is prime."""
    while any(start % prime == 0 for prime in PRIMES):
        start += step
    return start


@pytest.mark.parametrize("profile", [CLIENT_TLS, SIGNING])
def test_leaf_is_issued_for_the_rsa_key_of_a_request(
    profile: Profile, rsa_key: rsa.RSAPrivateKey, agency: IssuingCA
) -> None:
    request = load_request(create_request(rsa_key).public_bytes(Encoding.PEM))
    issued = agency.issue(profile, URI, proven_public_key(request)).certificate
    assert issued.public_key() == rsa_key.public_key()
    issued.verify_directly_issued_by(agency.certificate)
    usage = issued.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_encipherment


def test_operator_may_bring_one_too(rsa_key: rsa.RSAPrivateKey, root: RootCA) -> None:
    operators = root.issue_issuing_ca(Kind.OPERATOR)
    assert operators.issue(CLIENT_TLS, operator_uri(ENV, "thu"), rsa_key.public_key())


def test_request_that_is_signed_by_pss_proves_possession(rsa_key: rsa.RSAPrivateKey) -> None:
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    assert proven_public_key(builder.sign(rsa_key, hashes.SHA256(), rsa_padding=pss)) == rsa_key.public_key()


def test_request_for_somebody_elses_rsa_key_is_refused(rsa_key: rsa.RSAPrivateKey) -> None:
    own = bytearray(create_request(rsa_key).public_bytes(Encoding.DER))
    own[-1] ^= 1
    with pytest.raises(ProofOfPossessionFailed):
        proven_public_key(x509.load_der_x509_csr(bytes(own)))


def test_no_ca_has_an_rsa_key(rsa_key: rsa.RSAPrivateKey, root: RootCA) -> None:
    for kind in Kind:
        with pytest.raises(KeyUnacceptable, match="EC key"):
            root.certify(kind, rsa_key.public_key())


def test_key_id_of_an_rsa_key_is_that_of_its_public_half(rsa_key: rsa.RSAPrivateKey) -> None:
    assert len(key_id(rsa_key.public_key())) == 64
    assert key_id(rsa_key.public_key()) != key_id(generate_p256_key().public_key())


@pytest.mark.parametrize("generate", [generate_p256_key, generate_p384_key])
def test_ec_keys_stand_in_leaves_as_before(generate: Callable[[], ec.EllipticCurvePrivateKey]) -> None:
    key = generate().public_key()
    assert require_leaf_public_key(key) is key


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP521R1()).public_key(), generate_ed25519_key().public_key()],
    ids=["P-521", "Ed25519"],
)
def test_other_keys_stand_in_no_leaf(key: ec.EllipticCurvePublicKey) -> None:
    with pytest.raises(KeyUnacceptable, match="P-256 or P-384, or RSA"):
        require_leaf_public_key(key)


@pytest.mark.parametrize("bits", [1024, 2048, 3071, 8193, 16384])
def test_rsa_key_of_another_size_is_refused(bits: int) -> None:
    with pytest.raises(KeyUnacceptable, match=f"3072 to 8192 bits, this one {bits}"):
        require_leaf_public_key(key_of(free_of_small_factors(3 << (bits - 2) | 1, 2)))


@pytest.mark.parametrize("exponent", [3, 17, 2**16 - 1, 2**33 + 1])
def test_rsa_key_of_another_exponent_is_refused(exponent: int, rsa_key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(KeyUnacceptable, match="exponent"):
        require_leaf_public_key(key_of(rsa_key.public_key().public_numbers().n, exponent))


@pytest.mark.parametrize("factor", [3, 251, 751])
def test_rsa_key_with_a_small_factor_is_refused(factor: int, agency: IssuingCA) -> None:
    modulus = free_of_small_factors(3 << 3069 | 1, 2) * factor
    with pytest.raises(KeyUnacceptable, match="small factor"):
        agency.issue(CLIENT_TLS, URI, key_of(modulus))


@pytest.mark.parametrize("distance", [2, 1 << 700])
def test_rsa_key_of_close_primes_is_refused(distance: int, agency: IssuingCA) -> None:
    smaller = free_of_small_factors(3 << 1535 | 1, 2)
    larger = free_of_small_factors(smaller + distance, 2)
    with pytest.raises(KeyUnacceptable, match="CVE-2022-26320"):
        agency.issue(CLIENT_TLS, URI, key_of(smaller * larger))


def test_rsa_key_of_a_broken_smart_card_is_refused(agency: IssuingCA) -> None:
    """Each of its primes is k * M + (65537^a mod M); so the remainder of their product is a power of 65537 too."""
    product = prod(PRIMES[: PRIMES.index(167) + 1])
    start = pow(65537, 1_234_567, product) + product * (1 << (3071 - product.bit_length() + 1))
    modulus = free_of_small_factors(start if start % 2 else start + product, 2 * product)
    with pytest.raises(KeyUnacceptable, match="CVE-2017-15361"):
        agency.issue(CLIENT_TLS, URI, key_of(modulus))
