"""`npd-pki ceremony run`: shows what a reviewed file would sign, and signs it."""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from npd_pki.ceremony.reading import read_document
from npd_pki.ceremony.run import Rehearsal, rehearse, run
from npd_pki.ceremony.transcript import programs
from npd_pki.cli.describing import Commands, command, passphrase_option
from npd_pki.cli.terminal import Asked, confirmed
from npd_pki.description import line, moment

_EXAMPLES = """\
The TOML file is the only input: people review it, the dry run shows what it comes to, the run signs just that. Its
paths count from its own directory. It names one output directory, which must not exist and appears whole or not at
all, with a transcript of what was signed and the SHA-256 of every file.

Examples:
  npd-pki ceremony run 1-root.toml --dry-run
  npd-pki ceremony run 1-root.toml
  npd-pki ceremony run 3-crl.toml --passphrase-file root.passphrase --yes

The dry run opens no key and asks for no passphrase. What is known only at the run stands in <angle brackets>.
"""


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    ceremonies = commands.add_parser("ceremony", help="sign what a reviewed TOML file says").add_subparsers(
        metavar="COMMAND", required=True
    )
    parser = command(ceremonies, "run", "Rehearse a ceremony, then hold it.", _EXAMPLES, _run)
    parser.add_argument("file", type=Path, metavar="FILE", help="the reviewed TOML file")
    parser.add_argument("--dry-run", action="store_true", help="show what would be signed, and touch nothing")
    parser.add_argument("--yes", action="store_true", help="sign without asking; for who has seen the dry run")
    passphrase_option(parser, "for keys whose passphrase_file the TOML file does not name")


def _run(arguments: argparse.Namespace) -> None:
    rehearsal = rehearse(read_document(arguments.file), datetime.now(UTC))
    print("\n".join(_plan(rehearsal)))
    if arguments.dry_run:
        print("Dry run: no key was opened, nothing was signed, nothing written.")
        return
    passphrases = Asked(arguments.passphrase_file)
    run(rehearsal, passphrases, lambda: arguments.yes or confirmed("Type yes to sign all of this: "), print)


def _plan(rehearsal: Rehearsal) -> Iterator[str]:
    document = rehearsal.document
    yield f"Ceremony: {document.act} of {document.environment}"
    yield line("file", f"{document.file}, SHA-256 {document.digest}")
    for officer in document.officers:
        yield line("officer", officer)
    yield line("clock of this machine", f"{moment(rehearsal.now)}: compare it with a watch")
    for name, digest in rehearsal.inputs.digests():
        yield line("reads", f"{name}, SHA-256 {digest}")
    for name, value in programs():
        yield line(name, value)
    for product in rehearsal.products:
        yield f"\nWould sign: {product.title}"
        yield from rehearsal.lines(product)
        if product.is_exact:
            yield line("SHA-256 as signed", product.signed_digest)
    yield f"\nWould write: {document.output}"
    for product in rehearsal.products:
        for file in product.files:
            yield f"  {file.mode:04o}  {product.place / file.name}"
    yield "  0644  transcript.txt\n"
