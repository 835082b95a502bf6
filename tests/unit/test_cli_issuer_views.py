"""What `npd` shows of the issuer, and how it reads what operators type: spreadsheets run nothing, names are exact."""

import csv
import io
from datetime import timedelta
from pathlib import Path

import pytest
import typer

from npd.issuer.v1 import authority_pb2, certificate_pb2
from npd.registry.v1.revocation_pb2 import REVOCATION_REASON_KEY_COMPROMISE
from npd_pki.authority import create_root
from npd_pki.identity import Kind
from npd_pki.keys import generate_p256_key
from npd_pki.profile import CLIENT_TLS
from services.cli import issuer_views
from services.cli.naming import CertificateName, certificate_name
from services.cli.options import duration

URI = "spiffe://agency.test.npd.example/tax/core"


def test_no_cell_of_a_csv_file_is_a_formula(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("=1+1", "+84 24", "-1", "@SUM(A1)", "\tx", "Tổng cục, Thuế", 'a "quoted" name')
    issuer_views.write_expiring_csv(
        certificate_pb2.ExpiringAtAgency(
            agency_id="tax", agency_name=name, certificates=[certificate_pb2.Certificate(identity=URI)]
        )
        for name in names
    )
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    expected = ["'=1+1", "'+84 24", "'-1", "'@SUM(A1)", "'\tx", "Tổng cục, Thuế", 'a "quoted" name']
    assert [row["agency_name"] for row in rows] == expected
    assert {row["identity"] for row in rows} == {URI}


def test_a_list_says_how_many_were_left_out_and_what_is_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    one = certificate_pb2.Certificate(
        identity=URI, serial_number="4c02", state=certificate_pb2.CERTIFICATE_STATE_REVOKED
    )
    one.revocation_reason = REVOCATION_REASON_KEY_COMPROMISE
    issuer_views.show_certificates([one], more=1999)
    shown = capsys.readouterr().out
    assert "2,000 in all, 1,999 of them not shown" in shown
    assert "key_compromise" in shown
    issuer_views.show_certificates([])
    assert capsys.readouterr().out == "No certificate.\n"


def test_an_authority_that_was_not_prepared_says_so() -> None:
    assert issuer_views.authority_state_of(authority_pb2.Authority()) == "NOT PREPARED"


@pytest.mark.parametrize(
    ("spelt", "meant"),
    [("30d", timedelta(days=30)), ("72h", timedelta(hours=72)), (" 90M ", timedelta(minutes=90))],
)
def test_times_are_read(spelt: str, meant: timedelta) -> None:
    assert duration(spelt) == meant


@pytest.mark.parametrize("spelt", ["", "30", "d", "0d", "-1d", "1.5d", "1w", "30 d", "9999999d", "٣d"])
def test_other_times_are_refused(spelt: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(spelt)


def test_a_serial_number_is_read_as_openssl_and_browsers_write_it() -> None:
    for spelt in ("0x4C02", "4c:02", "4C 02", "004c02"):
        assert certificate_name(spelt, "AB" * 32) == CertificateName("ab" * 32, "4c02")
    for spelt in ("", "00", "xyz", "4c02" * 11):
        with pytest.raises(typer.BadParameter):
            certificate_name(spelt)


def test_a_file_names_its_certificate_and_must_agree_with_what_else_was_told(tmp_path: Path) -> None:
    authority = create_root("test.npd.example").issue_issuing_ca(Kind.AGENCY)
    issued = authority.issue(CLIENT_TLS, URI, generate_p256_key().public_key())
    place = tmp_path / "tls.crt"
    place.write_bytes(issued.pem())
    named = CertificateName(authority.key_id, f"{issued.serial:x}")
    assert certificate_name(str(place)) == certificate_name(str(place), authority.key_id.upper()) == named
    with pytest.raises(typer.BadParameter, match="was issued by"):
        certificate_name(str(place), "ab" * 32)
    place.write_bytes(issued.pem().partition(b"-----END")[0])
    with pytest.raises(typer.BadParameter, match="no certificate in PEM form"):
        certificate_name(str(place))
