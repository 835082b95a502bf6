"""`npd-pki key`: make a key file, and tell the key id of whatever holds a key. Never shows a private key."""

import argparse
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from npd_pki.ceremony.keys import require_strong_passphrase
from npd_pki.cli.describing import Commands, command, passphrase_option
from npd_pki.cli.outputs import write_new
from npd_pki.cli.terminal import Asked
from npd_pki.description import line, public_key_id, public_key_words
from npd_pki.errors import UNREADABLE, PemMalformed
from npd_pki.files import PRIVATE, PemFile, require_absent
from npd_pki.keys import generate_p256_key, generate_p384_key, load_ec_private_key, private_key_pem
from npd_pki.request import load_request

_NEW = """\
The key is EC, PKCS#8 PEM of mode 0600, encrypted with a passphrase. Rooms and clients of the mesh read keys that are
not encrypted: for them, make it where it is used, and give --unencrypted.

Examples:
  npd-pki key new registry/tls.key --unencrypted
  npd-pki key new spare-ca.key --curve p384 --passphrase-file ca.passphrase
"""
_ID = """\
The key id is the SHA-256 of the public key. It is the same for a key, its request and every certificate of it.

Examples:
  npd-pki key id issuing/mesh/ca.crt
  npd-pki key id registry/tls.key
"""
_CURVES = {"p256": generate_p256_key, "p384": generate_p384_key}


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Describe the commands."""
    keys = commands.add_parser("key", help="make a key, or tell its key id").add_subparsers(
        metavar="COMMAND", required=True
    )
    new = command(keys, "new", "Make a key in a file that does not exist yet.", _NEW, _new)
    new.add_argument("file", type=Path, metavar="FILE", help="where to write it")
    new.add_argument("--curve", choices=tuple(_CURVES), default="p256", help="p256 unless told otherwise")
    new.add_argument("--unencrypted", action="store_true", help="for a room or client, which has nobody to ask")
    passphrase_option(new, "to encrypt the key with")
    told = command(keys, "id", "Tell the key id of a key, request or certificate.", _ID, _tell)
    told.add_argument("file", type=Path, metavar="FILE", help="a PEM file")
    passphrase_option(told, "if the key is encrypted")


def _new(arguments: argparse.Namespace) -> None:
    require_absent(arguments.file)
    passphrase = None
    if not arguments.unencrypted:
        given = Asked(arguments.passphrase_file).for_new(str(arguments.file))
        passphrase = require_strong_passphrase(given)
    key = _CURVES[arguments.curve]()
    pem = private_key_pem(key, passphrase)
    write_new(arguments.file.parent, [PemFile(arguments.file.name, pem, PRIVATE)])
    print(f"wrote {arguments.file}")
    _print(key.public_key())


def _tell(arguments: argparse.Namespace) -> None:
    _print(_public_key(arguments.file, Asked(arguments.passphrase_file)))


def _public_key(file: Path, asked: Asked) -> PublicKeyTypes:
    content = file.read_bytes()
    try:
        if b"PRIVATE KEY-----" in content:
            return asked.open(lambda passphrase: load_ec_private_key(file, passphrase), file).public_key()
        if b"-----BEGIN CERTIFICATE-----" in content:
            return x509.load_pem_x509_certificate(content).public_key()
        if b"CERTIFICATE REQUEST-----" in content:
            return load_request(content).public_key()
        return load_pem_public_key(content)
    except UNREADABLE as error:
        raise PemMalformed(f"{file} holds no whole PEM key, request or certificate") from error


def _print(key: PublicKeyTypes) -> None:
    print(line("key id", public_key_id(key)))
    print(line("public key", public_key_words(key)))
