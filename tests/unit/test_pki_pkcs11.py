"""CA keys in a hardware module (SoftHSM2): a whole hierarchy, and a PIN that is tried once."""

import subprocess
import sys
from collections.abc import Iterator
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from npd_pki import pkcs11
from npd_pki.authority import IssuingCA, RootCA, create_root
from npd_pki.ca_store import load_authority, load_root
from npd_pki.errors import (
    KeyUnacceptable,
    NotAuthority,
    PassphraseMalformed,
    PassphraseMissing,
    PinLocked,
    PinWrong,
    PrivateKeyExposed,
    StoreAmbiguous,
    TokenKeyExists,
    TokenSupportMissing,
    TokenUnavailable,
)
from npd_pki.files import PRIVATE, PUBLIC, PemFile, replace_files
from npd_pki.identity import Kind, agency_uri
from npd_pki.keys import generate_p256_key, private_key_pem
from npd_pki.pkcs11 import Pkcs11Key, generate_token_key, open_token_key
from npd_pki.profile import CLIENT_TLS
from npd_pki.revocation_list import RevocationReason, RevokedEntry, build_revocation_list
from npd_pki.signed_bundle import read_trust_bundle, sign_trust_bundle
from npd_pki.token_settings import TokenSettings
from npd_pki.trust_bundle import certificates_pem
from tests.programs import program
from tests.softhsm import LABEL, PIN, SoftToken, soft_token

ENV = "npd.test"
URI = agency_uri(ENV, "gdt", "tax")
WRONG = b"000000"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    with soft_token(tmp_path_factory.mktemp("softhsm")) as made:
        for label, curve in (("root", ec.SECP384R1()), ("agency", ec.SECP256R1())):
            generate_token_key(made.key(label), PIN, curve)
        yield made


@pytest.fixture
def token(module: SoftToken) -> Iterator[SoftToken]:
    """The token with two keys, in a process that has not logged in."""
    module.forget()
    yield module
    module.forget()


def hierarchy(token: SoftToken) -> tuple[RootCA, IssuingCA]:
    root = create_root(ENV, key=open_token_key(token.key("root"), PIN))
    return root, root.issue_issuing_ca(Kind.AGENCY, key=open_token_key(token.key("agency"), PIN))


def authority_directory(directory: Path, token: SoftToken, ca: IssuingCA | RootCA, label: str) -> Path:
    """As an admin lays it out: certificate, settings, and the PIN in a file for its owner alone."""
    directory.mkdir()
    settings = TokenSettings(token.key(label), Path("token.pin"))
    files = [
        PemFile("ca.crt", certificates_pem([ca.certificate]), PUBLIC),
        PemFile("pkcs11.toml", settings.toml(), PUBLIC),
        PemFile("token.pin", PIN + b"\n", PRIVATE),
    ]
    replace_files(directory, files)
    return directory


