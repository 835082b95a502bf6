"""How ids, names and texts must look. Malformed ones are refused, never repaired."""

import re
from collections.abc import Sequence
from uuid import UUID

from services.mesh.core.errors import InvalidField
from services.mesh.core.person.pin import holds_pin
from services.mesh.core.rights import AgreementUnknown

_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_OFFICER = re.compile(r"[!-~]{1,64}", re.ASCII)
_ISSUER_KEY_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SERIAL_NUMBER = re.compile(r"[1-9a-f][0-9a-f]{0,39}", re.ASCII)
_METHOD = re.compile(r"/npd\.(issuer|common)\.v1\.[A-Z][A-Za-z]{1,60}/[A-Z][A-Za-z]{1,60}", re.ASCII)
_ID = re.compile(r"\b([0-9a-f]{13,64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\b", re.ASCII)
_LONGEST_NAME = 200
_LONGEST_CONTACT = 200
_LONGEST_CAUSE = 500
_LONGEST_OBJECT = 500
_LONGEST_ECHO = 64


def require_identifier(field: str, value: str) -> str:
    """An agency's, system's or operator's id, as it stands in certificates. Raises InvalidField."""
    if not _IDENTIFIER.fullmatch(value):
        raise InvalidField(field, "must be 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit")
    return value


def require_agreement_id(value: str) -> str:
    """An agreement's id in its one form. Raises AgreementUnknown: what is no UUID names none."""
    try:
        return str(UUID(value))
    except ValueError:
        raise AgreementUnknown(agreement=value[:_LONGEST_ECHO]) from None


def require_officers(field: str, values: Sequence[str]) -> tuple[str, ...]:
    """Ids of officers, each once, 1 to 1,000. Raises InvalidField."""
    officers = tuple(dict.fromkeys(values))
    if not 1 <= len(officers) <= 1000:
        raise InvalidField(field, "must name 1 to 1,000 officers")
    if not all(map(_OFFICER.fullmatch, officers)):
        raise InvalidField(field, "must each be 1 to 64 visible ASCII characters without blanks")
    return officers


def require_name(field: str, value: str) -> str:
    """A name for people to read. Raises InvalidField."""
    return _require_text(field, value, _LONGEST_NAME)


def require_contact(field: str, value: str) -> str:
    """Where an agency's administrators are reached. Raises InvalidField."""
    return _require_text(field, value, _LONGEST_CONTACT)


def require_act_object(field: str, value: str) -> str:
    """What an act was done to, in words. Raises InvalidField for a PIN, too.

    Ids may stand in it: random hex digits read like a PIN every now and then.
    """
    if holds_pin(_ID.sub("", _require_text(field, value, _LONGEST_OBJECT))):
        raise InvalidField(field, "must hold no personal data, such as a PIN")
    return value


def require_method(field: str, value: str) -> str:
    """Full name of a method that the issuer serves. Raises InvalidField."""
    if not _METHOD.fullmatch(value):
        raise InvalidField(field, "must be a method of the issuer, such as /npd.issuer.v1.Service/Method")
    return value


def require_cause(field: str, value: str) -> str:
    """Why something is suspended. Raises InvalidField."""
    return _require_text(field, value, _LONGEST_CAUSE)


def require_issuer_key_id(field: str, value: str) -> str:
    """SHA-256 of a SubjectPublicKeyInfo, hex. Raises InvalidField."""
    if not _ISSUER_KEY_ID.fullmatch(value):
        raise InvalidField(field, "must be 64 lower-case hex digits")
    return value


def require_serial_number(field: str, value: str) -> str:
    """A certificate's serial number, at most 20 octets (RFC 5280, 4.1.2.2). Raises InvalidField."""
    if not _SERIAL_NUMBER.fullmatch(value):
        raise InvalidField(field, "must be lower-case hex without leading zeros, 40 digits at most")
    return value


def _require_text(field: str, value: str, longest: int) -> str:
    if not value.strip() or len(value) > longest or not value.isprintable():
        raise InvalidField(field, f"must be 1 to {longest} printable characters on one line")
    return value
