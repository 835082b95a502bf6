"""`npd-pki issue` and `npd-pki issued`: leaves of an offline CA, and the list of them."""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from npd_pki.authority import IssuingCA
from npd_pki.ca_store import CERTIFICATE_FILE, load_authority
from npd_pki.cli.chain import require_valid
from npd_pki.cli.describing import Commands, command, passphrase_option
from npd_pki.cli.issued_log import LOG_FILE, IssuedLog, intention
from npd_pki.cli.outputs import require_directory, write_new
from npd_pki.cli.terminal import Asked
from npd_pki.credentials import CA_CRT, TLS_CRT
from npd_pki.description import certificate_lines, fingerprint, line
from npd_pki.errors import CredentialsMismatched, StoreIncomplete
from npd_pki.files import PUBLIC, PemFile, require_absent
from npd_pki.identity import Identity
from npd_pki.profile import PROFILES
from npd_pki.request import load_request, proven_public_key, require_names
from npd_pki.trust_bundle import certificates_pem, is_issued_by, load_trust_bundle
from npd_pki.validity import Validity

_ISSUE = """\
For the first certificates of a mesh, and wherever no issuer runs. The profile decides purposes and longest life, you
decide the names: authenticate the holder and compare the key id first. What is about to be signed is recorded in
issued.log beside the CA before it is signed, so that it can be revoked whatever happens.

Examples:
  npd-pki issue --ca issuing/mesh --request registry/tls.csr --profile room-tls \\
      --uri spiffe://mesh.npd.test/registry --dns registry --root root/ca.crt --out registry
  npd-pki issue --ca issuing/agency --request tax.csr --profile client-tls --days 30 \\
      --uri spiffe://agency.npd.test/gdt/tax --out tax

It writes tls.crt (the leaf, then its CA), and with --root the roots to trust as ca.crt.
"""
_ISSUED = """\
A line a certificate: serial number, end, profile, identity. NO RESULT means that the CA was about to sign when the
machine stopped: the certificate may exist, so revoke its serial number if nobody has it.

Examples:
  npd-pki issued issuing/mesh
"""


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Describe the commands."""
    parser = command(commands, "issue", "Issue a leaf for a signing request.", _ISSUE, _issue)
    parser.add_argument("--ca", type=Path, required=True, metavar="DIR", help="the issuing CA: ca.crt and its key")
    parser.add_argument("--request", type=Path, required=True, metavar="FILE", help="the signing request")
    parser.add_argument("--profile", choices=tuple(PROFILES), required=True, help="the sort of certificate")
    parser.add_argument("--uri", required=True, help="the identity, such as spiffe://mesh.npd.test/registry")
    parser.add_argument("--dns", action="append", default=[], metavar="NAME", help="a host to be dialled; repeat it")
    parser.add_argument("--days", type=_days, help="its life; that of the profile otherwise")
    parser.add_argument("--root", type=Path, metavar="FILE", help="the roots to trust, written as ca.crt")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write tls.crt")
    passphrase_option(parser, "of the CA's key")
    listed = command(commands, "issued", "List what an offline CA has signed.", _ISSUED, _issued)
    listed.add_argument("ca", type=Path, metavar="DIR", help="the directory of the issuing CA")


def _issue(arguments: argparse.Namespace) -> None:
    """Issue in steps of which none can be forgotten by a crash.

    1. Nothing is in the way of the output; the CA is valid now, and of the root that the holder is to trust.
    2. The request proves possession of its key, and asks for no other name.
    3. The certificate is built and linted.
    4. The intention is on the disk.
    5. Sign; the result is on the disk, then in its file.
    """
    require_directory(arguments.out)  # (1)
    require_absent(arguments.out / TLS_CRT)
    authority = _authority(arguments)
    require_valid("CA", authority.certificate, datetime.now(UTC))
    roots = _roots(arguments, authority)
    request = load_request(arguments.request.read_bytes())  # (2)
    public_key = proven_public_key(request)
    require_names(request, Identity.parse(arguments.uri))
    profile = PROFILES[arguments.profile]
    validity = Validity.lasting(timedelta(days=arguments.days)) if arguments.days is not None else None
    prepared = authority.prepare(  # (3)
        profile, arguments.uri, public_key, dns_names=arguments.dns, validity=validity
    )
    log = IssuedLog(arguments.ca)
    planned = intention(prepared, profile, arguments.uri, arguments.dns, public_key)
    log.intend(planned)  # (4)
    print(f"recorded the intention to sign {planned.serial}")
    issued = authority.sign(prepared)  # (5)
    log.issued(planned.serial, issued.certificate)
    write_new(arguments.out, [*roots, PemFile(TLS_CRT, issued.pem(), PUBLIC)])
    print(f"signed, and wrote {arguments.out / TLS_CRT}")
    print("\n".join(certificate_lines(issued.certificate)))
    print(line("SHA-256 of the DER", fingerprint(issued.certificate.public_bytes(Encoding.DER))))


def _authority(arguments: argparse.Namespace) -> IssuingCA:
    asked = Asked(arguments.passphrase_file)
    return asked.open(lambda passphrase: load_authority(arguments.ca, passphrase), arguments.ca)


def _roots(arguments: argparse.Namespace, authority: IssuingCA) -> list[PemFile]:
    if arguments.root is None:
        return []
    require_absent(arguments.out / CA_CRT)
    roots = load_trust_bundle(arguments.root)
    if not any(is_issued_by(authority.certificate, root) for root in roots):
        raise CredentialsMismatched(f"the CA in {arguments.ca} was not issued by a root in {arguments.root}")
    return [PemFile(CA_CRT, certificates_pem(roots), PUBLIC)]


def _issued(arguments: argparse.Namespace) -> None:
    if not (arguments.ca / CERTIFICATE_FILE).exists():  # an empty list of the wrong directory would be believed
        raise StoreIncomplete(f"{arguments.ca / CERTIFICATE_FILE} is missing: name the directory of the CA")
    listing = IssuedLog(arguments.ca).listing()
    for entry in listing.entries:
        told, result = entry.intention, "" if entry.digest else "  NO RESULT"
        print(f"{told.serial:<40}  until {told.valid_until[:10]}  {told.profile:<10}  {told.uri}{result}")
    for place in listing.cut_off:
        print(f"line {place} of {LOG_FILE} is not whole: the machine stopped there, or somebody changed the file")
    print(f"{len(listing.entries)} certificate(s), {sum(one.digest is None for one in listing.entries)} without result")


def _days(text: str) -> int:
    days = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if days < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return days
