"""One table of a TOML file, read strictly: each key once, of its type, and none that nobody asked for."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

from npd_pki.ceremony.errors import DocumentMalformed
from npd_pki.errors import PkiError

Value = TypeVar("Value")

_LONGEST_TEXT = 1000
_YEARS = range(1951, 9999)  # what a certificate can state (RFC 5280 4.1.2.5), whatever the offset from UTC


class Table:
    """Takes the keys of a table one by one; `finish` refuses those that were not taken.

    Every refusal is a DocumentMalformed that names the file, the key with all the tables around it, and what it must
    look like.
    """

    def __init__(self, content: dict[str, object], file: Path, name: str = "") -> None:
        self._content = content
        self._file = file
        self._name = name
        self._taken: list[str] = []

    def has(self, key: str) -> bool:
        """Whether the table has a key. Does not take it."""
        return key in self._content

    def text(self, key: str, form: str) -> str:
        """A required string on one line, not empty. `form` says what it must look like."""
        value = self._require(key, form)
        if not _is_text(value):
            raise self.malformed(key, f"must be {form}")
        return str(value)

    def texts(self, key: str, form: str) -> tuple[str, ...]:
        """A required array of strings, one at least, none twice."""
        value = self._require(key, form)
        if not isinstance(value, list) or not value or not all(map(_is_text, value)) or len(set(value)) != len(value):
            raise self.malformed(key, f"must be {form}")
        return tuple(value)

    def word(self, key: str, parse: Callable[[str], Value], form: str) -> Value:
        """A required string that `parse` takes; its refusal (PkiError, ValueError) becomes that of the key."""
        text = self.text(key, form)
        try:
            return parse(text)
        except (PkiError, ValueError) as error:
            reason = f" ({error})" if isinstance(error, PkiError) else ""
            raise self.malformed(key, f"must be {form}, not {text!r}{reason}") from error

    def integer(self, key: str, least: int, most: int) -> int:
        """A required whole number within bounds, both included."""
        form = f"must be a whole number from {least} to {most}"
        value = self._require(key, form.removeprefix("must be "))
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.malformed(key, form)
        return value

    def flag(self, key: str) -> bool:
        """An optional true or false; absent is false."""
        if not self.has(key):
            return False
        value = self._require(key, "true or false")
        if not isinstance(value, bool):
            raise self.malformed(key, "must be true or false, without quotes")
        return value

    def instant(self, key: str) -> datetime:
        """A required moment with its offset from UTC, in whole seconds, within the years of certificates."""
        form = "a moment with its offset, such as 2027-01-31T09:00:00+07:00, without quotes"
        value = self._require(key, form)
        if not isinstance(value, datetime) or value.utcoffset() is None or value.microsecond:
            raise self.malformed(key, f"must be {form}")
        if value.year not in _YEARS:
            raise self.malformed(key, f"must be in the years {_YEARS.start} to {_YEARS.stop - 1}")
        return value.astimezone(UTC)

    def path(self, key: str, form: str) -> Path:
        """A required path; a relative one counts from the directory of the ceremony file."""
        return self._file.parent / self.text(key, form)

    def optional_path(self, key: str, form: str) -> Path | None:
        """An optional path, likewise."""
        return self.path(key, form) if self.has(key) else None

    def paths(self, key: str, form: str) -> tuple[Path, ...]:
        """A required array of paths, one at least."""
        return tuple(self._file.parent / text for text in self.texts(key, form))

    def table(self, key: str, form: str) -> Self:
        """A required table within this one."""
        value = self._require(key, form)
        if not isinstance(value, dict):
            raise self.malformed(key, f"must be {form}")
        return type(self)(value, self._file, self._full(key))

    def tables(self, key: str, form: str) -> list[Self]:
        """A required array of tables, one at least."""
        value = self._require(key, form)
        if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
            raise self.malformed(key, f"must be {form}")
        return [type(self)(one, self._file, f"{self._full(key)}[{place}]") for place, one in enumerate(value, 1)]

    def finish(self) -> None:
        """Refuse every key that was not taken."""
        for key in self._content:
            if key not in self._taken:
                known = ", ".join(self._taken)
                raise self.malformed(key, f"is not a key of this table; it may hold: {known}")

    def malformed(self, key: str, problem: str) -> DocumentMalformed:
        """The refusal of one key; of the table itself if the key is empty."""
        return DocumentMalformed(self._file, self._full(key) if key else self._name, problem)

    def _require(self, key: str, form: str) -> object:
        if key not in self._taken:
            self._taken.append(key)
        if key not in self._content:
            raise self.malformed(key, f"is missing; it must be {form}")
        return self._content[key]

    def _full(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable() and len(value) <= _LONGEST_TEXT