def test_openssl_accepts_what_a_token_signs_and_refuses_what_it_revokes(token: SoftToken, tmp_path: Path) -> None:
    root, agency = hierarchy(token)
    now = datetime.now(UTC)
    leaves = [agency.issue(CLIENT_TLS, URI, generate_p256_key().public_key()).certificate for _ in range(2)]
    entry = RevokedEntry(leaves[1].serial_number, now, RevocationReason.KEY_COMPROMISE)
    lists = [
        build_revocation_list(root, 1, [], now=now, life=timedelta(days=90)),
        build_revocation_list(agency, 1, [entry], now=now, life=timedelta(days=7)),
    ]
    (tmp_path / "root.pem").write_bytes(certificates_pem([root.certificate]))
    (tmp_path / "agency.pem").write_bytes(certificates_pem([agency.certificate]))
    (tmp_path / "lists.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in lists))
    verdicts = []
    for leaf in leaves:
        (tmp_path / "leaf.pem").write_bytes(certificates_pem([leaf]))
        options = "verify -x509_strict -crl_check_all -purpose sslclient -CAfile root.pem -untrusted agency.pem"
        run = subprocess.run(
            [program("openssl"), *options.split(), "-CRLfile", "lists.pem", "leaf.pem"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        verdicts.append(run.stdout + run.stderr)
    assert verdicts[0] == "leaf.pem: OK\n"
    assert "certificate revoked" in verdicts[1]


def test_authority_is_loaded_from_its_token(token: SoftToken, tmp_path: Path) -> None:
    root, agency = hierarchy(token)
    place = authority_directory(tmp_path / "agency", token, agency, "agency")
    root_place = authority_directory(tmp_path / "root", token, root, "root")
    token.forget()
    loaded, loaded_root = load_authority(place), load_root(root_place)
    assert (loaded, loaded_root) == (agency, root)
    leaf = loaded.issue(CLIENT_TLS, URI, generate_p256_key().public_key()).certificate
    leaf.verify_directly_issued_by(loaded.certificate)
    bundle = sign_trust_bundle(loaded_root, 1, [root.certificate])
    assert read_trust_bundle(bundle, [root.certificate]).signer == root.certificate


def test_pin_can_be_given_in_the_place_of_a_file(token: SoftToken, tmp_path: Path) -> None:
    _, agency = hierarchy(token)
    place = authority_directory(tmp_path / "agency", token, agency, "agency")
    (place / "pkcs11.toml").write_bytes(TokenSettings(token.key("agency"), None).toml())
    token.forget()
    with pytest.raises(PassphraseMissing, match="PIN"):
        load_authority(place)
    assert load_authority(place, PIN) == agency


def test_key_of_another_ca_in_the_token_is_refused(token: SoftToken, tmp_path: Path) -> None:
    _, agency = hierarchy(token)
    with pytest.raises(NotAuthority):
        load_authority(authority_directory(tmp_path / "agency", token, agency, "root"))


def test_pin_file_that_others_may_read_is_refused(token: SoftToken, tmp_path: Path) -> None:
    place = authority_directory(tmp_path / "agency", token, hierarchy(token)[1], "agency")
    (place / "token.pin").chmod(0o644)
    with pytest.raises(PrivateKeyExposed, match=r"token\.pin"):
        load_authority(place)


def test_two_places_for_one_key_are_refused(token: SoftToken, tmp_path: Path) -> None:
    place = authority_directory(tmp_path / "agency", token, hierarchy(token)[1], "agency")
    replace_files(place, [PemFile("ca.key", private_key_pem(generate_p256_key()), PRIVATE)])
    with pytest.raises(StoreAmbiguous):
        load_authority(place)


@dataclass
class Watched:
    """python-pkcs11, really at work, with a count of the logins (C_Login) and, if given, other flags of the token."""

    real: Any
    flags: Any = None
    logins: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def lib(self, module: str) -> Any:
        library, watched = self.real.lib(module), self

        class WatchedToken:
            def __init__(self, token: Any) -> None:
                self._token, self.flags = token, token.flags if watched.flags is None else watched.flags

            def open(self, *, rw: bool, user_pin: str | None = None) -> Any:
                if user_pin is not None:
                    watched.logins.append(user_pin)
                return self._token.open(rw=rw, user_pin=user_pin)

        class WatchedLibrary:
            def get_token(self, **where: str) -> WatchedToken:
                return WatchedToken(library.get_token(**where))

        return WatchedLibrary()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    watched = Watched(pkcs11._library())
    monkeypatch.setattr(pkcs11, "_library", lambda: watched)
    return watched


def test_wrong_pin_is_tried_once(token: SoftToken, watched: Watched) -> None:
    with pytest.raises(PinWrong, match="tried once") as refusal:
        open_token_key(token.key("agency"), WRONG)
    assert len(watched.logins) == 1
    assert refusal.value.__cause__ is None
    assert WRONG.decode() not in str(refusal.value)
    assert open_token_key(token.key("agency"), PIN)


def test_service_that_is_started_again_and_again_tries_a_wrong_pin_once_in_all(
    token: SoftToken, watched: Watched, tmp_path: Path
) -> None:
    place = authority_directory(tmp_path / "agency", token, hierarchy(token)[1], "agency")
    watched.logins.clear()
    replace_files(place, [PemFile("token.pin", WRONG, PRIVATE)])
    token.forget()
    with pytest.raises(PinWrong):
        load_authority(place)
    for _ in range(5):
        token.forget()
        with pytest.raises(PinLocked, match="by hand"):
            load_authority(place)
    assert watched.logins == [WRONG.decode()]
    replace_files(place, [PemFile("token.pin", PIN, PRIVATE)])
    open_token_key(token.key("agency"), PIN)  # a person logs in
    token.forget()
    assert load_authority(place)


@pytest.mark.parametrize("flag", ["USER_PIN_LOCKED", "USER_PIN_FINAL_TRY"])
def test_token_that_is_locked_or_about_to_be_is_left_alone(flag: str, token: SoftToken, watched: Watched) -> None:
    watched.flags = watched.TokenFlag[flag]
    for pin in (WRONG, PIN):
        with pytest.raises(PinLocked):
            open_token_key(token.key("agency"), pin)
    assert watched.logins == []


def test_token_that_says_it_is_locked_is_believed(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pkcs11._library()
    where = token.key("agency")
    for said in (library.PinLocked, library.PinExpired):
        with pytest.raises(PinLocked), pkcs11._refusals(where):
            raise said


def test_pin_that_no_keyboard_writes_is_refused(token: SoftToken) -> None:
    with pytest.raises(PassphraseMalformed):
        open_token_key(token.key("agency"), b"\xff\xfe")


def test_private_half_never_leaves_the_token(token: SoftToken) -> None:
    key = open_token_key(token.key("agency"), PIN)
    other = generate_p256_key()
    with pytest.raises(KeyUnacceptable):
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeyUnacceptable):
        key.private_numbers()
    with pytest.raises(KeyUnacceptable):
        key.exchange(ec.ECDH(), other.public_key())
    library = pkcs11._library()
    for attribute in (library.Attribute.SENSITIVE, library.Attribute.NEVER_EXTRACTABLE):
        assert key._handle[attribute] is True
    assert key._handle[library.Attribute.EXTRACTABLE] is False
    assert copy(key) is deepcopy(key) is key


@pytest.mark.parametrize(("label", "algorithm"), [("root", hashes.SHA384()), ("agency", hashes.SHA256())])
def test_digest_and_data_are_signed_alike(label: str, algorithm: hashes.HashAlgorithm, token: SoftToken) -> None:
    key = open_token_key(token.key(label), PIN)
    digest = hashes.Hash(algorithm)
    digest.update(b"to be signed")
    for data, way in ((b"to be signed", algorithm), (digest.finalize(), Prehashed(algorithm))):
        signature = key.sign(data, ec.ECDSA(way))
        key.public_key().verify(signature, b"to be signed", ec.ECDSA(algorithm))
    key.public_key().verify(key.sign(b"long", ec.ECDSA(hashes.SHA512())), b"long", ec.ECDSA(hashes.SHA512()))


def test_halves_of_different_pairs_are_found_before_anybody_gets_a_signature(token: SoftToken) -> None:
    key = open_token_key(token.key("agency"), PIN)
    mixed = Pkcs11Key(key._handle, generate_p256_key().public_key(), token.key("agency"))
    with pytest.raises(TokenUnavailable, match="does not verify"):
        mixed.sign(b"to be signed", ec.ECDSA(hashes.SHA256()))


def test_key_is_never_replaced(token: SoftToken) -> None:
    before = open_token_key(token.key("agency"), PIN).public_key()
    with pytest.raises(TokenKeyExists):
        generate_token_key(token.key("agency"), PIN, ec.SECP256R1())
    assert open_token_key(token.key("agency"), PIN).public_key() == before


def test_curve_that_no_ca_has_is_refused(token: SoftToken) -> None:
    with pytest.raises(KeyUnacceptable):
        generate_token_key(token.key("other"), PIN, ec.SECP521R1())


def test_absent_key_token_or_library_is_named(token: SoftToken) -> None:
    where = token.key("agency")
    for absent, said in (
        (replace(where, key_label="nothing"), "nothing"),
        (replace(where, token_label="elsewhere"), "elsewhere"),
        (replace(where, module=Path("/nowhere/lib.so")), "/nowhere/lib.so"),
        (replace(where, module=Path(sys.executable)), "cannot be used"),
    ):
        with pytest.raises(TokenUnavailable, match=said):
            open_token_key(absent, PIN)


def test_token_that_went_away_is_told(token: SoftToken) -> None:
    key = open_token_key(token.key("agency"), PIN)
    token.forget()
    pkcs11._library().lib(str(token.module))
    with pytest.raises(TokenUnavailable, match=LABEL):
        key.sign(b"to be signed", ec.ECDSA(hashes.SHA256()))


def test_missing_library_says_what_to_install(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(TokenSupportMissing, match=r"pip install 'npd-pki\[pkcs11\]'"):
        open_token_key(token.key("agency"), PIN)
