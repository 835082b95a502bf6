"""What the file of a ceremony says: what is to be signed, by which key, for how long. `reading` makes it of TOML.

Every path counts from the directory of the file. `pki/ceremonies/` holds an example of each kind, with comments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from npd_pki.identity import Kind
from npd_pki.pkcs11 import TokenKey
from npd_pki.revocation_list import RevocationReason
from npd_pki.validity import Validity


class Act(StrEnum):
    """What sort of ceremony a file is for."""

    ROOT = "root"
    ISSUING = "issuing"
    CROSS_SIGN = "cross-sign"
    REVOCATION_LISTS = "crl"
    TRUST_BUNDLE = "trust-bundle"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key in a file that exists. Without `passphrase_file` whoever runs the ceremony is asked."""

    file: Path
    passphrase_file: Path | None


@dataclass(frozen=True, slots=True)
class NewKeyFile:
    """A key to be generated, and written as `ca.key` beside its certificate."""

    passphrase_file: Path | None


@dataclass(frozen=True, slots=True)
class KeyInToken:
    """A key that stays in a hardware module, there already or to be generated there. Without `pin_file` he is asked."""

    where: TokenKey
    pin_file: Path | None
    generate: bool


@dataclass(frozen=True, slots=True)
class RequestedKey:
    """A key that somebody else keeps, who proves with a signing request that he has it."""

    request: Path


ROOT_PLACE = "root"
"""What the root's own key is for, where an issuing CA has its kind."""

CURVES: Mapping[str, ec.EllipticCurve] = MappingProxyType(
    {ROOT_PLACE: ec.SECP384R1(), **{kind: ec.SECP256R1() for kind in Kind}}
)
"""The curve of each CA's key (DESIGN.md part 5); one that comes with a request may be on P-384 too."""

SignerKey: TypeAlias = KeyFile | KeyInToken
OwnKey: TypeAlias = KeyFile | NewKeyFile | KeyInToken
SubjectKey: TypeAlias = OwnKey | RequestedKey


@dataclass(frozen=True, slots=True)
class Signer:
    """A CA that exists: its certificate, and where its key is."""

    certificate: Path
    key: SignerKey


@dataclass(frozen=True, slots=True)
class Life:
    """How long something is valid: a number of days from the run, or the two moments that were reviewed."""

    days: int | None
    stated: Validity | None

    def validity(self, now: datetime) -> Validity:
        """The validity of what is signed now."""
        return self.stated or Validity.lasting(timedelta(days=self.days or 0), now)


@dataclass(frozen=True, slots=True)
class RootCeremony:
    """A new root of an environment."""

    key: SubjectKey
    life: Life


@dataclass(frozen=True, slots=True)
class NewAuthority:
    """One issuing CA to be certified."""

    kind: Kind
    key: SubjectKey
    life: Life


@dataclass(frozen=True, slots=True)
class IssuingCeremony:
    """Issuing CAs to be certified by a root; each kind once."""

    root: Signer
    authorities: tuple[NewAuthority, ...]


@dataclass(frozen=True, slots=True)
class CrossSigned:
    """An issuing CA that exists, to be certified by a further root."""

    certificate: Path
    life: Life


@dataclass(frozen=True, slots=True)
class CrossSigning:
    """Issuing CAs of another root, whose certificate is stated so that nobody's CA slips in."""

    root: Signer
    issued_by: Path
    authorities: tuple[CrossSigned, ...]


@dataclass(frozen=True, slots=True)
class Revocation:
    """One certificate to be revoked: by its serial number, or by the file that holds it."""

    serial: int | None
    certificate: Path | None
    reason: RevocationReason
    revoke_time: datetime


@dataclass(frozen=True, slots=True)
class NewList:
    """The next revocation list of a CA: everything on the previous list stays, `revoked` is added."""

    signer: Signer
    number: int
    previous: Path | None
    life: Life
    revoked: tuple[Revocation, ...]


@dataclass(frozen=True, slots=True)
class ListCeremony:
    """Revocation lists to be signed, each by its own CA."""

    lists: tuple[NewList, ...]


@dataclass(frozen=True, slots=True)
class BundleCeremony:
    """The roots that everybody is to trust from now on, signed by one that is trusted already."""

    root: Signer
    sequence: int
    roots: tuple[Path, ...]
    previous: Path | None


Subject: TypeAlias = RootCeremony | IssuingCeremony | CrossSigning | ListCeremony | BundleCeremony


@dataclass(frozen=True, slots=True)
class Document:
    """A ceremony as reviewed. `digest` is the SHA-256 of the file's bytes, `output` the directory to be made."""

    file: Path
    digest: str
    act: Act
    environment: str
    officers: tuple[str, ...]
    output: Path
    subject: Subject

    @property
    def signers(self) -> tuple[Signer, ...]:
        """The CAs that exist and sign in this ceremony, each once."""
        match self.subject:
            case RootCeremony():
                return ()
            case ListCeremony(lists):
                return tuple(dict.fromkeys(one.signer for one in lists))
            case IssuingCeremony() | CrossSigning() | BundleCeremony():
                return (self.subject.root,)

    @property
    def subject_keys(self) -> dict[str, OwnKey]:
        """The keys to be certified that this ceremony opens or makes, by what they are for."""
        match self.subject:
            case RootCeremony(key) if not isinstance(key, RequestedKey):
                return {ROOT_PLACE: key}
            case IssuingCeremony(_, rows):
                return {row.kind: row.key for row in rows if not isinstance(row.key, RequestedKey)}
        return {}
