"""What verifiers that are not ours make of these certificates: OpenSSL's program and TLS stack, and pyca's verifier.

The forged certificates are signed with the real key of a CA, past every check of the library: they show what a stolen
or defective CA cannot do.
"""

import ipaddress
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import ClientVerifier, PolicyBuilder, Store, VerificationError

from npd_pki.authority import IssuingCA
from npd_pki.ca_store import Hierarchy
from npd_pki.credentials import Credentials, write_credentials
from npd_pki.identity import Identity, Kind, agency_uri, mesh_uri, operator_uri
from npd_pki.issuance import IssuedCertificate
from npd_pki.keys import generate_p256_key
from npd_pki.profile import CLIENT_TLS, ISSUING, ROOM_TLS, SIGNING, Profile
from npd_pki.tbs import issuing_ca_tbs, leaf_tbs
from npd_pki.trust_bundle import certificates_pem
from npd_pki.validity import Validity

ENV = "npd.gov.vn"
AGENCY = agency_uri(ENV, "gdt", "tax")
LEAF_KEY = generate_p256_key()

Verify = Callable[..., str]


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return Hierarchy.create(ENV)


@pytest.fixture
def openssl_verify(hierarchy: Hierarchy, tmp_path: Path) -> Verify:
    """Run `openssl verify -x509_strict` on a path below the root; the answer is "OK" or what OpenSSL objects to."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("the openssl program is not installed")

    def verify(leaf: x509.Certificate, chain: Iterable[x509.Certificate], *options: str) -> str:
        for name, certificates in (("root", [hierarchy.root.certificate]), ("chain", chain), ("leaf", [leaf])):
            (tmp_path / f"{name}.pem").write_bytes(certificates_pem(certificates))
        trust: list[str | Path] = [
            "-no-CApath",
            "-no-CAstore",
            "-CAfile",
            tmp_path / "root.pem",
            "-untrusted",
            tmp_path / "chain.pem",
        ]
        run = subprocess.run(
            [program, "verify", "-x509_strict", *options, *trust, tmp_path / "leaf.pem"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return "OK" if run.returncode == 0 else run.stderr

    return verify


def forged(
    ca: IssuingCA, profile: Profile, uri: str, dns_names: Iterable[str] = (), address: str | None = None
) -> x509.Certificate:
    """A leaf signed with a CA's key past all checks: any identity, any profile, any name."""
    tbs = leaf_tbs(
        profile,
        Identity.parse(uri),
        tuple(dns_names),
        LEAF_KEY.public_key(),
        Validity.lasting(timedelta(days=1)),
        ca.certificate,
    )
    good = tbs.sign(ca.key, hashes.SHA256())
    if address is None:
        return good

    def with_address(value: x509.ExtensionType) -> x509.ExtensionType:
        if isinstance(value, x509.SubjectAlternativeName):
            return x509.SubjectAlternativeName([*value, x509.IPAddress(ipaddress.ip_address(address))])
        return value

    return rebuilt(good, with_address).sign(ca.key, hashes.SHA256())


def rebuilt(
    certificate: x509.Certificate, edit: Callable[[x509.ExtensionType], x509.ExtensionType | None]
) -> x509.CertificateBuilder:
    """A certificate to be signed anew, each of its extensions edited, or left out where the edit gives None."""
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    tbs = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
    )
    for extension in certificate.extensions:
        value = edit(extension.value)
        if value is not None:
            tbs = tbs.add_extension(value, extension.critical)
    return tbs


def issue(ca: IssuingCA, profile: Profile, uri: str, *dns_names: str) -> x509.Certificate:
    return ca.issue(profile, uri, LEAF_KEY.public_key(), dns_names=dns_names).certificate


def test_openssl_accepts_every_profile_for_its_purpose(hierarchy: Hierarchy, openssl_verify: Verify) -> None:
    room = issue(hierarchy.mesh, ROOM_TLS, mesh_uri(ENV, "civil_status"), "civil-status.npd.svc")
    for purpose in ("sslserver", "sslclient"):
        assert openssl_verify(room, hierarchy.mesh.chain, "-purpose", purpose) == "OK"
    assert openssl_verify(room, hierarchy.mesh.chain, "-verify_hostname", "civil-status.npd.svc") == "OK"
    system = issue(hierarchy.agency, CLIENT_TLS, AGENCY)
    assert openssl_verify(system, hierarchy.agency.chain, "-purpose", "sslclient") == "OK"
    operator = issue(hierarchy.operator, CLIENT_TLS, operator_uri(ENV, "thu"))
    assert openssl_verify(operator, hierarchy.operator.chain, "-purpose", "sslclient") == "OK"
    signing = issue(hierarchy.agency, SIGNING, AGENCY)
    assert openssl_verify(signing, hierarchy.agency.chain, "-purpose", "any") == "OK"


