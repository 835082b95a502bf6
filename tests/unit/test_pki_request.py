"""Certificate signing requests: possession is proven, and nothing but the key is believed."""

import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from npd_pki.authority import IssuingCA, create_root
from npd_pki.errors import KeyUnacceptable, NamesForeign, PemMalformed, ProofOfPossessionFailed
from npd_pki.identity import Identity, Kind, agency_uri, mesh_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import CLIENT_TLS
from npd_pki.request import create_request, load_request, proven_public_key, require_names

URI = agency_uri("npd.test", "gdt", "tax")


@pytest.fixture(scope="module")
def agency_ca() -> IssuingCA:
    return create_root("npd.test").issue_issuing_ca(Kind.AGENCY)


def with_broken_signature(request: x509.CertificateSigningRequest) -> x509.CertificateSigningRequest:
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der))


def test_certificate_is_issued_for_the_key_of_the_request(agency_ca: IssuingCA) -> None:
    key = generate_p256_key()
    request = load_request(create_request(key).public_bytes(Encoding.PEM))
    issued = agency_ca.issue(CLIENT_TLS, URI, proven_public_key(request))
    assert issued.certificate.public_key() == key.public_key()


def test_request_signed_by_another_key_is_refused(agency_ca: IssuingCA) -> None:
    request = with_broken_signature(create_request(generate_p256_key()))
    with pytest.raises(ProofOfPossessionFailed):
        agency_ca.issue(CLIENT_TLS, URI, proven_public_key(request))


def test_request_for_somebody_elses_key_is_refused() -> None:
    victim, thief = generate_p256_key(), generate_p256_key()
    own = create_request(thief).public_bytes(Encoding.DER)
    spki = [key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for key in (thief, victim)]
    stolen = x509.load_der_x509_csr(own.replace(spki[0], spki[1]))
    assert stolen.public_key() == victim.public_key()
    with pytest.raises(ProofOfPossessionFailed):
        proven_public_key(stolen)


def test_names_usages_and_constraints_that_a_request_asks_for_are_ignored(agency_ca: IssuingCA) -> None:
    key = generate_p256_key()
    greedy = (
        x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(mesh_uri("npd.test", "registry")), x509.DNSName("registry.npd.test")]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    modest = agency_ca.issue(CLIENT_TLS, URI, generate_p256_key().public_key()).certificate
    issued = agency_ca.issue(CLIENT_TLS, URI, proven_public_key(greedy)).certificate
    assert issued.subject == modest.subject
    assert [extension.oid for extension in issued.extensions] == [extension.oid for extension in modest.extensions]
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(URI)]
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(public_exponent=65537, key_size=2048), ec.generate_private_key(ec.SECP521R1())],
    ids=["rsa", "p521"],
)
def test_request_for_an_unacceptable_key_is_refused(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(KeyUnacceptable):
        proven_public_key(request)


def test_unacceptable_key_is_refused_before_its_signature_is_computed() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(KeyUnacceptable):
        proven_public_key(with_broken_signature(request))


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\n!\n-----END CERTIFICATE REQUEST-----\n"])
def test_what_is_no_request_is_refused(pem: bytes) -> None:
    with pytest.raises(PemMalformed):
        load_request(pem)


def asking_for(*names: x509.GeneralName) -> x509.CertificateSigningRequest:
    tbs = x509.CertificateSigningRequestBuilder(x509.Name([]))
    tbs = tbs.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return tbs.sign(generate_p256_key(), hashes.SHA256())


OWN = x509.UniformResourceIdentifier(URI)


def test_request_may_name_nobody_or_its_own_identity() -> None:
    identity = Identity.parse(URI)
    require_names(create_request(generate_p256_key()), identity)
    require_names(asking_for(OWN), identity)


@pytest.mark.parametrize(
    "names",
    [
        [x509.UniformResourceIdentifier(agency_uri("npd.test", "gdt", "other"))],
        [x509.UniformResourceIdentifier(mesh_uri("npd.test", "registry"))],
        [x509.UniformResourceIdentifier(URI + "/")],
        [x509.UniformResourceIdentifier(URI.upper())],
        [OWN, x509.UniformResourceIdentifier(agency_uri("npd.test", "gdt", "other"))],
        [OWN, x509.DNSName("registry.npd.test")],
        [x509.DNSName(URI)],
        [x509.RFC822Name("admin@gdt.example")],
        [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))],
        [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, URI)]))],
    ],
)
def test_request_for_any_other_name_is_refused(names: list[x509.GeneralName]) -> None:
    with pytest.raises(NamesForeign, match="leave them out") as refusal:
        require_names(asking_for(*names), Identity.parse(URI))
    assert "example" not in str(refusal.value)


def test_names_that_cannot_be_read_are_refused() -> None:
    tbs = x509.CertificateSigningRequestBuilder(x509.Name([]))
    garbage = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x03\x86\x01")
    request = tbs.add_extension(garbage, critical=False).sign(generate_p256_key(), hashes.SHA256())
    with pytest.raises(NamesForeign, match="cannot be read"):
        require_names(request, Identity.parse(URI))


def test_other_extensions_do_not_matter_to_the_names() -> None:
    tbs = x509.CertificateSigningRequestBuilder(x509.Name([]))
    tbs = tbs.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    require_names(tbs.sign(generate_p256_key(), hashes.SHA256()), Identity.parse(URI))
