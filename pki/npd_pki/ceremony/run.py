"""A ceremony, from its file to the directory that it makes: rehearsed, confirmed, signed, written whole or not."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from npd_pki.ceremony.document import CURVES, Document
from npd_pki.ceremony.errors import InputUnreadable, NotConfirmed, OutputAmbiguous
from npd_pki.ceremony.inputs import Inputs
from npd_pki.ceremony.keys import Passphrases, RealKeys, StandIns, where_key_is
from npd_pki.ceremony.products import Product, require_usable
from npd_pki.ceremony.signing import sign_all
from npd_pki.ceremony.transcript import TRANSCRIPT_FILE, Occasion, transcript
from npd_pki.description import fingerprint
from npd_pki.files import PUBLIC, PemFile, force_directory, replace_files, require_absent
from npd_pki.keys import key_id

Tell = Callable[[str], None]
"""Says in one line what was done."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a run would sign. `marks` stand in the lines for what is known only once it is made."""

    document: Document
    inputs: Inputs
    products: tuple[Product, ...]
    marks: dict[str, str]
    now: datetime

    def lines(self, product: Product) -> list[str]:
        """What is known of a product, in lines."""
        found = []
        for text in product.lines:
            for value, mark in {**self.marks, **product.drawn}.items():
                text = text.replace(value, mark)
            found.append(text)
        return found


def rehearse(document: Document, now: datetime) -> Rehearsal:
    """Build and lint everything with stand-ins for all keys: opens no key, asks for no passphrase, writes nothing.

    Raises OutputExists, OutputAmbiguous, InputUnreadable, and what `sign_all` raises.
    """
    require_absent(document.output)
    if not document.output.parent.is_dir():
        raise InputUnreadable(f"there is no directory {document.output.parent} to write into: make it first")
    inputs, stand_ins = Inputs(document.file.parent, document.environment), StandIns()
    products = sign_all(document, inputs, stand_ins, now)
    _require_apart(products)
    return Rehearsal(document, inputs, products, stand_ins.marks, now)


def run(rehearsal: Rehearsal, passphrases: Passphrases, confirm: Callable[[], bool], tell: Tell) -> Path:
    """Do what was rehearsed, and return the directory that was made.

    1. Open every key that exists: one that cannot be used stops the ceremony before anything is signed.
    2. Ask whoever is there.
    3. Make the new keys, and sign; each object is linted once more before its key touches it.
    4. Every signature verifies.
    5. Write everything, the transcript included, beside the output; then rename it into its place.
    Raises NotConfirmed, SignatureUnusable, OutputExists, OSError, and what opening and signing raise.
    """
    document, began = rehearsal.document, datetime.now(UTC)
    with _staged(document.output) as staged:
        keys = _opened(rehearsal, RealKeys(passphrases), tell)  # (1)
        if not confirm():  # (2)
            raise NotConfirmed("the plan was not confirmed: nothing was signed, nothing written")
        for purpose, key in document.subject_keys.items():  # (3)
            made = keys.make_subject(purpose, key, CURVES[purpose])
            tell(f"{purpose}: {where_key_is(key)}: key id {key_id(made.public_key())}")
        products = sign_all(document, rehearsal.inputs, keys, rehearsal.now)
        for product in products:
            require_usable(product)  # (4)
            tell(f"signed {product.title}: SHA-256 {product.digest}")
        written = transcript(Occasion(document, rehearsal.inputs, began, datetime.now(UTC)), products)
        _write(staged, products, PemFile(TRANSCRIPT_FILE, written, PUBLIC))  # (5)
        require_absent(document.output)
        staged.rename(document.output)
        force_directory(staged.parent)
    tell(f"wrote {document.output}")
    tell(f"{TRANSCRIPT_FILE}: SHA-256 {fingerprint(written)}; write this into the minutes")
    return document.output


def _opened(rehearsal: Rehearsal, keys: RealKeys, tell: Tell) -> RealKeys:
    document = rehearsal.document
    for signer in document.signers:
        certificate = rehearsal.inputs.authority(signer.certificate)
        keys.open_signer(signer.key, certificate)
        tell(f"opened the {where_key_is(signer.key)} of {certificate.subject.rfc4514_string()}")
    for purpose, key in document.subject_keys.items():
        keys.prepare_subject(purpose, key, CURVES[purpose])
    return keys


def _require_apart(products: tuple[Product, ...]) -> None:
    places = [product.place / file.name for product in products for file in product.files]
    for place in places:
        if places.count(place) > 1:
            raise OutputAmbiguous(f"the file would write {place} twice: split it into two ceremonies")


@contextmanager
def _staged(output: Path) -> Iterator[Path]:
    """A directory beside the output, which only its owner may enter, for as long as its content is not complete.

    A process that is killed leaves it behind, hidden, and no output.
    """
    staged = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.absolute().parent))
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write(directory: Path, products: tuple[Product, ...], written: PemFile) -> None:
    for product in products:
        place = directory / product.place
        place.mkdir(mode=0o700, exist_ok=True)
        replace_files(place, product.files)
    replace_files(directory, [written])
