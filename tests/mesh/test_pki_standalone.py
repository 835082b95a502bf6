"""`npd-pki` on a machine that has Python and `cryptography` alone: the shipped ceremony files, then OpenSSL's verdict.

The forged leaves are signed with the real key of the agency CA, past every check of the library.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from npd_pki.ca_store import load_authority
from npd_pki.distribution import crl_file_name
from npd_pki.identity import Identity, mesh_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import CLIENT_TLS, ROOM_TLS, Profile
from npd_pki.tbs import leaf_tbs
from npd_pki.trust_bundle import certificates_pem, load_certificates
from npd_pki.validity import Validity
from tests.programs import program
from tests.softhsm import LABEL, PIN, soft_token

PKI = Path(__file__).parents[2] / "pki"
ISSUING_PASSPHRASE = "another horse, another battery"
PASSPHRASES = {"root.passphrase": "correct horse battery staple", "issuing.passphrase": ISSUING_PASSPHRASE}
ROOM, SYSTEM = "spiffe://mesh.npd.test/registry", "spiffe://agency.npd.test/gdt/tax"


@dataclass(frozen=True)
class Desk:
    """A directory with the shipped files and the passphrases, and an interpreter."""

    place: Path
    python: Path
    environment: Mapping[str, str]

    def run(self, *words: str) -> str:
        """What `npd-pki` answers; it must not refuse."""
        done = self.attempt(*words)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.execute("-m", "npd_pki", *words)

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, *words],
            cwd=self.place,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def issue(self, ca: str, name: str, profile: str, uri: str, *more: str) -> None:
        """A key, its request, its certificate, and the roots to trust, all in the directory `name`."""
        self.run("key", "new", f"{name}/tls.key", "--unencrypted")
        self.run("request", f"{name}/tls.key", "--uri", uri, "--out", f"{name}/tls.csr")
        options = ["--profile", profile, "--uri", uri, "--root", "root/ca.crt", "--out", name, *more]
        self.run("issue", "--ca", ca, "--request", f"{name}/tls.csr", *options)


def desk_at(place: Path, python: Path, environment: Mapping[str, str]) -> Desk:
    for file in (PKI / "ceremonies").glob("*.toml"):
        shutil.copy(file, place)
    for name, passphrase in PASSPHRASES.items():
        secret(place / name, passphrase)
    return Desk(place, python, environment)


def secret(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(f"{content}\n")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """An environment of its own: the interpreter, npd_pki, and what cryptography needs."""
    home = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True, timeout=60)
    (packages,) = (home / "venv").glob("lib/python*/site-packages")
    for module in ("cryptography", "cffi", "_cffi_backend", "pycparser"):
        found = importlib.util.find_spec(module)
        if found is not None and found.origin is not None:
            origin = Path(found.origin)
            linked = origin.parent if origin.name == "__init__.py" else origin
            (packages / linked.name).symlink_to(linked)
    (packages / "npd_pki").symlink_to(PKI / "npd_pki")
    place = home / "desk"
    place.mkdir()
    return desk_at(place, home / "venv" / "bin" / "python", {"PATH": os.defpath})


@pytest.fixture(scope="module")
def held(bare: Desk) -> Desk:
    """The desk after day one: the ceremonies of the shipped files, a room, a system, and one that is revoked."""
    for ceremony in ("1-root.toml", "2-issuing.toml", "3-crl.toml", "4-trust-bundle.toml"):
        bare.run("ceremony", "run", ceremony, "--dry-run")
        bare.run("ceremony", "run", ceremony, "--yes")
    bare.issue("issuing/mesh", "registry", "room-tls", ROOM, "--dns", "registry.npd.svc", *with_passphrase())
    bare.issue("issuing/agency", "kept", "client-tls", SYSTEM, *with_passphrase())
    bare.issue("issuing/agency", "tax", "client-tls", SYSTEM, *with_passphrase())
    shipped = (bare.place / "6-revoke.toml").read_text()
    agency = crl_file_name(key_id(bare, "issuing/agency/ca.crt"))
    edited, count = re.subn(r'^previous = "[^"]+"', f'previous = "crl/{agency}"', shipped, flags=re.MULTILINE)
    assert count == 1
    (bare.place / "6-revoke.toml").write_text(edited)
    bare.run("ceremony", "run", "6-revoke.toml", "--yes")
    return bare


def with_passphrase() -> tuple[str, ...]:
    return ("--passphrase-file", "issuing.passphrase")


def key_id(desk: Desk, path: str) -> str:
    (found,) = re.findall(r"key id +([0-9a-f]{64})", desk.run("key", "id", path))
    return str(found)


Verdict = Callable[..., str]


@pytest.fixture
def verdict(held: Desk, tmp_path: Path) -> Verdict:
    return openssl_verdict(held, tmp_path)


def openssl_verdict(desk: Desk, scratch: Path) -> Verdict:
    """What `openssl verify -x509_strict -crl_check_all` says to a leaf below one of the desk's CAs."""
    openssl = program("openssl")

    def verify(leaf: x509.Certificate, kind: str, lists: Iterable[Path], *options: str) -> str:
        leaf_file = scratch / "leaf.pem"
        leaf_file.write_bytes(certificates_pem([leaf]))
        chosen: list[str | Path] = [word for file in lists for word in ("-CRLfile", file)]
        trust: list[str | Path] = ["-no-CApath", "-no-CAstore", "-CAfile", desk.place / "root/ca.crt", "-untrusted"]
        trust.append(desk.place / "issuing" / kind / "ca.crt")
        run = subprocess.run(
            [openssl, "verify", "-x509_strict", "-crl_check_all", *options, *trust, *chosen, leaf_file],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return "OK" if run.returncode == 0 else run.stderr

    return verify


def lists_of(desk: Desk, kind: str, latest: str = "crl") -> list[Path]:
    """The root's list, and the one of a CA from a ceremony's output."""
    root, issuing = key_id(desk, "root/ca.crt"), key_id(desk, f"issuing/{kind}/ca.crt")
    return [desk.place / "crl" / crl_file_name(root), desk.place / latest / crl_file_name(issuing)]


def leaf_of(desk: Desk, name: str) -> x509.Certificate:
    return load_certificates(desk.place / name / "tls.crt")[0]


def forged(desk: Desk, profile: Profile, uri: str) -> x509.Certificate:
    agency = load_authority(desk.place / "issuing/agency", ISSUING_PASSPHRASE.encode())
    key, life = generate_p256_key().public_key(), Validity.lasting(timedelta(days=1))
    return leaf_tbs(profile, Identity.parse(uri), (), key, life, agency.certificate).sign(agency.key, hashes.SHA256())


def test_nothing_but_cryptography_is_there(bare: Desk) -> None:
    for absent in ("grpc", "services", "npd_client", "pydantic", "pkcs11", "pip"):
        done = bare.execute("-c", f"import {absent}")
        assert done.returncode != 0
        assert "ModuleNotFoundError" in done.stderr
    assert bare.execute("-c", "import cryptography, npd_pki").returncode == 0


def test_a_token_is_refused_in_words_where_its_library_is_not_installed(held: Desk) -> None:
    root = (held.place / "1-root.toml").read_text()
    token = '{ module = "/nowhere.so", token_label = "t", key_label = "k", pin_file = "root.passphrase" }'
    key = "key = { generate = true, pkcs11 = " + token + " }"
    altered = re.sub(r"^key = .*$", key, root, flags=re.MULTILINE).replace('output = "root"', 'output = "token-root"')
    (held.place / "token-root.toml").write_text(altered)
    done = held.attempt("ceremony", "run", "token-root.toml", "--yes")
    assert done.returncode == 1
    assert "pip install 'npd-pki[pkcs11]'" in done.stderr
    assert not (held.place / "token-root").exists()


def test_openssl_accepts_what_the_shipped_ceremonies_lead_to(held: Desk, verdict: Verdict) -> None:
    room, mesh = leaf_of(held, "registry"), lists_of(held, "mesh")
    for purpose in ("sslserver", "sslclient"):
        assert verdict(room, "mesh", mesh, "-purpose", purpose) == "OK"
    assert verdict(room, "mesh", mesh, "-verify_hostname", "registry.npd.svc") == "OK"
    assert verdict(leaf_of(held, "kept"), "agency", lists_of(held, "agency", "crl-2"), "-purpose", "sslclient") == "OK"


def test_openssl_misses_the_list_of_each_ca(held: Desk, verdict: Verdict) -> None:
    root, agency = lists_of(held, "agency", "crl-2")
    for lists in ([root], [agency]):
        assert "unable to get certificate CRL" in verdict(leaf_of(held, "kept"), "agency", lists)


def test_openssl_refuses_the_revoked_leaf(held: Desk, verdict: Verdict) -> None:
    leaf = leaf_of(held, "tax")
    assert verdict(leaf, "agency", lists_of(held, "agency")) == "OK"
    assert "certificate revoked" in verdict(leaf, "agency", lists_of(held, "agency", "crl-2"))


def test_openssl_refuses_a_leaf_of_a_foreign_host(held: Desk, verdict: Verdict) -> None:
    leaf = forged(held, CLIENT_TLS, mesh_uri("npd.test", "registry"))
    assert "permitted subtree violation" in verdict(leaf, "agency", lists_of(held, "agency"))


def test_openssl_refuses_a_leaf_of_the_wrong_usage(held: Desk, verdict: Verdict) -> None:
    lists = lists_of(held, "agency")
    for leaf in (forged(held, ROOM_TLS, SYSTEM), leaf_of(held, "kept")):
        assert "unsuitable certificate purpose" in verdict(leaf, "agency", lists, "-purpose", "sslserver")


def test_npd_pki_says_the_same_in_a_sentence(held: Desk) -> None:
    lists = [str(path) for path in lists_of(held, "agency", "crl-2")]
    assert held.run("verify", "kept", "--purpose", "client", "--crl", *lists).startswith("good until ")
    revoked = held.attempt("verify", "tax", "--crl", *lists)
    assert revoked.returncode == 1
    assert "was revoked on 2026-11-01 02:00:00 UTC; get a new one" in revoked.stderr
    for name, leaf, words in (
        (
            "foreign",
            forged(held, CLIENT_TLS, mesh_uri("npd.test", "registry")),
            "its CA may name agency.npd.test alone",
        ),
        ("usage", forged(held, ROOM_TLS, SYSTEM), "has purposes that its CA may not give"),
    ):
        chain = load_certificates(held.place / "issuing/agency/ca.crt")
        (held.place / f"{name}.pem").write_bytes(certificates_pem([leaf, *chain]))
        refused = held.attempt("verify", f"{name}.pem", "--root", "root/ca.crt", "--crl", *lists)
        assert refused.returncode == 1
        assert words in refused.stderr


def test_the_shipped_cross_signing_makes_a_second_way_to_the_same_leaves(held: Desk) -> None:
    next_root = (held.place / "1-root.toml").read_text().replace('output = "root"', 'output = "next-root"')
    (held.place / "next-root.toml").write_text(next_root)
    held.run("ceremony", "run", "next-root.toml", "--yes")
    held.run("ceremony", "run", "5-cross-sign.toml", "--yes")
    leaf, crossed = leaf_of(held, "kept"), load_certificates(held.place / "cross/agency/ca.crt")
    (held.place / "crossed.pem").write_bytes(certificates_pem([leaf, *crossed]))
    assert "good until " in held.run("verify", "crossed.pem", "--root", "next-root/ca.crt")
    assert "no root that is trusted here" in held.attempt("verify", "crossed.pem", "--root", "root/ca.crt").stderr


def test_what_an_offline_ca_signed_is_listed(held: Desk) -> None:
    listed = held.run("issued", "issuing/agency")
    assert f"{leaf_of(held, 'tax').serial_number:x}" in listed
    assert "2 certificate(s), 0 without result" in listed


def in_tokens(desk: Desk, module: Path) -> None:
    """Rewrite the shipped files so that each CA's key is in the token, made there where the shipped file makes one."""
    secret(desk.place / "token.pin", PIN.decode())

    def key(label: str, generate: bool) -> str:
        where = f'module = "{module}", token_label = "{LABEL}", key_label = "{label}", pin_file = "token.pin"'
        return f"key = {{ {'generate = true, ' if generate else ''}pkcs11 = {{ {where} }} }}"

    for file in desk.place.glob("[1-3]-*.toml"):
        lines, owner = [], "root"
        for line in file.read_text().splitlines():
            named = re.match(r'(?:certificate = "(?:issuing/)?(\w+)/ca.crt"|kind = "(mesh|agency|operator)")', line)
            owner = (named[1] or named[2]) if named else owner
            lines.append(key(owner, "generate" in line) if line.startswith("key = ") else line)
        file.write_text("\n".join(lines))


def test_the_same_ceremonies_run_with_every_key_in_a_hardware_module(tmp_path: Path) -> None:
    (tmp_path / "hsm").mkdir()
    (tmp_path / "desk").mkdir()
    with soft_token(tmp_path / "hsm") as token:
        environment = {"PATH": os.defpath, "SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"], "PYTHONPATH": str(PKI)}
        desk = desk_at(tmp_path / "desk", Path(sys.executable), environment)
        in_tokens(desk, token.module)
        for ceremony in ("1-root.toml", "2-issuing.toml", "3-crl.toml"):
            desk.run("ceremony", "run", ceremony, "--yes")
        assert not list(desk.place.rglob("*.key"))
        desk.issue("issuing/agency", "tax", "client-tls", SYSTEM)
        verify = openssl_verdict(desk, tmp_path)
        assert verify(leaf_of(desk, "tax"), "agency", lists_of(desk, "agency"), "-purpose", "sslclient") == "OK"

        taken = (desk.place / "1-root.toml").read_text().replace('output = "root"', 'output = "again"')
        (desk.place / "again.toml").write_text(taken)
        refused = desk.attempt("ceremony", "run", "again.toml", "--yes")
        assert refused.returncode == 1
        assert "holds root already: take another label" in refused.stderr
        assert not (desk.place / "again").exists()

        (desk.place / "token.pin").write_text("000000\n")
        text = (desk.place / "3-crl.toml").read_text().replace('output = "crl"', 'output = "wrong"')
        (desk.place / "wrong.toml").write_text(text)
        refused = desk.attempt("ceremony", "run", "wrong.toml", "--yes")
        assert refused.returncode == 1
        assert "refuses the PIN; it was tried once" in refused.stderr
        assert "000000" not in refused.stderr + refused.stdout
        assert not (desk.place / "wrong").exists()
