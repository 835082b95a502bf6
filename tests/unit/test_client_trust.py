"""Which trust bundles npd-client believes: those that a root trusted already signed, byte for byte."""

from base64 import b64encode
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from npd_client.trust import (
    RootsMalformed,
    TrustBundleMalformed,
    TrustBundleUntrusted,
    read_roots,
    read_trust_bundle,
    root_id,
    sequence_taken,
)
from npd_pki.ca_store import Hierarchy
from npd_pki.signed_bundle import sign_trust_bundle
from npd_pki.trust_bundle import certificates_pem

ENV = "npd.test"
OURS, NEXT, FOREIGN = Hierarchy.create(ENV), Hierarchy.create(ENV), Hierarchy.create(ENV)
ROOT = OURS.root.certificate
BUNDLE = sign_trust_bundle(OURS.root, 4, [ROOT, NEXT.root.certificate])


def signed(text: bytes, hierarchy: Hierarchy = OURS, name: x509.Certificate = ROOT) -> bytes:
    """A text signed by a root, well or not."""
    signature = hierarchy.root.key.sign(text, ec.ECDSA(hashes.SHA384()))
    return text + f"signed by {root_id(name)}: {b64encode(signature).decode()}\n".encode()


def text_of(bundle: bytes) -> bytes:
    return bundle[: bundle.rfind(b"signed by")]


def test_what_a_trusted_root_signed_is_believed() -> None:
    bundle = read_trust_bundle(BUNDLE, [FOREIGN.root.certificate, ROOT])
    assert (bundle.environment, bundle.sequence, bundle.roots) == (ENV, 4, (ROOT, NEXT.root.certificate))
    assert read_roots(bundle.roots_pem()) == bundle.roots
    assert (sequence_taken(BUNDLE, ENV), sequence_taken(BUNDLE, "other.test"), sequence_taken(b"", ENV)) == (4, 0, 0)


def test_a_root_that_the_bundle_brings_vouches_for_nothing() -> None:
    with pytest.raises(TrustBundleUntrusted, match="does not hold"):
        read_trust_bundle(BUNDLE, [NEXT.root.certificate])
    with pytest.raises(TrustBundleUntrusted):
        read_trust_bundle(BUNDLE, [])


def test_a_signature_of_another_key_in_the_name_of_a_trusted_root_is_refused() -> None:
    with pytest.raises(TrustBundleUntrusted, match="changed after"):
        read_trust_bundle(signed(text_of(BUNDLE), FOREIGN), [ROOT])


def test_no_byte_can_be_changed() -> None:
    for place in range(len(BUNDLE)):
        changed = bytearray(BUNDLE)
        changed[place] ^= 1
        with pytest.raises((TrustBundleUntrusted, TrustBundleMalformed)):
            read_trust_bundle(bytes(changed), [ROOT])


def test_an_expired_root_signs_no_more() -> None:
    with pytest.raises(TrustBundleUntrusted, match="expired"):
        read_trust_bundle(BUNDLE, [ROOT], now=ROOT.not_valid_after_utc + timedelta(seconds=1))


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\n",
        BUNDLE[:-1],
        BUNDLE + b"\n",
        text_of(BUNDLE),
        BUNDLE.replace(b"signed by ", b"signed  by "),
        signed(b"npd trust bundle v2" + text_of(BUNDLE)[19:]),
        signed(text_of(BUNDLE).replace(b"sequence: 4", b"sequence: 04")),
        signed(text_of(BUNDLE).replace(b"sequence: 4", b"sequence: -4")),
        signed(text_of(BUNDLE).replace(b"sequence: 4", b"sequence: 4\nsequence: 5")),
        signed(b"npd trust bundle v1\nenvironment: npd.test\nsequence: 4\n\n"),
        signed(text_of(BUNDLE) + certificates_pem([OURS.agency.certificate])),
        signed(text_of(BUNDLE) + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ],
)
def test_what_is_no_bundle_is_refused_even_if_it_is_signed(broken: bytes) -> None:
    with pytest.raises(TrustBundleMalformed):
        read_trust_bundle(broken, [ROOT])


@pytest.mark.parametrize(
    "pem", [b"", b"-----BEGIN CERTIFICATE-----\n", certificates_pem([OURS.agency.certificate]), b"\xff"]
)
def test_a_file_of_roots_holds_roots_alone(pem: bytes) -> None:
    with pytest.raises(RootsMalformed):
        read_roots(pem)