def test_openssl_accepts_the_issuing_cas(hierarchy: Hierarchy, openssl_verify: Verify) -> None:
    for kind in Kind:
        assert openssl_verify(hierarchy.of(kind).certificate, hierarchy.of(kind).chain) == "OK"


def test_agency_ca_cannot_name_a_room_or_an_operator(hierarchy: Hierarchy, openssl_verify: Verify) -> None:
    for uri in (mesh_uri(ENV, "registry"), operator_uri(ENV, "thu"), agency_uri("other.test", "gdt", "tax")):
        leaf = forged(hierarchy.agency, CLIENT_TLS, uri)
        assert "permitted subtree violation" in openssl_verify(leaf, hierarchy.agency.chain)


@pytest.mark.parametrize("kind", Kind)
def test_each_ca_is_shut_into_its_host(kind: Kind, hierarchy: Hierarchy, openssl_verify: Verify) -> None:
    uris = {
        Kind.MESH: mesh_uri(ENV, "registry"),
        Kind.AGENCY: AGENCY,
        Kind.OPERATOR: operator_uri(ENV, "thu"),
    }
    profile = ROOM_TLS if kind is Kind.MESH else CLIENT_TLS
    verdicts = {
        other: openssl_verify(forged(hierarchy.of(kind), profile, uri), hierarchy.of(kind).chain)
        for other, uri in uris.items()
    }
    assert verdicts[kind] == "OK"
    assert all("permitted subtree" in verdict for other, verdict in verdicts.items() if other is not kind)


@pytest.mark.parametrize("kind", [Kind.AGENCY, Kind.OPERATOR])
def test_agency_and_operator_cas_cannot_name_a_host(kind: Kind, hierarchy: Hierarchy, openssl_verify: Verify) -> None:
    uri = AGENCY if kind is Kind.AGENCY else operator_uri(ENV, "thu")
    for host in ("registry", "registry.npd.gov.vn"):
        leaf = forged(hierarchy.of(kind), CLIENT_TLS, uri, [host])
        assert "excluded subtree violation" in openssl_verify(leaf, hierarchy.of(kind).chain)


@pytest.mark.parametrize("address", ["10.0.0.1", "2001:db8::1"])
@pytest.mark.parametrize("kind", Kind)
def test_no_ca_can_name_an_ip_address(kind: Kind, address: str, hierarchy: Hierarchy, openssl_verify: Verify) -> None:
    uris = {Kind.MESH: mesh_uri(ENV, "registry"), Kind.AGENCY: AGENCY, Kind.OPERATOR: operator_uri(ENV, "thu")}
    profile = ROOM_TLS if kind is Kind.MESH else CLIENT_TLS
    leaf = forged(hierarchy.of(kind), profile, uris[kind], address=address)
    assert "excluded subtree violation" in openssl_verify(leaf, hierarchy.of(kind).chain)


def test_agency_ca_cannot_make_a_server(hierarchy: Hierarchy, openssl_verify: Verify) -> None:
    leaf = forged(hierarchy.agency, ROOM_TLS, AGENCY)
    assert "unsuitable certificate purpose" in openssl_verify(leaf, hierarchy.agency.chain, "-purpose", "sslserver")


def test_issuing_ca_cannot_make_a_ca(hierarchy: Hierarchy, openssl_verify: Verify) -> None:
    key = generate_p256_key()
    below = issuing_ca_tbs(
        ISSUING[Kind.AGENCY],
        Kind.AGENCY,
        ENV,
        key.public_key(),
        Validity.lasting(timedelta(days=1)),
        hierarchy.agency.certificate,
    ).sign(hierarchy.agency.key, hashes.SHA256())
    rogue = IssuingCA(below, key)
    verdict = openssl_verify(forged(rogue, CLIENT_TLS, AGENCY), [below, hierarchy.agency.certificate])
    assert "path length constraint exceeded" in verdict


def test_leaf_of_another_root_is_not_trusted(openssl_verify: Verify) -> None:
    other = Hierarchy.create(ENV)
    assert "unable to get" in openssl_verify(issue(other.agency, CLIENT_TLS, AGENCY), other.agency.chain)


