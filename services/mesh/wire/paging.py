"""Pages of a list: sizes within their limits, and tokens that say where the next page begins. Opaque to callers."""

import base64
import binascii

from services.mesh.core.errors import InvalidField, PageTokenInvalid


def page_size(value: int, *, default: int, most: int) -> int:
    """How many rows at most; 0 means the default. Raises InvalidField."""
    if not 0 <= value <= most:
        raise InvalidField("page_size", f"must lie between 1 and {most}, or be 0 for {default}")
    return value or default


def to_token(*key: str) -> str:
    """A token for the key of the last row of a page."""
    return base64.urlsafe_b64encode("\n".join(key).encode()).decode()


def from_token(token: str, parts: int) -> tuple[str, ...]:
    """The key in a token, of so many parts; empty for the first page. Raises PageTokenInvalid."""
    if not token:
        return ()
    try:
        key = tuple(base64.b64decode(token.encode("ascii"), b"-_", validate=True).decode().split("\n"))
    except (ValueError, binascii.Error):
        key = ()
    if len(key) != parts or "\0" in "".join(key):
        raise PageTokenInvalid("page_token", "must be the next_page_token of the answer before")
    return key
