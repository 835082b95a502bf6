"""Passwords of database roles, one file of mode 0600 each. Never prints, logs or puts one into SQL text."""

import os
import secrets
from pathlib import Path

from services.local.errors import PasswordMissing


class Passwords:
    """The passwords in one directory of mode 0700, named by role."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, role: str) -> Path:
        """Where the password of a role lies, whether or not it exists."""
        return self._directory / role

    def of(self, role: str) -> str:
        """Return the password of a role. Raises PasswordMissing."""
        try:
            return self.path(role).read_text().strip()
        except FileNotFoundError:
            raise PasswordMissing(f"role {role}: there is no password at {self.path(role)}") from None

    def ensure(self, role: str) -> str:
        """Return the password of a role, after drawing one of 256 bits if it has none.

        It appears whole or not at all, and is on disk before anything is made that depends on it.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path(role).exists():
            draft = self._directory / f".{role}.{os.getpid()}"
            draft.unlink(missing_ok=True)
            with open(draft, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as written:
                written.write(secrets.token_urlsafe(32) + "\n")
                written.flush()
                os.fsync(written.fileno())
            draft.rename(self.path(role))
        return self.of(role)
