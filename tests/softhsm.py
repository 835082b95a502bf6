"""A hardware module in software for tests: SoftHSM2 with one token in a directory of its own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from npd_pki.pkcs11 import TokenKey
from tests.programs import REQUIRED, program

LABEL = "npd ceremony"
PIN = b"271828"
_PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True)
class SoftToken:
    """A token, and the library to reach it by."""

    module: Path

    def key(self, label: str) -> TokenKey:
        """Where the key of this label is, or will be."""
        return TokenKey(self.module, LABEL, label)

    def forget(self) -> None:
        """Let go of the library, as the end of a process does: whoever comes next has to log in."""
        import pkcs11

        pkcs11.unload(str(self.module))


@contextmanager
def soft_token(directory: Path) -> Iterator[SoftToken]:
    """An empty token with the PIN above. Without SoftHSM2 the test skips, or fails where REQUIRED is 1."""
    module = next(filter(Path.exists, map(Path, _PLACES)), None)
    utility = program("softhsm2-util")
    if module is None:
        missing = "libsofthsm2.so is in none of the usual places; on Debian: apt-get install softhsm2"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    (directory / "tokens").mkdir()
    (directory / "softhsm2.conf").write_text(f"directories.tokendir = {directory / 'tokens'}\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SOFTHSM2_CONF", str(directory / "softhsm2.conf"))
        command = [utility, "--init-token", "--free", "--label", LABEL, "--pin", PIN.decode(), "--so-pin", "31415926"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        token = SoftToken(module)
        token.forget()  # the library reads its settings once
        try:
            yield token
        finally:
            token.forget()
