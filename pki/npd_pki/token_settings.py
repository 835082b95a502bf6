"""The file `pkcs11.toml` in the place of `ca.key`: says in which token the key of a CA is. Holds no PIN.

module = "/usr/lib/softhsm/libsofthsm2.so"
token_label = "npd agency"
key_label = "agency-ca-1"
pin_file = "/etc/npd/agency.pin"     # optional, mode 0600; a relative path counts from the directory of this file
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from npd_pki.errors import TokenSettingsMalformed
from npd_pki.pkcs11 import TokenKey

_REQUIRED = ("module", "token_label", "key_label")
_OPTIONAL = ("pin_file",)


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Where the key is, and the file with the token's PIN; without one whoever opens the key gives the PIN."""

    key: TokenKey
    pin_file: Path | None

    def toml(self) -> bytes:
        """The content of the file."""
        entries = {
            "module": str(self.key.module),
            "token_label": self.key.token_label,
            "key_label": self.key.key_label,
            "pin_file": str(self.pin_file) if self.pin_file else None,
        }
        # A JSON string is a TOML basic string as long as nothing but ASCII stands in it.
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in entries.items() if value).encode("ascii")


def load_token_settings(path: Path) -> TokenSettings:
    """Read the file. Raises TokenSettingsMalformed for an entry that is missing or unknown, or no TOML; OSError."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # tomllib lets a number too long and a nesting too deep through
        raise TokenSettingsMalformed(f"{path} is not TOML: {error}") from error
    unknown = sorted(set(entries) - {*_REQUIRED, *_OPTIONAL})
    if unknown:
        raise TokenSettingsMalformed(f"{path} holds entries that nobody knows: {', '.join(unknown)}")
    for name in (*_REQUIRED, *(set(entries) & set(_OPTIONAL))):
        if not isinstance(entries.get(name), str) or not entries[name]:
            raise TokenSettingsMalformed(f"{path} lacks the text {name}")
    pin_file = path.parent / entries["pin_file"] if "pin_file" in entries else None
    key = TokenKey(path.parent / entries["module"], entries["token_label"], entries["key_label"])
    return TokenSettings(key, pin_file)
