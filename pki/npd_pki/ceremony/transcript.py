"""The record of a ceremony for auditors: who, when, with which program, from what, what was signed and written."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cryptography
from cryptography.hazmat.backends.openssl import backend

from npd_pki.ceremony.document import Document
from npd_pki.ceremony.inputs import Inputs
from npd_pki.ceremony.products import Product
from npd_pki.description import fingerprint, line, moment

TRANSCRIPT_FILE = "transcript.txt"


@dataclass(frozen=True, slots=True)
class Occasion:
    """The circumstances of a run; the moments are those of the machine's clock."""

    document: Document
    inputs: Inputs
    began: datetime
    signed: datetime


def transcript(occasion: Occasion, products: tuple[Product, ...]) -> bytes:
    """The text. It holds neither key nor passphrase, and does not name the machine."""
    return "\n".join([*_circumstances(occasion), *_signed(products), *_written(products), ""]).encode()


def _circumstances(occasion: Occasion) -> Iterator[str]:
    document = occasion.document
    yield f"npd ceremony transcript v1: {document.act} of {document.environment}"
    yield ""
    for officer in document.officers:
        yield line("officer", officer)
    yield line("clock at the start", moment(occasion.began))
    yield line("clock when signed", moment(occasion.signed))
    yield line("ceremony file", f"{document.digest}  {document.file.name}")
    for name, digest in occasion.inputs.digests():
        yield line("read", f"{digest}  {name}")
    for name, value in programs():
        yield line(name, value)


def _signed(products: tuple[Product, ...]) -> Iterator[str]:
    for product in products:
        yield ""
        yield f"signed: {product.title}"
        yield from product.lines
        yield line("SHA-256 as signed", product.signed_digest)
        yield line("SHA-256", product.digest)


def _written(products: tuple[Product, ...]) -> Iterator[str]:
    yield ""
    yield "written: mode, SHA-256, file"
    for product in products:
        for file in product.files:
            yield f"  {file.mode:04o}  {fingerprint(file.content)}  {product.place / file.name}"


def programs() -> list[tuple[str, str]]:
    """What signed: versions, and the SHA-256 of this library's own files, so that an altered one is seen."""
    try:
        own = version("npd-pki")
    except PackageNotFoundError:
        own = "not installed as a package"
    return [
        ("npd-pki", own),
        ("npd-pki files", library_digest()),
        ("cryptography", f"{cryptography.__version__} ({backend.openssl_version_text()})"),
        ("Python", platform.python_version()),
    ]


def library_digest() -> str:
    """SHA-256 over the lines `<SHA-256>  <path>` of all Python files of this library, sorted by path."""
    root = Path(__file__).parents[1]
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    listed = (f"{fingerprint((root / name).read_bytes())}  {name}\n" for name in files)
    return sha256("".join(listed).encode()).hexdigest()
