"""RSA public keys that an agency may bring: large enough, and not of a sort that is known to be broken.

Finds what faulty generators have really made; proves nothing about the rest. What Let's Encrypt's CA checks likewise.
"""

from math import gcd, isqrt, prod

from cryptography.hazmat.primitives.asymmetric import rsa

from npd_pki.errors import KeyUnacceptable

SMALLEST_BITS = 3072
LARGEST_BITS = 8192
"""What BoringSSL, which is in every room's gRPC, verifies at most: a client with a larger key could never connect."""

_SMALLEST_EXPONENT, _LARGEST_EXPONENT = 65537, 2**33 - 1  # FIPS 186-5 5.1 from below, BoringSSL from above
_FERMAT_ROUNDS = 100


def require_strong(key: rsa.RSAPublicKey) -> rsa.RSAPublicKey:
    """Return the key if none of these is true of it; each is computed in a few milliseconds at most.

    1. It is shorter than 3072 bits, or longer than any room can verify.
    2. Its exponent is even, small, or larger than any room can verify.
    3. Its modulus has a small factor.
    4. Its primes are so close that Fermat's method finds them (CVE-2022-26320).
    5. Its modulus has the structure of the keys of Infineon's library (CVE-2017-15361, "ROCA").
    Raises KeyUnacceptable.
    """
    numbers = key.public_numbers()
    if not SMALLEST_BITS <= key.key_size <= LARGEST_BITS:  # (1)
        raise KeyUnacceptable(f"an RSA key has {SMALLEST_BITS} to {LARGEST_BITS} bits, this one {key.key_size}")
    if not (numbers.e % 2 and _SMALLEST_EXPONENT <= numbers.e <= _LARGEST_EXPONENT):  # (2)
        raise KeyUnacceptable("the exponent of an RSA key is odd, from 65537 to 2^33: make a new key with 65537")
    if gcd(numbers.n, _SMALL_FACTORS) != 1:  # (3)
        raise KeyUnacceptable("the RSA key has a small factor: its generator is broken")
    if _has_close_primes(numbers.n):  # (4)
        raise KeyUnacceptable("the primes of the RSA key are too close: its generator is broken (CVE-2022-26320)")
    if all(numbers.n % prime in powers for prime, powers in _ROCA_POWERS):  # (5)
        raise KeyUnacceptable("the RSA key comes from a broken smart card or TPM (CVE-2017-15361)")
    return key


def _has_close_primes(modulus: int) -> bool:
    middle = isqrt(modulus - 1) + 1
    for candidate in range(middle, middle + _FERMAT_ROUNDS):
        rest = candidate * candidate - modulus
        if isqrt(rest) ** 2 == rest:
            return True
    return False


def _primes_below(limit: int) -> list[int]:
    return [number for number in range(2, limit) if all(number % below for below in range(2, isqrt(number) + 1))]


def _powers(base: int, prime: int) -> frozenset[int]:
    return frozenset(pow(base, exponent, prime) for exponent in range(prime - 1))


_SMALL_FACTORS = prod(_primes_below(752))
_ROCA_POWERS = tuple((prime, _powers(65537, prime)) for prime in _primes_below(168) if prime > 2)
"""The residues of such moduli are powers of 65537 for each of the first primes: Nemec et al., "The Return of
Coppersmith's Attack", CCS 2017, section 3.3."""
