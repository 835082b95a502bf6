"""Signing requests come from anybody: whatever their bytes are, the answer is a sound request or a typed refusal."""

import random
from ssl import DER_cert_to_PEM_cert

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from services.issuer.domain import CsrMalformed, CsrNameForeign, CsrNotProven, KeyUnacceptable
from services.issuer.operations.signing_requests import read_signing_request
from tests.issuer_fixture import csr_for, p256_key, uri_of

TAX = uri_of("tax/core")
TYPED = (CsrMalformed, CsrNameForeign, CsrNotProven, KeyUnacceptable)


def pem_of(der: bytes) -> bytes:
    """Bytes in the PEM of a signing request."""
    return DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()


def test_damaged_requests_are_refused_with_a_reason() -> None:
    drawn = random.Random(4)
    whole = x509.load_pem_x509_csr(csr_for(p256_key(), TAX)).public_bytes(Encoding.DER)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(drawn.choice((1, 1, 2, 8))):
            damaged[drawn.randrange(len(damaged))] = drawn.randrange(256)
        try:
            read_signing_request(pem_of(bytes(damaged)), TAX)
        except TYPED:
            refused += 1
    assert refused > 2900


def test_a_request_that_is_cut_off_anywhere_is_malformed() -> None:
    whole = csr_for(p256_key(), TAX).rstrip()
    for length in range(len(whole)):
        with pytest.raises(CsrMalformed):
            read_signing_request(whole[:length], TAX)


def test_a_request_of_another_version_is_malformed() -> None:
    der = bytearray(x509.load_pem_x509_csr(csr_for(p256_key())).public_bytes(Encoding.DER))
    der[der.index(b"\x02\x01\x00") + 2] = 7
    with pytest.raises(CsrMalformed):
        read_signing_request(pem_of(bytes(der)), TAX)


def test_text_around_a_request_is_passed_over() -> None:
    pem = csr_for(p256_key(), TAX)
    explained = b"Certificate Request:\n    Data:\n" + pem
    assert read_signing_request(explained, TAX) == read_signing_request(pem, TAX)
