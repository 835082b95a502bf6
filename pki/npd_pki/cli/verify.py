"""`npd-pki verify`: is a certificate good, and if not, what is wrong with it."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from npd_pki.cli.chain import PURPOSES, CertificateUnfit, find_path, require_good, unchecked
from npd_pki.cli.describing import Commands, command
from npd_pki.credentials import CA_CRT, TLS_CRT, TLS_KEY
from npd_pki.description import moment
from npd_pki.errors import PassphraseMissing
from npd_pki.keys import load_ec_private_key
from npd_pki.revocation_list import load_revocation_list
from npd_pki.trust_bundle import load_certificates, load_trust_bundle

_EXAMPLES = """\
Takes a directory with tls.crt, ca.crt and perhaps tls.key, or a PEM file with a leaf and its CA. Says in one sentence
what is wrong and what to do. Only the revocation lists that you name are read; it says which it would have needed.

Examples:
  npd-pki verify registry --crl crl/*.crl
  npd-pki verify tax/tls.crt --root root/ca.crt --purpose client
"""


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = command(commands, "verify", "Check a certificate against root and revocation lists.", _EXAMPLES, _verify)
    parser.add_argument("path", type=Path, metavar="PATH", help="a directory, or a PEM file")
    parser.add_argument(
        "--root", type=Path, metavar="FILE", help="the roots to trust; the directory's ca.crt otherwise"
    )
    parser.add_argument("--crl", type=Path, nargs="+", default=[], metavar="FILE", help="revocation lists")
    parser.add_argument("--purpose", choices=tuple(PURPOSES), help="what it is to be used for")


def _verify(arguments: argparse.Namespace) -> None:
    leaf, root, key = arguments.path, arguments.root, None
    if leaf.is_dir():
        leaf, root, key = leaf / TLS_CRT, root or leaf / CA_CRT, leaf / TLS_KEY
    if root is None:
        raise CertificateUnfit("a PEM file does not say which root to trust; name it with --root")
    path = find_path(load_certificates(leaf), load_trust_bundle(root))
    lists = [load_revocation_list(one.read_bytes()) for one in arguments.crl]
    require_good(path, lists, arguments.purpose, datetime.now(UTC))
    if key is not None and key.exists():
        _require_own_key(key, path.leaf)
    for issuer in unchecked(path, lists):
        print(f"not checked: no revocation list of {issuer} was given")
    print(f"good until {moment(path.leaf.not_valid_after_utc)}")


def _require_own_key(file: Path, leaf: x509.Certificate) -> None:
    try:
        key = load_ec_private_key(file)
    except PassphraseMissing as error:
        raise CertificateUnfit(
            f"{file} is encrypted, and a room or client asks nobody; make one unencrypted"
        ) from error
    if key.public_key() != leaf.public_key():
        raise CertificateUnfit(f"{file} is not the key of the leaf; put the key that the request was made with there")
