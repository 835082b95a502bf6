"""The command `npd-pki`: ceremonies, and what an administrator needs on a machine without network. Needs no terminal.

Every command is a module with `add(commands)`, which describes it, and a function that does it. Refusals are PkiError
or OSError: one sentence on stderr and exit code 1, never a trace, a key or a passphrase.
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from npd_pki.cli import ceremony, issue, key, request, show, verify
from npd_pki.description import printable
from npd_pki.errors import PkiError

_ABOUT = "The certificates of the National Population Database mesh, on a machine without network."

_EPILOG = """\
Day one, in order (each command has --help with examples):
  npd-pki ceremony run 1-root.toml --dry-run     what would be signed; touches nothing
  npd-pki ceremony run 1-root.toml               the root
  npd-pki ceremony run 2-issuing.toml            the three issuing CAs
  npd-pki ceremony run 3-crl.toml                their revocation lists
  npd-pki key new registry/tls.key --unencrypted
  npd-pki request registry/tls.key --out registry/tls.csr
  npd-pki issue --ca issuing/mesh --request registry/tls.csr --profile room-tls \\
      --uri spiffe://mesh.npd.test/registry --dns registry --root root/ca.crt --out registry
  npd-pki verify registry --crl crl/*.crl

Exit codes: 0 done; 1 refused, nothing was changed unless it says so; 2 the command line is wrong.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; argparse leaves with 2 by itself where the command line is wrong."""
    parsed = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # officers' names, where the terminal does not speak UTF-8
    try:
        parsed.command(parsed)
    except PkiError as error:
        return _refused(str(error))
    except BrokenPipeError:  # whoever read the output has left; Python would complain once more when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refused(f"{error.filename or 'a file'}: {error.strerror or 'cannot be used'}")
    except KeyboardInterrupt:
        return _refused("stopped before the end; nothing half-written is left")
    return 0


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("npd-pki", description=_ABOUT, epilog=_EPILOG, formatter_class=layout)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (ceremony, key, request, issue, show, verify):
        module.add(commands)
    return parser


def _refused(why: str) -> int:
    print(f"npd-pki: refused: {printable(why)}", file=sys.stderr)
    return 1


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
