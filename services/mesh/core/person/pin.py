"""The personal identification number: its form, and the synthetic range that exists in a sandbox only."""

import re

from services.mesh.core.errors import InvalidField, Kind, MeshError

_FORM = re.compile(r"[0-9]{12}", re.ASCII)
# 900 + an old two-digit province code (01 to 96): no province and no country code of the civil list lies there.
_SYNTHETIC = re.compile(r"9(0[1-9]|[1-8][0-9]|9[0-6])", re.ASCII)
_IN_TEXT = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")


class SandboxPin(MeshError):
    """The PIN is of the synthetic range and this is not a sandbox."""

    kind, reason = Kind.INVALID_ARGUMENT, "SANDBOX_PIN"


def require_pin(pin: str, field: str, *, sandbox: bool) -> str:
    """The PIN, if it is one: twelve ASCII digits, and synthetic in a sandbox only.

    An unknown place code is no fault: country codes exist. Raises InvalidField, SandboxPin. Source: DOMAIN.md 5.1.
    """
    if not _FORM.fullmatch(pin):
        raise InvalidField(field, "must be 12 digits 0-9")
    if not sandbox and _SYNTHETIC.match(pin):
        raise SandboxPin()
    return pin


def holds_pin(text: str) -> bool:
    """Whether something in a text reads like a PIN: just twelve digits in a row."""
    return _IN_TEXT.search(text) is not None