def test_signing_leaf_has_no_tls_purpose(hierarchy: Hierarchy, openssl_verify: Verify) -> None:
    leaf = issue(hierarchy.agency, SIGNING, AGENCY)
    for purpose in ("sslclient", "sslserver"):
        assert "unsuitable certificate purpose" in openssl_verify(leaf, hierarchy.agency.chain, "-purpose", purpose)


def tls_handshake(server: Path, client: Path) -> None:
    """Shake hands in memory over TLS 1.3 with client authentication; raises ssl.SSLError where either side refuses."""
    contexts = []
    for protocol, directory in ((ssl.PROTOCOL_TLS_SERVER, server), (ssl.PROTOCOL_TLS_CLIENT, client)):
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
        context.load_verify_locations(directory / "ca.crt")
        contexts.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = contexts[0].wrap_bio(to_server, to_client, server_side=True)
    client_side = contexts[1].wrap_bio(to_client, to_server, server_hostname="registry.npd.svc")
    unfinished = [client_side, server_side]
    for _ in range(10):
        for side in list(unfinished):
            try:
                side.do_handshake()
                unfinished.remove(side)
            except ssl.SSLWantReadError:
                continue
        if not unfinished:
            return
    raise AssertionError("the handshake did not end")


def written(hierarchy: Hierarchy, ca: IssuingCA, leaf: x509.Certificate, directory: Path) -> Path:
    credentials = Credentials(IssuedCertificate(leaf, ca.chain), LEAF_KEY, (hierarchy.root.certificate,))
    write_credentials(directory, credentials)
    return directory


def test_tls_takes_a_room_and_a_client_and_refuses_a_signing_leaf(hierarchy: Hierarchy, tmp_path: Path) -> None:
    agency, mesh = hierarchy.agency, hierarchy.mesh
    room = issue(mesh, ROOM_TLS, mesh_uri(ENV, "registry"), "registry.npd.svc")
    server = written(hierarchy, mesh, room, tmp_path / "room")
    client = written(hierarchy, agency, issue(agency, CLIENT_TLS, AGENCY), tmp_path / "client")
    signing = written(hierarchy, agency, issue(agency, SIGNING, AGENCY), tmp_path / "signing")
    foreign = written(hierarchy, agency, forged(agency, CLIENT_TLS, mesh_uri(ENV, "sharing")), tmp_path / "foreign")
    tls_handshake(server, client)
    tls_handshake(server, server)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)unsuitable certificate purpose"):
        tls_handshake(server, signing)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        tls_handshake(server, foreign)
    with pytest.raises(ssl.SSLCertVerificationError):
        tls_handshake(client, client)


def unconstrained(hierarchy: Hierarchy, ca: IssuingCA) -> x509.Certificate:
    """The same issuing CA without the name constraints, signed by the root."""
    without = rebuilt(ca.certificate, lambda value: None if isinstance(value, x509.NameConstraints) else value)
    return without.sign(hierarchy.root.key, hashes.SHA384())


def client_verifier(hierarchy: Hierarchy) -> ClientVerifier:
    return PolicyBuilder().store(Store([hierarchy.root.certificate])).time(datetime.now(UTC)).build_client_verifier()


def test_pyca_accepts_the_client_profiles_once_the_name_constraints_are_gone(hierarchy: Hierarchy) -> None:
    verifier = client_verifier(hierarchy)
    room = issue(hierarchy.mesh, ROOM_TLS, mesh_uri(ENV, "registry"), "registry.npd.svc")
    system = issue(hierarchy.agency, CLIENT_TLS, AGENCY)
    for ca, leaf in ((hierarchy.mesh, room), (hierarchy.agency, system)):
        verified = verifier.verify(leaf, [unconstrained(hierarchy, ca)])
        assert verified.chain[-1] == hierarchy.root.certificate
    with pytest.raises(VerificationError, match=r"2\.5\.29\.37"):
        verifier.verify(issue(hierarchy.agency, SIGNING, AGENCY), [unconstrained(hierarchy, hierarchy.agency)])


def test_pyca_does_not_know_uri_constraints_and_refuses_them(hierarchy: Hierarchy) -> None:
    """The reason why no room verifies a chain with pyca's verifier. When this fails, a workaround can go."""
    verifier = client_verifier(hierarchy)
    with pytest.raises(VerificationError, match="unsupported name constraint"):
        verifier.verify(issue(hierarchy.agency, CLIENT_TLS, AGENCY), list(hierarchy.agency.chain))
