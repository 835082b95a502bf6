"""A key that takes the place of another at a rehearsal: its public half is real, its signatures are worthless."""

from typing import Any, NoReturn, Self

from cryptography.hazmat.primitives.asymmetric import ec

from npd_pki.errors import KeyUnacceptable


class StandIn(ec.EllipticCurvePrivateKey):
    """Signs with a throwaway key, so that what would be signed can be built and linted without the key itself."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey) -> None:
        self._public_key = public_key
        self._throwaway = ec.generate_private_key(public_key.curve)

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """A signature that verifies under no key that anybody has."""
        return self._throwaway.sign(data, signature_algorithm)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half of the key that is stood in for."""
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        """That of the key that is stood in for."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """In bits."""
        return self._public_key.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Refused. Raises KeyUnacceptable."""
        self._refuse()

    def private_numbers(self) -> NoReturn:
        """Refused: there are none. Raises KeyUnacceptable."""
        self._refuse()

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:
        """Refused: there are none. Raises KeyUnacceptable."""
        self._refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def _refuse(self) -> NoReturn:
        raise KeyUnacceptable("the stand-in of a key has no private half")
