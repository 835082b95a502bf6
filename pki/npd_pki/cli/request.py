"""`npd-pki request`: a certificate signing request for a key."""

import argparse
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.cli.describing import Commands, command, passphrase_option
from npd_pki.cli.outputs import write_new
from npd_pki.cli.terminal import Asked
from npd_pki.description import fingerprint, line, public_key_id
from npd_pki.files import PUBLIC, PemFile, require_absent
from npd_pki.identity import Identity
from npd_pki.keys import load_ec_private_key, signature_hash
from npd_pki.request import create_request

_EXAMPLES = """\
Only the request travels, the key stays where it is. The names in the certificate are decided by whoever issues it; a
URI in the request only lets him see that both mean the same party. For an RSA key use openssl req.

Examples:
  npd-pki request registry/tls.key --out registry/tls.csr
  npd-pki request tls.key --uri spiffe://agency.npd.test/gdt/tax --out tax.csr

Compare the key id by telephone with whoever is to issue the certificate.
"""


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = command(commands, "request", "Ask for a certificate for a key that stays here.", _EXAMPLES, _request)
    parser.add_argument("key", type=Path, metavar="KEY", help="the key file")
    parser.add_argument("--uri", metavar="URI", help="the identity that is asked for; may be left out")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write the request")
    passphrase_option(parser, "if the key is encrypted")


def _request(arguments: argparse.Namespace) -> None:
    require_absent(arguments.out)
    identity = Identity.parse(arguments.uri) if arguments.uri is not None else None
    asked = Asked(arguments.passphrase_file)
    key = asked.open(lambda passphrase: load_ec_private_key(arguments.key, passphrase), arguments.key)
    request = create_request(key)
    if identity is not None:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
        builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=True)
        request = builder.sign(key, signature_hash(key.public_key()))
    write_new(arguments.out.parent, [PemFile(arguments.out.name, request.public_bytes(Encoding.PEM), PUBLIC)])
    print(f"wrote {arguments.out}")
    print(line("key id", public_key_id(key.public_key())))
    print(line("SHA-256 of the DER", fingerprint(request.public_bytes(Encoding.DER))))
