"""`npd-pki show`: what a certificate, request, revocation list or trust bundle says. Never shows a private key."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.cli.describing import Commands, command
from npd_pki.description import bundle_lines, certificate_lines, fingerprint, line, list_lines, request_lines
from npd_pki.errors import UNREADABLE, PemMalformed, TrustBundleUntrusted
from npd_pki.signed_bundle import read_trust_bundle
from npd_pki.trust_bundle import read_certificates, require_roots

_EXAMPLES = """\
Shows what the file says; whether to believe it is for npd-pki verify.

Examples:
  npd-pki show root/ca.crt
  npd-pki show tax.csr
  npd-pki show crl/0123456789abcdef.crl
  npd-pki show bundle/trust-bundle.txt
"""
_LARGEST = 64 << 20
_BUNDLE = b"npd trust bundle v1\n"


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = command(commands, "show", "Explain a certificate, request, list or trust bundle.", _EXAMPLES, _show)
    parser.add_argument("file", type=Path, metavar="FILE", help="PEM, DER or a trust bundle")


def _show(arguments: argparse.Namespace) -> None:
    with arguments.file.open("rb") as stream:
        content = stream.read(_LARGEST)
    if b"PRIVATE KEY-----" in content:
        raise PemMalformed(f"{arguments.file} holds a private key, which is not shown; npd-pki key id tells its key id")
    try:
        for text in _explained(content):
            print(text)
    except UNREADABLE as error:
        raise PemMalformed(
            f"{arguments.file} is no whole certificate, request, revocation list or trust bundle"
        ) from error


def _explained(content: bytes) -> Iterator[str]:
    if content.startswith(_BUNDLE):
        yield from _bundle(content)
    elif b"-----BEGIN CERTIFICATE-----" in content:
        for certificate in read_certificates(content, "the file"):
            yield from _certificate(certificate)
    elif b"CERTIFICATE REQUEST-----" in content:
        yield from _request(x509.load_pem_x509_csr(content))
    elif b"-----BEGIN X509 CRL-----" in content:
        yield from _list(x509.load_pem_x509_crl(content))
    else:
        yield from _der(content)


def _der(content: bytes) -> Iterator[str]:
    for load, explain in (
        (x509.load_der_x509_crl, _list),
        (x509.load_der_x509_certificate, _certificate),
        (x509.load_der_x509_csr, _request),
    ):
        try:
            found = load(content)
        except ValueError:
            continue
        yield from explain(found)  # type: ignore[arg-type]  # each loader stands beside its own explanation
        return
    raise ValueError("none of them")


def _certificate(certificate: x509.Certificate) -> Iterator[str]:
    yield "certificate"
    yield from certificate_lines(certificate)
    yield line("SHA-256 of the DER", fingerprint(certificate.public_bytes(Encoding.DER)))


def _request(request: x509.CertificateSigningRequest) -> Iterator[str]:
    yield "certificate signing request"
    yield from request_lines(request)
    yield line("SHA-256 of the DER", fingerprint(request.public_bytes(Encoding.DER)))


def _list(revoked: x509.CertificateRevocationList) -> Iterator[str]:
    yield "revocation list"
    yield from list_lines(revoked)
    yield line("SHA-256 of the DER", fingerprint(revoked.public_bytes(Encoding.DER)))


def _bundle(content: bytes) -> Iterator[str]:
    """A bundle under the roots that it holds itself, which says only that it is intact."""
    yield "trust bundle"
    try:
        bundle = read_trust_bundle(content, require_roots(read_certificates(content, "the bundle")))
    except TrustBundleUntrusted as error:
        yield line("signature", f"NOT CHECKED: {error}")
        return
    yield from bundle_lines(bundle.environment, bundle.sequence, bundle.roots)
    yield line("signed by", bundle.signer.subject.rfc4514_string())
    yield line("", "which is in the bundle itself: believe it if you trust that root already")
    yield line("SHA-256 of the file", fingerprint(content))
