"""Revocation lists: what they say, what they refuse, and that their number only rises."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from npd_pki import revocation_list as module
from npd_pki.authority import CertificateAuthority, IssuingCA
from npd_pki.ca_store import Hierarchy
from npd_pki.distribution import crl_file_name, crl_url
from npd_pki.errors import (
    HostNameMalformed,
    KeyUnacceptable,
    LintFailed,
    RevocationListMalformed,
    RevocationListUntrusted,
    ValidityMalformed,
    ValidityTooLong,
)
from npd_pki.identity import Kind, agency_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import CLIENT_TLS
from npd_pki.revocation_list import (
    LONGEST_LIFE,
    LONGEST_LIFE_OF_ROOTS,
    RevocationReason,
    RevokedEntry,
    build_revocation_list,
    entries_of,
    load_revocation_list,
    number_of,
    verify_revocation_list,
)

ENV = "npd.test"
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
COMPROMISED = RevokedEntry(0x1234, NOW - timedelta(hours=1), RevocationReason.KEY_COMPROMISE)
HIERARCHY = Hierarchy.create(ENV)


@pytest.fixture(scope="module")
def ca() -> IssuingCA:
    return HIERARCHY.agency


def listing(
    authority: CertificateAuthority, number: int = 1, *entries: RevokedEntry, life: timedelta = WEEK
) -> x509.CertificateRevocationList:
    return build_revocation_list(authority, number, entries, now=NOW, life=life)


@pytest.mark.parametrize("authority", [HIERARCHY.root, HIERARCHY.agency], ids=["root", "issuing CA"])
def test_list_is_signed_by_its_ca_and_says_when_the_next_comes(authority: CertificateAuthority) -> None:
    revoked = listing(authority, 7, COMPROMISED)
    verify_revocation_list(revoked, authority.certificate)
    assert revoked.issuer == authority.certificate.subject
    assert (revoked.last_update_utc, revoked.next_update_utc) == (NOW - timedelta(minutes=5), NOW + WEEK)
    assert number_of(revoked) == 7
    identifier = revoked.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert identifier.value.key_identifier == own.digest
    assert len(revoked.extensions) == 2
    assert not any(extension.critical for extension in revoked.extensions)
    assert entries_of(revoked) == (COMPROMISED,)


def test_empty_list_is_a_list(ca: IssuingCA) -> None:
    assert entries_of(listing(ca)) == ()


@pytest.mark.parametrize("reason", RevocationReason)
def test_reason_is_told_unless_unspecified(reason: RevocationReason, ca: IssuingCA) -> None:
    (entry,) = listing(ca, 1, RevokedEntry(5, NOW, reason))
    assert len(entry.extensions) == (0 if reason is RevocationReason.UNSPECIFIED else 1)
    assert all(not extension.critical for extension in entry.extensions)
    assert entries_of(listing(ca, 1, RevokedEntry(5, NOW, reason)))[0].reason is reason


def test_no_reason_can_be_taken_back() -> None:
    assert {"certificateHold", "removeFromCRL"}.isdisjoint(RevocationReason)
    assert {reason.value for reason in RevocationReason} < {flag.value for flag in x509.ReasonFlags}


@given(st.sets(st.integers(1, 2**159 - 1), max_size=12), st.integers(1, 2**159 - 1))
def test_list_gives_back_what_was_put_in(serials: set[int], number: int) -> None:
    reasons = list(RevocationReason)
    entries = [RevokedEntry(serial, NOW, reasons[serial % len(reasons)]) for serial in serials]
    revoked = load_revocation_list(listing(HIERARCHY.agency, number, *entries).public_bytes(Encoding.DER))
    assert set(entries_of(revoked)) == set(entries)
    assert number_of(revoked) == number


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_list_is_read_from_both_encodings(encoding: Encoding, ca: IssuingCA) -> None:
    revoked = listing(ca, 3, COMPROMISED)
    assert load_revocation_list(revoked.public_bytes(encoding)) == revoked


def test_twenty_thousand_entries_are_listed(ca: IssuingCA) -> None:
    entries = [RevokedEntry(serial, NOW, RevocationReason.SUPERSEDED) for serial in range(1, 20_001)]
    assert len(listing(ca, 1, *entries)) == 20_000


@pytest.mark.parametrize("content", [b"", b"no list", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
def test_what_is_no_list_is_refused(content: bytes) -> None:
    with pytest.raises(RevocationListMalformed):
        load_revocation_list(content)


def test_list_that_was_cut_off_is_refused(ca: IssuingCA) -> None:
    whole = listing(ca, 1, COMPROMISED)
    for encoding in (Encoding.DER, Encoding.PEM):
        content = whole.public_bytes(encoding)
        with pytest.raises(RevocationListMalformed):
            load_revocation_list(content[: len(content) // 2])


def unsigned(ca: IssuingCA) -> x509.CertificateRevocationListBuilder:
    tbs = x509.CertificateRevocationListBuilder().issuer_name(ca.certificate.subject)
    return tbs.last_update(NOW).next_update(NOW + WEEK)


def bare_list(ca: IssuingCA, *reasons: x509.ReasonFlags, number: int | None = None) -> x509.CertificateRevocationList:
    tbs = unsigned(ca)
    if number is not None:
        tbs = tbs.add_extension(x509.CRLNumber(number), critical=False)
    for serial, reason in enumerate(reasons, 1):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
        tbs = tbs.add_revoked_certificate(entry.add_extension(x509.CRLReason(reason), critical=False).build())
    return tbs.sign(ca.key, hashes.SHA256())


def test_list_without_a_number_is_refused(ca: IssuingCA) -> None:
    with pytest.raises(RevocationListMalformed, match="no CRL number"):
        load_revocation_list(bare_list(ca).public_bytes(Encoding.DER))


def test_list_with_a_certificate_on_hold_is_not_read_as_ours(ca: IssuingCA) -> None:
    held = bare_list(ca, x509.ReasonFlags.certificate_hold, number=1)
    with pytest.raises(RevocationListMalformed, match="never lists"):
        entries_of(held)


def test_part_or_delta_of_a_list_is_not_taken_for_the_whole(ca: IssuingCA) -> None:
    part = x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier("http://crl.npd.test/part.crl")],
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=True,
        only_contains_attribute_certs=False,
    )
    for value in (x509.DeltaCRLIndicator(1), part):
        partial = unsigned(ca).add_extension(x509.CRLNumber(2), False).add_extension(value, critical=True)
        with pytest.raises(RevocationListMalformed, match="not the whole list"):
            load_revocation_list(partial.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER))


def test_entry_of_another_issuer_is_not_taken_for_ours(ca: IssuingCA) -> None:
    other = x509.CertificateIssuer([x509.DirectoryName(HIERARCHY.mesh.certificate.subject)])
    entry = x509.RevokedCertificateBuilder().serial_number(5).revocation_date(NOW).add_extension(other, critical=True)
    indirect = unsigned(ca).add_extension(x509.CRLNumber(2), False).add_revoked_certificate(entry.build())
    with pytest.raises(RevocationListMalformed, match="critical extension"):
        entries_of(indirect.sign(ca.key, hashes.SHA256()))


def test_list_of_another_ca_is_not_trusted(ca: IssuingCA) -> None:
    with pytest.raises(RevocationListUntrusted):
        verify_revocation_list(listing(HIERARCHY.mesh), ca.certificate)
    foreign = CertificateAuthority(
        HIERARCHY.root.certify(Kind.AGENCY, (other := generate_p256_key()).public_key()), other
    )
    forged = build_revocation_list(foreign, 1, [], now=NOW, life=WEEK)
    with pytest.raises(RevocationListUntrusted):
        verify_revocation_list(forged, ca.certificate)


def test_list_that_was_changed_is_not_trusted(ca: IssuingCA) -> None:
    der = bytearray(listing(ca, 1, COMPROMISED).public_bytes(Encoding.DER))
    place = der.index(bytes.fromhex("02021234"))
    der[place + 3] ^= 1
    with pytest.raises(RevocationListUntrusted):
        verify_revocation_list(load_revocation_list(bytes(der)), ca.certificate)


def test_serial_number_stands_once(ca: IssuingCA) -> None:
    with pytest.raises(RevocationListMalformed, match="once"):
        listing(ca, 1, COMPROMISED, replace(COMPROMISED, reason=RevocationReason.SUPERSEDED))


@pytest.mark.parametrize("serial", [0, -1, 2**159])
def test_serial_number_that_no_certificate_has_is_refused(serial: int) -> None:
    with pytest.raises(RevocationListMalformed):
        replace(COMPROMISED, serial=serial)


def test_revocation_needs_a_time_zone() -> None:
    with pytest.raises(RevocationListMalformed):
        replace(COMPROMISED, revoke_time=datetime(2026, 7, 1))  # noqa: DTZ001


@pytest.mark.parametrize("number", [0, -1, 2**159])
def test_number_that_does_not_fit_is_refused(number: int, ca: IssuingCA) -> None:
    with pytest.raises(RevocationListMalformed):
        listing(ca, number)


@pytest.mark.parametrize(
    ("authority", "longest"),
    [(HIERARCHY.root, LONGEST_LIFE_OF_ROOTS), (HIERARCHY.agency, LONGEST_LIFE)],
    ids=["root", "issuing CA"],
)
def test_life_of_a_list_has_a_ceiling(authority: CertificateAuthority, longest: timedelta) -> None:
    assert listing(authority, life=longest).next_update_utc == NOW + longest
    with pytest.raises(ValidityTooLong):
        listing(authority, life=longest + timedelta(seconds=1))


def test_list_that_ends_before_it_begins_is_refused(ca: IssuingCA) -> None:
    with pytest.raises(ValidityMalformed):
        listing(ca, life=timedelta(minutes=-6))


def test_nothing_is_signed_that_fails_its_lint(ca: IssuingCA, monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[bool] = []
    sign = x509.CertificateRevocationListBuilder.sign

    def count(
        self: x509.CertificateRevocationListBuilder, key: ec.EllipticCurvePrivateKey, algorithm: hashes.SHA256
    ) -> x509.CertificateRevocationList:
        signed.append(key is ca.key)
        return sign(self, key, algorithm)

    monkeypatch.setattr(x509.CertificateRevocationListBuilder, "sign", count)
    monkeypatch.setattr(module, "_listed", lambda entry: _on_hold(entry.serial))
    with pytest.raises((LintFailed, RevocationListMalformed)):
        listing(ca, 1, COMPROMISED)
    assert signed == [False]


def _on_hold(serial: int) -> x509.RevokedCertificate:
    entry = x509.RevokedCertificateBuilder().serial_number(serial + 1).revocation_date(NOW)
    return entry.build()


def test_every_certificate_says_where_the_list_of_its_issuer_is(ca: IssuingCA) -> None:
    leaf = ca.issue(CLIENT_TLS, agency_uri(ENV, "gdt", "tax"), generate_p256_key().public_key()).certificate
    for certificate, issuer in ((leaf, ca), *((HIERARCHY.of(kind).certificate, HIERARCHY.root) for kind in Kind)):
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints)
        assert not points.critical
        (point,) = points.value
        assert point.full_name == [x509.UniformResourceIdentifier(f"http://crl.npd.test/{issuer.key_id[:16]}.crl")]
        assert (point.crl_issuer, point.reasons) == (None, None)
    with pytest.raises(x509.ExtensionNotFound):
        HIERARCHY.root.certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints)


def test_address_of_a_list_is_derived_from_environment_and_key() -> None:
    assert crl_url("npd.gov.vn", "0123456789abcdef" * 4) == "http://crl.npd.gov.vn/0123456789abcdef.crl"
    assert crl_file_name("0123456789abcdef" * 4) == "0123456789abcdef.crl"
    with pytest.raises(HostNameMalformed):
        crl_url("npd.gov.vn/..", "0" * 64)
    for key_id in ("", "0" * 63, "G" * 64, "../" + "0" * 61, "A" * 64):
        with pytest.raises(KeyUnacceptable):
            crl_url("npd.gov.vn", key_id)
