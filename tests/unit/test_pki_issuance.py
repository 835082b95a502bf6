"""Two steps to a certificate: prepared and linted without the CA's key, then signed once, unchanged."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from npd_pki.authority import IssuingCA, RootCA, create_root
from npd_pki.errors import (
    LintFailed,
    PreparedElsewhere,
)
from npd_pki.identity import Kind, agency_uri
from npd_pki.issuance import prepare, sign
from npd_pki.keys import generate_p256_key, generate_p384_key
from npd_pki.profile import CLIENT_TLS, ROOT
from npd_pki.tbs import root_tbs
from npd_pki.validity import Validity

ENV = "npd.test"
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
LEAF_KEY = generate_p256_key().public_key()


class CountingKey(ec.EllipticCurvePrivateKey):
    """A key behind the abstract class, as one in a hardware module would be: it signs, and shows nothing."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key, self.signatures = key, 0

    def sign(self, data: object, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        self.signatures += 1
        return self._key.sign(data, signature_algorithm)  # type: ignore[arg-type]

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._key.curve

    @property
    def key_size(self) -> int:
        return self._key.key_size

    def exchange(self, algorithm: object, peer_public_key: object) -> bytes:
        raise NotImplementedError

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        raise NotImplementedError

    def private_bytes(self, encoding: object, format: object, encryption_algorithm: object) -> bytes:
        raise NotImplementedError

    def __copy__(self) -> "CountingKey":
        return self

    def __deepcopy__(self, memo: object) -> "CountingKey":
        return self


@pytest.fixture(scope="module")
def root() -> RootCA:
    return create_root(ENV, validity=Validity.lasting(timedelta(days=7000), NOW))


@pytest.fixture(scope="module")
def cas(root: RootCA) -> dict[Kind, IssuingCA]:
    return {
        kind: root.issue_issuing_ca(kind, validity=Validity.lasting(timedelta(days=1800), NOW), key=generate_p256_key())
        for kind in Kind
    }


def lasting(days: float) -> Validity:
    return Validity.lasting(timedelta(days=days), NOW)


def test_prepared_certificate_can_be_recorded_before_it_is_signed(cas: dict[Kind, IssuingCA]) -> None:
    prepared = cas[Kind.AGENCY].prepare(CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), LEAF_KEY, validity=lasting(1))
    issued = cas[Kind.AGENCY].sign(prepared)
    assert issued.serial == prepared.serial
    assert issued.certificate.tbs_certificate_bytes == prepared.tbs_bytes
    assert issued.certificate.signature != prepared.linted.signature
    with pytest.raises(InvalidSignature):
        prepared.linted.verify_directly_issued_by(cas[Kind.AGENCY].certificate)


def test_prepared_certificate_is_signed_by_its_own_ca_alone(cas: dict[Kind, IssuingCA]) -> None:
    prepared = cas[Kind.AGENCY].prepare(CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), LEAF_KEY, validity=lasting(1))
    with pytest.raises(PreparedElsewhere):
        cas[Kind.OPERATOR].sign(prepared)


def test_key_in_a_hardware_module_signs_once_per_certificate(root: RootCA) -> None:
    key = CountingKey(generate_p256_key())
    ca = root.issue_issuing_ca(Kind.AGENCY, key=key, validity=lasting(10))
    prepared = ca.prepare(CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), LEAF_KEY, validity=lasting(1))
    assert key.signatures == 0
    ca.sign(prepared).certificate.verify_directly_issued_by(ca.certificate)
    assert key.signatures == 1


def test_nothing_is_signed_that_fails_its_lint() -> None:
    key = CountingKey(generate_p384_key())

    def lint(_: x509.Certificate) -> None:
        raise LintFailed(["too pretty"])

    with pytest.raises(LintFailed, match="too pretty"):
        prepare(root_tbs(ROOT, ENV, key.public_key(), lasting(1)), key, lint)
    assert key.signatures == 0


def test_signed_certificate_that_differs_from_the_linted_one_is_not_returned() -> None:
    key = generate_p384_key()
    prepared = prepare(root_tbs(ROOT, ENV, key.public_key(), lasting(1)), key, lambda certificate: None)
    switched = replace(prepared, tbs=root_tbs(ROOT, ENV, key.public_key(), lasting(2)))
    with pytest.raises(LintFailed):
        sign(switched, key)
