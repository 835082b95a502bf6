"""From the TOML file of a ceremony to what it says. Refuses every key it does not know; opens no file but that one."""

import re
import tomllib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from npd_pki.ceremony.document import (
    Act,
    BundleCeremony,
    CrossSigned,
    CrossSigning,
    Document,
    IssuingCeremony,
    KeyFile,
    KeyInToken,
    Life,
    ListCeremony,
    NewAuthority,
    NewKeyFile,
    NewList,
    RequestedKey,
    Revocation,
    RootCeremony,
    Signer,
    SignerKey,
    Subject,
    SubjectKey,
)
from npd_pki.ceremony.errors import DocumentMalformed, InputUnreadable
from npd_pki.ceremony.fields import Table
from npd_pki.identity import Kind, require_environment
from npd_pki.pkcs11 import TokenKey
from npd_pki.revocation_list import RevocationReason
from npd_pki.validity import Validity

_LONGEST_LIFE_DAYS = 20 * 366
_HIGHEST_NUMBER = 10**18 - 1
_LARGEST_FILE = 1 << 20
_SERIAL = re.compile(r"[0-9a-fA-F]{1,40}")


def read_document(file: Path) -> Document:
    """Read the file of a ceremony. Raises InputUnreadable, DocumentMalformed."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise InputUnreadable(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST_FILE:
        raise DocumentMalformed(file, "", "is larger than 1 MiB, which no reviewed ceremony is")
    try:
        table = Table(tomllib.loads(content.decode()), file)
    except (ValueError, RecursionError) as error:  # tomllib lets a number too long and a nesting too deep through
        raise DocumentMalformed(file, "", f"is not TOML in UTF-8: {error}") from error
    act = table.word("kind", Act, f"one of {', '.join(Act)}")
    document = Document(
        file=file,
        digest=sha256(content).hexdigest(),
        act=act,
        environment=table.word("environment", require_environment, "the environment's host name, such as npd.gov.vn"),
        officers=table.texts("officers", "an array of the names of all who take part, each once"),
        output=table.path("output", "the directory to be made, which must not exist"),
        subject=_SUBJECTS[act](table),
    )
    table.finish()
    return document


def _root(table: Table) -> RootCeremony:
    root = table.table("root", "a table [root] with key and life_days")
    found = RootCeremony(_subject_key(root), _life(root))
    if isinstance(found.key, RequestedKey):
        raise root.malformed("request", "is not possible for a root, which signs itself; state key")
    root.finish()
    return found


def _issuing(table: Table) -> IssuingCeremony:
    root = _signer(table, "root")
    authorities: list[NewAuthority] = []
    for row in table.tables("authority", "one [[authority]] or more, each with kind, key (or request) and life_days"):
        kind = row.word("kind", Kind, f"one of {', '.join(Kind)}")
        if any(kind is other.kind for other in authorities):
            raise row.malformed("kind", f"{kind} is there twice; a second CA of a kind needs a ceremony of its own")
        authorities.append(NewAuthority(kind, _subject_key(row), _life(row)))
        row.finish()
    return IssuingCeremony(root, tuple(authorities))


def _cross_sign(table: Table) -> CrossSigning:
    root = _signer(table, "root")
    issued_by = table.path("issued_by", "the certificate file of the root that issued these CAs")
    authorities = []
    for row in table.tables("authority", "one [[authority]] or more, each with certificate and life_days"):
        authorities.append(CrossSigned(row.path("certificate", "the certificate file of an issuing CA"), _life(row)))
        row.finish()
    return CrossSigning(root, issued_by, tuple(authorities))


def _lists(table: Table) -> ListCeremony:
    lists = []
    for row in table.tables("list", "one [[list]] or more, each with certificate, key, number and life_days"):
        signer = Signer(row.path("certificate", "the certificate file of the CA"), _signer_key(row))
        number = row.integer("number", 1, _HIGHEST_NUMBER)
        lists.append(NewList(signer, number, _previous(row, "number", number), _life(row), _revocations(row)))
        row.finish()
    return ListCeremony(tuple(lists))


def _bundle(table: Table) -> BundleCeremony:
    root = _signer(table, "root")
    sequence = table.integer("sequence", 1, _HIGHEST_NUMBER)
    roots = table.paths("roots", "an array of certificate files of roots, each once")
    return BundleCeremony(root, sequence, roots, _previous(table, "sequence", sequence))


_SUBJECTS: dict[Act, Callable[[Table], Subject]] = {
    Act.ROOT: _root,
    Act.ISSUING: _issuing,
    Act.CROSS_SIGN: _cross_sign,
    Act.REVOCATION_LISTS: _lists,
    Act.TRUST_BUNDLE: _bundle,
}


def _previous(table: Table, counter: str, number: int) -> Path | None:
    """The file before this one: without it nobody can see whether the number rises or a revocation got lost."""
    previous = table.optional_path("previous", "the file that this one replaces")
    if previous is None and number > 1:
        raise table.malformed("previous", f"is missing; only {counter} = 1 replaces no file")
    return previous


def _revocations(table: Table) -> tuple[Revocation, ...]:
    found = []
    rows = table.tables("revoked", "[[list.revoked]] tables, or absent") if table.has("revoked") else []
    for row in rows:
        if row.has("serial") == row.has("certificate"):
            raise row.malformed("serial", "must be stated, or certificate; one of them, not both")
        by_serial = row.has("serial")
        reason = row.word("reason", RevocationReason, f"one of {', '.join(RevocationReason)}")
        found.append(
            Revocation(
                row.word("serial", _serial, "the serial number in hexadecimal") if by_serial else None,
                None if by_serial else row.path("certificate", "the file of the certificate to revoke"),
                reason,
                row.instant("time"),
            )
        )
        row.finish()
    return tuple(found)


def _serial(text: str) -> int:
    digits = text.replace(":", "")
    if not _SERIAL.fullmatch(digits) or not 0 < int(digits, 16) < 1 << 159:
        raise ValueError("not a serial number")
    return int(digits, 16)


def _signer(table: Table, name: str) -> Signer:
    row = table.table(name, f"a table [{name}] with certificate and key")
    signer = Signer(row.path("certificate", "the certificate file of the CA that signs"), _signer_key(row))
    row.finish()
    return signer


def _signer_key(table: Table) -> SignerKey:
    key = _key(table)
    if isinstance(key, NewKeyFile) or (isinstance(key, KeyInToken) and key.generate):
        raise table.malformed("key.generate", "is not possible: the CA that signs has its key already")
    return key


def _subject_key(table: Table) -> SubjectKey:
    if not table.has("request"):
        return _key(table)
    if table.has("key"):
        raise table.malformed("request", "cannot stand beside key; state where the key is, or the request for it")
    return RequestedKey(table.path("request", "the file of a certificate signing request"))


def _key(table: Table) -> KeyFile | NewKeyFile | KeyInToken:
    key = table.table(
        "key", '{ file = "ca.key" }, { generate = true }, or { pkcs11 = { module, token_label, key_label, pin_file } }'
    )
    generate = key.flag("generate")
    found: KeyFile | NewKeyFile | KeyInToken
    if key.has("pkcs11"):
        found = _token(key.table("pkcs11", "a table with module, token_label, key_label and pin_file"), generate)
    else:
        passphrase_file = key.optional_path("passphrase_file", "a file of mode 0600 that holds the passphrase")
        if generate and key.has("file"):
            raise key.malformed("file", "cannot be named for a new key: it is written as ca.key beside its certificate")
        found = (
            NewKeyFile(passphrase_file)
            if generate
            else KeyFile(key.path("file", "the file of the key, or generate = true, or pkcs11"), passphrase_file)
        )
    key.finish()
    return found


def _token(table: Table, generate: bool) -> KeyInToken:
    where = TokenKey(
        table.path("module", "the library file of the hardware module").absolute(),
        table.text("token_label", "the label of the token"),
        table.text("key_label", "the label of the key in the token"),
    )
    token = KeyInToken(where, table.optional_path("pin_file", "a file of mode 0600 that holds the PIN"), generate)
    table.finish()
    return token


def _life(table: Table) -> Life:
    if table.has("life_days") == table.has("not_before"):
        raise table.malformed("life_days", "must be stated, or not_before and not_after; one of the two ways, not both")
    if table.has("life_days"):
        return Life(table.integer("life_days", 1, _LONGEST_LIFE_DAYS), None)
    begin, end = table.instant("not_before"), table.instant("not_after")
    if begin >= end:
        raise table.malformed("not_after", "must be later than not_before")
    return Life(None, Validity(begin, end))
