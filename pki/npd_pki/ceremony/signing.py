"""The acts: from what a ceremony says to what is signed. The same code rehearses with stand-ins and signs with keys."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from npd_pki.authority import CertificateAuthority, IssuingCA, RootCA, create_root, permitted_host
from npd_pki.ceremony.document import (
    CURVES,
    ROOT_PLACE,
    BundleCeremony,
    CrossSigning,
    Document,
    IssuingCeremony,
    Life,
    ListCeremony,
    NewAuthority,
    NewList,
    OwnKey,
    RequestedKey,
    Revocation,
    RootCeremony,
    Signer,
    SubjectKey,
)
from npd_pki.ceremony.errors import AlreadyRevoked, InputForeign, MomentUnfit
from npd_pki.ceremony.inputs import Inputs
from npd_pki.ceremony.keys import Keys
from npd_pki.ceremony.products import Product, bundle_product, certificate_product, list_product
from npd_pki.description import bundle_lines, moment, public_key_id
from npd_pki.errors import KeyUnacceptable, NumberWentBack
from npd_pki.files import PemFile
from npd_pki.identity import Kind
from npd_pki.issuance import issuer_key_id
from npd_pki.request import load_request, proven_public_key
from npd_pki.revocation_list import (
    RevokedEntry,
    build_revocation_list,
    entries_of,
    load_revocation_list,
    number_of,
    verify_revocation_list,
)
from npd_pki.signed_bundle import read_trust_bundle, sign_trust_bundle
from npd_pki.trust_bundle import is_issued_by, require_root
from npd_pki.validity import BACKDATING, Validity


def sign_all(document: Document, inputs: Inputs, keys: Keys, now: datetime) -> tuple[Product, ...]:
    """Build, lint and sign everything that a ceremony is for, in the order of its file.

    Raises InputUnreadable, InputForeign, MomentUnfit, AlreadyRevoked, NumberWentBack, and what the library raises.
    """
    match document.subject:
        case RootCeremony():
            return (_root(document, document.subject, keys, now),)
        case IssuingCeremony(signer, rows):
            root = _root_of(signer, inputs, keys, now)
            return _issuing(root, rows, inputs, keys, now)
        case CrossSigning():
            return _cross_signed(document.subject, inputs, keys, now)
        case ListCeremony(lists):
            return tuple(_list(row, inputs, keys, now) for row in lists)
        case BundleCeremony():
            return (_bundle(document.subject, inputs, keys, now),)


def _root(document: Document, ceremony: RootCeremony, keys: Keys, now: datetime) -> Product:
    own = _own(ceremony.key)
    key = keys.subject(ROOT_PLACE, own, CURVES[ROOT_PLACE])
    root = create_root(document.environment, key=key, validity=_validity(ceremony.life, now))
    return certificate_product("root", "", root.certificate, root.certificate, keys.kept(ROOT_PLACE, own))


def _issuing(
    root: RootCA, rows: Sequence[NewAuthority], inputs: Inputs, keys: Keys, now: datetime
) -> tuple[Product, ...]:
    subjects = [_subject(row, inputs, keys) for row in rows]
    if len({public_key_id(public_key) for public_key, _ in subjects}) != len(subjects):
        raise KeyUnacceptable("two CAs would have one key, and revocation lists in one place: give each its own")
    products = []
    for row, (public_key, kept) in zip(rows, subjects, strict=True):
        certificate = root.certify(row.kind, public_key, validity=_validity(row.life, now))
        products.append(certificate_product(f"{row.kind} CA", row.kind, certificate, root.certificate, kept))
    return tuple(products)


def _subject(row: NewAuthority, inputs: Inputs, keys: Keys) -> tuple[PublicKeyTypes, tuple[PemFile, ...]]:
    """The public key to certify, whose holder has or proves to have the private half, and what is kept of it."""
    if isinstance(row.key, RequestedKey):
        return proven_public_key(load_request(inputs.read(row.key.request))), ()
    return keys.subject(row.kind, row.key, CURVES[row.kind]).public_key(), keys.kept(row.kind, row.key)


def _cross_signed(ceremony: CrossSigning, inputs: Inputs, keys: Keys, now: datetime) -> tuple[Product, ...]:
    root = _root_of(ceremony.root, inputs, keys, now)
    other = require_root(inputs.authority(ceremony.issued_by))
    products: list[Product] = []
    for row in ceremony.authorities:
        existing = inputs.authority(row.certificate)
        if not is_issued_by(existing, other):
            raise InputForeign(f"{inputs.name(row.certificate)} was not issued by {inputs.name(ceremony.issued_by)}")
        certificate = root.cross_certify(existing, validity=_validity(row.life, now))
        kind = Kind(permitted_host(certificate).partition(".")[0])
        if any(product.place.name == kind for product in products):
            raise InputForeign(f"two of the certificates are of a {kind} CA; the second needs a ceremony of its own")
        products.append(certificate_product(f"{kind} CA under a further root", kind, certificate, root.certificate))
    return tuple(products)


def _list(row: NewList, inputs: Inputs, keys: Keys, now: datetime) -> Product:
    authority = _authority_of(row.signer, inputs, keys, now)
    entries = _carried_over(row, authority, inputs)
    for revocation in row.revoked:
        entry = _entry(revocation, authority, inputs, now)
        if any(entry.serial == other.serial for other in entries):
            raise AlreadyRevoked(f"certificate {entry.serial:x} is revoked already: take it out of the file")
        entries.append(entry)
    validity = _validity(row.life, now)
    begin = validity.not_before + BACKDATING
    signed = build_revocation_list(authority, row.number, entries, now=begin, life=validity.not_after - begin)
    title = f"revocation list {row.number} of {inputs.name(row.signer.certificate)}"
    return list_product(title, signed, authority, is_exact=row.life.stated is not None)


def _carried_over(row: NewList, authority: CertificateAuthority, inputs: Inputs) -> list[RevokedEntry]:
    """What the previous list of this CA revokes, which the next cannot take back."""
    if row.previous is None:
        return []
    previous = load_revocation_list(inputs.read(row.previous))
    verify_revocation_list(previous, authority.certificate)
    if number_of(previous) >= row.number:
        raise NumberWentBack(
            f"the list in {inputs.name(row.previous)} has number {number_of(previous)}, and the next one has a higher, "
            f"not {row.number}: find the last list that was published, then correct number and previous"
        )
    return list(entries_of(previous))


def _entry(revocation: Revocation, authority: CertificateAuthority, inputs: Inputs, now: datetime) -> RevokedEntry:
    serial = revocation.serial
    if revocation.certificate is not None:
        certificate = inputs.certificate(revocation.certificate)
        if not is_issued_by(certificate, authority.certificate):
            raise InputForeign(f"{inputs.name(revocation.certificate)} was not issued by the CA of this list")
        serial = certificate.serial_number
    if serial is None:
        raise AssertionError("the reading of the file lets no revocation pass that names no certificate")
    if revocation.revoke_time > now:
        raise MomentUnfit(f"the revocation of {serial:x} is dated {revocation.revoke_time}, after this machine's clock")
    return RevokedEntry(serial, revocation.revoke_time, revocation.reason)


def _bundle(ceremony: BundleCeremony, inputs: Inputs, keys: Keys, now: datetime) -> Product:
    root = _root_of(ceremony.root, inputs, keys, now)
    roots = tuple(map(inputs.authority, ceremony.roots))
    if ceremony.previous is not None:
        _require_succession(ceremony.previous, ceremony.sequence, root, roots, inputs)
    content = sign_trust_bundle(root, ceremony.sequence, roots)
    lines = bundle_lines(root.environment, ceremony.sequence, roots)
    return bundle_product(f"trust bundle {ceremony.sequence}", content, root.certificate, tuple(lines))


def _require_succession(
    path: Path, sequence: int, root: RootCA, roots: Sequence[x509.Certificate], inputs: Inputs
) -> None:
    """Whoever has the bundle before takes this one: its sequence is lower, and it introduced the root that signs now.

    It may have been signed by a root that nobody trusts any more, so the roots that it holds vouch for it too.
    """
    name = inputs.name(path)
    previous = read_trust_bundle(inputs.read(path), [*inputs.certificates(path), *roots, root.certificate])
    if previous.sequence >= sequence:
        raise NumberWentBack(
            f"the bundle in {name} has sequence {previous.sequence}, and the next one has a higher, not {sequence}"
        )
    if root.key_id not in map(issuer_key_id, previous.roots):
        raise InputForeign(
            f"whoever has the bundle in {name} does not trust the root that signs: take one that it holds"
        )


def _root_of(signer: Signer, inputs: Inputs, keys: Keys, now: datetime) -> RootCA:
    certificate = _certificate_of(signer, inputs, now)
    return RootCA(certificate, keys.signer(signer.key, certificate))


def _certificate_of(signer: Signer, inputs: Inputs, now: datetime) -> x509.Certificate:
    """The certificate of who signs. Raises MomentUnfit for one that is not valid now."""
    certificate = inputs.authority(signer.certificate)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        raise MomentUnfit(
            f"{inputs.name(signer.certificate)} is valid from {moment(begin)} until {moment(end)}, and this machine's "
            f"clock says {moment(now)}: correct the clock, or sign with the CA that took its place"
        )
    return certificate


def _authority_of(signer: Signer, inputs: Inputs, keys: Keys, now: datetime) -> CertificateAuthority:
    certificate = _certificate_of(signer, inputs, now)
    key = keys.signer(signer.key, certificate)
    return RootCA(certificate, key) if is_issued_by(certificate, certificate) else IssuingCA(certificate, key)


def _own(key: SubjectKey) -> OwnKey:
    if isinstance(key, RequestedKey):
        raise AssertionError("the reading of the file lets no root pass that is asked for by a request")
    return key


def _validity(life: Life, now: datetime) -> Validity:
    """The validity of what is signed now. Raises MomentUnfit for one that has ended."""
    validity = life.validity(now)
    if validity.not_after <= now:
        raise MomentUnfit(
            f"not_after is {validity.not_after}, and this machine's clock says {now}: correct one of them"
        )
    return validity
