"""Keys and passphrases that root lends a process: a Kubernetes volume with fsGroup, seen by the pod's account."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from npd_pki.ca_store import Hierarchy
from npd_pki.credentials import Credentials, write_credentials
from npd_pki.identity import mesh_uri
from npd_pki.keys import generate_p256_key
from npd_pki.profile import ROOM_TLS
from tests.programs import program

POD, ANOTHER = 10001, 10002
# root's and ours, by (owner, group, mode): may the pod's account use it?
CASES = {
    "lent to the group": (0, POD, 0o440, True),
    "lent to the group, which root may write": (0, POD, 0o640, True),
    "its own": (POD, POD, 0o400, True),
    "its own, which it may write": (POD, POD, 0o600, True),
    "lent to everybody": (0, POD, 0o444, False),
    "lent to the group to write": (0, POD, 0o660, False),
    "its own, and the group's": (POD, POD, 0o440, False),
    "its own, and everybody's": (POD, POD, 0o604, False),
    "another account's, lent to the group": (ANOTHER, POD, 0o440, False),
}

# As the pod's account: is each of the two accepted? Both readers have the rule.
_LOOK = """
import json, sys
from pathlib import Path
from npd_client.credentials import CredentialFiles, Credentials, KeyExposed
from npd_pki.errors import PrivateKeyExposed
from npd_pki.passphrase import read_passphrase

def accepted(read, refusal):
    try:
        read()
    except refusal:
        return False
    return True

place = Path(sys.argv[1])
print(json.dumps([
    accepted(lambda: Credentials.from_directory(place), KeyExposed),
    accepted(lambda: read_passphrase(place / "passphrase"), PrivateKeyExposed),
]))
"""


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """A directory that every account can enter, with TLS files and a passphrase."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        hierarchy, key = Hierarchy.create("npd.test"), generate_p256_key()
        issued = hierarchy.mesh.issue(
            ROOM_TLS, mesh_uri("npd.test", "sharing"), key.public_key(), dns_names=["localhost"]
        )
        write_credentials(directory, Credentials(issued, key, (hierarchy.root.certificate,)))
        (directory / "passphrase").write_text("a passphrase\n")
        yield directory


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lend files to another account")
@pytest.mark.parametrize(("owner", "group", "mode", "usable"), CASES.values(), ids=CASES)
def test_a_key_is_used_if_nobody_else_but_root_has_it(
    files: Path, owner: int, group: int, mode: int, usable: bool
) -> None:
    for secret in (files / "tls.key", files / "passphrase"):
        os.chown(secret, owner, group)
        secret.chmod(mode)
    become = [program("setpriv"), f"--reuid={POD}", f"--regid={POD}", "--clear-groups", "--"]
    looked = subprocess.run(
        [*become, sys.executable, "-c", _LOOK, str(files)], capture_output=True, text=True, cwd="/", check=False
    )
    assert looked.returncode == 0, looked.stderr
    assert json.loads(looked.stdout) == [usable, usable]
