"""Signed trust bundles: who is believed about which roots to trust."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from npd_client import trust
from npd_pki.authority import RootCA, create_root
from npd_pki.errors import TrustBundleMalformed, TrustBundleUntrusted
from npd_pki.identity import Kind
from npd_pki.keys import generate_p256_key, signature_hash
from npd_pki.signed_bundle import read_trust_bundle, sign_trust_bundle
from npd_pki.trust_bundle import certificates_pem
from npd_pki.validity import Validity

ENV = "npd.test"


@pytest.fixture(scope="module")
def old_root() -> RootCA:
    return create_root(ENV)


@pytest.fixture(scope="module")
def new_root() -> RootCA:
    return create_root(ENV)


@pytest.fixture(scope="module")
def bundle(old_root: RootCA, new_root: RootCA) -> bytes:
    return sign_trust_bundle(old_root, 7, [old_root.certificate, new_root.certificate])


def test_trusted_root_introduces_its_successor(bundle: bytes, old_root: RootCA, new_root: RootCA) -> None:
    read = read_trust_bundle(bundle, [old_root.certificate])
    assert (read.environment, read.sequence) == (ENV, 7)
    assert read.roots == (old_root.certificate, new_root.certificate)
    assert read.signer == old_root.certificate


def test_successor_takes_leave_of_the_old_root(old_root: RootCA, new_root: RootCA) -> None:
    bundle = sign_trust_bundle(new_root, 8, [new_root.certificate])
    assert read_trust_bundle(bundle, [old_root.certificate, new_root.certificate]).roots == (new_root.certificate,)


def test_text_is_what_every_reader_expects(bundle: bytes, old_root: RootCA, new_root: RootCA) -> None:
    head = b"npd trust bundle v1\nenvironment: npd.test\nsequence: 7\n\n"
    roots = certificates_pem([old_root.certificate, new_root.certificate])
    text, last_line = bundle.removesuffix(b"\n").rsplit(b"\n", 1)
    assert text + b"\n" == head + roots
    name, _, signature = last_line.partition(b": ")
    assert name.decode() == f"signed by {old_root.key_id}"
    assert base64.b64encode(base64.b64decode(signature, validate=True)) == signature


@pytest.mark.parametrize("p256", [True, False], ids=["P-256", "P-384"])
def test_client_library_reads_it_too(p256: bool) -> None:
    root = create_root(ENV, key=generate_p256_key() if p256 else None)
    bundle = sign_trust_bundle(root, 3, [root.certificate])
    read = trust.read_trust_bundle(bundle, [root.certificate])
    assert (read.environment, read.sequence, read.roots) == (ENV, 3, (root.certificate,))


def test_root_that_is_not_trusted_introduces_nobody(bundle: bytes, new_root: RootCA) -> None:
    for trusted in ([], [new_root.certificate], [create_root(ENV).certificate]):
        with pytest.raises(TrustBundleUntrusted):
            read_trust_bundle(bundle, trusted)


def test_root_that_has_expired_introduces_nobody(bundle: bytes, old_root: RootCA) -> None:
    for moment in (datetime.now(UTC) + timedelta(days=30 * 366), datetime.now(UTC) - timedelta(days=1)):
        with pytest.raises(TrustBundleUntrusted, match="not valid now"):
            read_trust_bundle(bundle, [old_root.certificate], now=moment)


def test_any_change_after_the_signature_is_found(bundle: bytes, old_root: RootCA, new_root: RootCA) -> None:
    extra = certificates_pem([create_root(ENV).certificate])
    changes = {
        "sequence": bundle.replace(b"sequence: 7", b"sequence: 9"),
        "environment": bundle.replace(b"environment: npd.test", b"environment: npd.tess"),
        "root added": bundle.replace(b"\nsigned by", b"\n" + extra + b"signed by"),
        "root removed": bundle.replace(certificates_pem([new_root.certificate]), b""),
        "line added": bundle.replace(b"\n\n", b"\n\n\n", 1),
    }
    for what, changed in changes.items():
        assert changed != bundle
        with pytest.raises(TrustBundleUntrusted):
            pytest.fail(f"{what}: {read_trust_bundle(changed, [old_root.certificate])}")


def test_signature_of_another_bundle_does_not_fit(bundle: bytes, old_root: RootCA) -> None:
    other = sign_trust_bundle(old_root, 8, [old_root.certificate])
    spliced = bundle.rsplit(b"signed by", 1)[0] + b"signed by" + other.rsplit(b"signed by", 1)[1]
    with pytest.raises(TrustBundleUntrusted):
        read_trust_bundle(spliced, [old_root.certificate])


def test_trusted_roots_name_over_a_foreign_signature_is_found(bundle: bytes, old_root: RootCA) -> None:
    thief = create_root(ENV)
    forged = sign_trust_bundle(thief, 9, [thief.certificate]).replace(thief.key_id.encode(), old_root.key_id.encode())
    with pytest.raises(TrustBundleUntrusted):
        read_trust_bundle(forged, [old_root.certificate])


@pytest.mark.parametrize("end", [b"", b"\n\n", b"\r\n", b"\nmore\n", b" \n"])
def test_bundle_ends_with_its_signature(end: bytes, bundle: bytes, old_root: RootCA) -> None:
    with pytest.raises(TrustBundleMalformed):
        read_trust_bundle(bundle.removesuffix(b"\n") + end, [old_root.certificate])


@pytest.mark.parametrize("content", [b"", b"\n", b"npd trust bundle v1\n", b"signed by \n", b"\xff" * 100])
def test_what_is_no_bundle_is_refused(content: bytes, old_root: RootCA) -> None:
    with pytest.raises(TrustBundleMalformed):
        read_trust_bundle(content, [old_root.certificate])


def test_bundle_that_was_cut_off_is_refused(bundle: bytes, old_root: RootCA) -> None:
    for length in range(0, len(bundle), 97):
        with pytest.raises(TrustBundleMalformed):
            read_trust_bundle(bundle[:length], [old_root.certificate])


def test_bare_pem_of_roots_is_no_signed_bundle(old_root: RootCA) -> None:
    with pytest.raises(TrustBundleMalformed):
        read_trust_bundle(certificates_pem([old_root.certificate]), [old_root.certificate])


def test_bundle_holds_roots_of_its_environment_once_each(old_root: RootCA) -> None:
    issuing = old_root.issue_issuing_ca(Kind.AGENCY).certificate
    foreign = create_root("other.test").certificate
    bundles: list[list[x509.Certificate]] = [
        [],
        [issuing],
        [old_root.certificate, issuing],
        [old_root.certificate, foreign],
        [old_root.certificate, old_root.certificate],
    ]
    for roots in bundles:
        with pytest.raises(TrustBundleMalformed):
            sign_trust_bundle(old_root, 1, roots)


@pytest.mark.parametrize("sequence", [0, -1, 10**18])
def test_sequence_is_a_positive_number(sequence: int, old_root: RootCA) -> None:
    with pytest.raises(TrustBundleMalformed):
        sign_trust_bundle(old_root, sequence, [old_root.certificate])


def test_root_of_another_environment_does_not_speak_for_this_one() -> None:
    """Its signature is good, and its key is trusted, though for something else."""
    other = create_root("other.test")
    ours = create_root(ENV, validity=Validity.lasting(timedelta(days=10)))
    signed = sign_trust_bundle(other, 1, [other.certificate])
    read_trust_bundle(signed, [other.certificate])
    text = signed.rsplit(b"signed by", 1)[0].replace(b"environment: other.test", b"environment: npd.test")
    text = text.replace(certificates_pem([other.certificate]), certificates_pem([ours.certificate]))
    with pytest.raises(TrustBundleMalformed, match="does not speak for"):
        read_trust_bundle(resigned(other, text), [other.certificate])


@pytest.mark.parametrize(
    ("found", "put"),
    [
        (b"v1", b"v2"),
        (b"sequence: 1\n", b"sequence: 01\n"),
        (b"sequence: 1\n", b"sequence: -1\n"),
        (b"sequence: 1\n", b"sequence: 1\nsequence: 2\n"),
        (b"\n\n", b"\nexpires: never\n\n"),
        (b"\n-----END", b"\n!\n-----END"),
    ],
)
def test_signed_text_of_another_form_is_refused(found: bytes, put: bytes, old_root: RootCA) -> None:
    text = sign_trust_bundle(old_root, 1, [old_root.certificate]).rsplit(b"signed by", 1)[0]
    assert found in text
    with pytest.raises(TrustBundleMalformed):
        read_trust_bundle(resigned(old_root, text.replace(found, put, 1)), [old_root.certificate])


def resigned(root: RootCA, text: bytes) -> bytes:
    """Any text under a good signature of a root."""
    signature = root.key.sign(text, ec.ECDSA(signature_hash(root.key.public_key())))
    return text + f"signed by {root.key_id}: {base64.b64encode(signature).decode()}\n".encode()
