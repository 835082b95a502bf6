"""Says what is wrong with a certificate, in the order in which it is to be cured. Pure: no wire, no store, no clock.

What a certificate claims is shown as its claim; what the mesh knows of its holder is told only if its chain verifies.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from npd_pki.profile import DOCUMENT_SIGNING
from npd_pki.trust_bundle import is_authority, is_issued_by
from services.issuer.domain import Authority, CertificateMalformed
from services.issuer.findings import Explanation, Fact, Finding, Found, Phrase, explain
from services.mesh.core.authorities import AuthorityState, RevocationReason
from services.mesh.core.caller import CallerKind, IdentityMalformed, Leaf, SpiffeId, read_leaf
from services.mesh.core.rights import OperatorUnknown, Policy, State

__all__ = ["Explanation", "Finding", "Found", "diagnose", "explain"]

LARGEST = 32 << 10
"""Bytes of a chain that are looked at."""
_PRESENTED = 5
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion)


def diagnose(
    chain_pem: bytes,
    *,
    roots: Sequence[x509.Certificate],
    authorities: Iterable[Authority],
    environment: str,
    policy: Policy,
    now: datetime,
) -> list[Found]:
    """What is wrong with the first certificate of a chain, to be cured in this order; ACCEPTED alone if nothing is.

    `authorities` are those that this room knows: one of them is found even if it was not presented.

    1. A CA's certificate is no caller's.
    2. The issuer is who signed the certificate and is signed by a root of ours; without one there is nothing to believe
       in it, and only its own claims are shown.
    3. What only a new certificate cures, what a renewal does, what the file does, what the registry does.

    Raises CertificateMalformed.
    """
    leaf, presented = _read(chain_pem)
    try:
        if is_authority(leaf):  # (1)
            return [Found(Finding.IS_AUTHORITY, {"subject": leaf.subject.rfc4514_string()})]
        known = [x509.load_der_x509_certificate(one.certificate) for one in authorities]
        ours = [one for one in (*presented, *known) if is_authority(one) and _root_of(one, roots) is not None]
        issuer = next((one for one in ours if is_issued_by(leaf, one)), None)  # (2)
        if issuer is None:
            return _unverified(leaf, [*presented, *known], ours, roots, environment)
        seen = _Seen(leaf, read_leaf(leaf, [issuer], roots), issuer, issuer in presented, environment, policy, now)
    except _UNREADABLE as error:
        raise CertificateMalformed() from error
    found = [*_for_good(seen), *_renewable(seen), *_in_the_file(seen), *_in_the_registry(seen)]  # (3)
    return found or [_accepted(seen)]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A certificate whose chain verifies, and by what it is judged."""

    certificate: x509.Certificate
    leaf: Leaf
    issuer: x509.Certificate
    is_whole: bool
    environment: str
    policy: Policy
    now: datetime

    @property
    def identity(self) -> SpiffeId | None:
        """What it names; None if that is not one strict identity."""
        try:
            return self.leaf.only_identity()
        except IdentityMalformed:
            return None

    @property
    def shown(self) -> dict[str, str]:
        """Names for sentences."""
        named = str(self.identity or " ".join(self.leaf.uris) or "-")
        return {"identity": named, "issuer": self.issuer.subject.rfc4514_string()}


def _read(chain_pem: bytes) -> tuple[x509.Certificate, list[x509.Certificate]]:
    if len(chain_pem) > LARGEST:
        raise CertificateMalformed()
    try:
        leaf, *presented = x509.load_pem_x509_certificates(chain_pem)
        for one in (leaf, *presented):  # what is broken deeper shows itself only when it is looked at
            _ = one.extensions, one.public_key(), one.subject.rfc4514_string(), one.issuer.rfc4514_string()
    except _UNREADABLE as error:
        raise CertificateMalformed() from error
    return leaf, presented[:_PRESENTED]


def _unverified(
    leaf: x509.Certificate,
    candidates: Sequence[x509.Certificate],
    ours: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    environment: str,
) -> list[Found]:
    """No CA of ours signed it: it was altered, or is somebody else's, or its issuer is not known here."""
    issuer = {"issuer": leaf.issuer.rfc4514_string()}
    if any(_claims(leaf, one) for one in ours):
        return [Found(Finding.SIGNATURE_INVALID, issuer)]
    broken = [one for one in candidates if one not in ours and any(_claims(one, root) for root in roots)]
    if any(is_issued_by(leaf, one) for one in broken):
        return [Found(Finding.SIGNATURE_INVALID, {"issuer": broken[0].issuer.rfc4514_string()})]
    claimed, is_complete = _claimed(leaf), any(is_issued_by(leaf, one) for one in candidates)
    if claimed is not None and claimed.environment != environment:
        facts: dict[str, Fact] = {"foreign": claimed.environment, "environment": environment}
        foreign = [Found(Finding.ENVIRONMENT_FOREIGN, facts)]
    elif claimed is not None and claimed.kind is CallerKind.ROOM and not is_complete:
        return [Found(Finding.INTERMEDIATE_MISSING, issuer)]  # the CA of rooms is none of those that are known here
    else:
        foreign = []
    return [*foreign, Found(Finding.ROOT_FOREIGN, {**issuer, "environment": environment})]


def _for_good(seen: _Seen) -> list[Found]:
    """What only another certificate cures."""
    found, leaf, identity = [], seen.leaf, seen.identity
    if identity is None:
        found.append(Found(Finding.IDENTITY_MALFORMED, {"named": _named(leaf.uris), "environment": seen.environment}))
    elif identity.environment != seen.environment:
        found.append(
            Found(Finding.ENVIRONMENT_FOREIGN, {"foreign": identity.environment, "environment": seen.environment})
        )
    elif leaf.issuer_hosts != (identity.host,):
        hosts = ", ".join(leaf.issuer_hosts) or "-"
        found.append(Found(Finding.ISSUER_NOT_ENTITLED, {**seen.shown, "hosts": hosts}))
    if not leaf.is_tls_client:
        found.append(Found(Finding.USAGE, {"usage": Phrase(_use_of(seen.certificate), {})}))
    revoked = seen.policy.revocation_of(leaf.issuer_key_id, leaf.serial_number)
    if revoked is not None:
        facts: dict[str, Fact] = {
            **seen.shown,
            "revoke_time": revoked.revoke_time,
            "reason": Phrase(_reason(revoked.reason), {}),
        }
        found.append(Found(Finding.REVOKED, facts))
    state = _given_up(seen)
    if state is not None:
        found.append(Found(Finding.AUTHORITY_GIVEN_UP, {**seen.shown, "state": state}))
    if seen.now >= leaf.issuer_expire_time:
        end = leaf.issuer_expire_time
        found.append(Found(Finding.ISSUER_EXPIRED, {**seen.shown, "expire_time": end, "ago": seen.now - end}))
    return found


def _renewable(seen: _Seen) -> list[Found]:
    leaf, now = seen.leaf, seen.now
    if now >= leaf.expire_time:
        return [Found(Finding.EXPIRED, {"expire_time": leaf.expire_time, "ago": now - leaf.expire_time})]
    if now < leaf.valid_from_time:
        facts: dict[str, Fact] = {"start_time": leaf.valid_from_time, "ahead": leaf.valid_from_time - now, "now": now}
        return [Found(Finding.NOT_YET_VALID, facts)]
    return []


def _in_the_file(seen: _Seen) -> list[Found]:
    return [] if seen.is_whole else [Found(Finding.INTERMEDIATE_MISSING, {"issuer": seen.shown["issuer"]})]


def _in_the_registry(seen: _Seen) -> list[Found]:
    identity, policy = seen.identity, seen.policy
    if identity is None or identity.environment != seen.environment:
        return []
    if identity.kind is CallerKind.OPERATOR:
        try:
            policy.require_operator(identity.path[0])
        except OperatorUnknown:
            return [Found(Finding.OPERATOR_UNKNOWN, {})]
    if identity.kind is CallerKind.AGENCY:
        name = "/".join(identity.path)
        system = policy.systems.get((identity.path[0], identity.path[1]))
        if system is None:
            return [Found(Finding.SYSTEM_UNKNOWN, {"system": name})]
        if system.state is not State.ACTIVE:
            return [Found(Finding.SYSTEM_SUSPENDED, {"system": name, "suspend_time": system.state_time})]
    return []


def _accepted(seen: _Seen) -> Found:
    authority = seen.policy.authorities.get(seen.leaf.issuer_key_id)
    if authority is not None and authority.state is AuthorityState.TAINTED:
        return Found(Finding.RENEW_NOW, dict(seen.shown))
    return Found(Finding.ACCEPTED, {**seen.shown, "expire_time": seen.leaf.expire_time})


def _given_up(seen: _Seen) -> Phrase | None:
    """How the issuing CA was given up, if it was; as `identify` judges it. A room needs its chain alone."""
    leaf, identity, policy = seen.leaf, seen.identity, seen.policy
    revoked = policy.revocation_of(leaf.root_key_id, leaf.issuer_serial_number)
    if revoked is not None:
        return Phrase("AUTHORITY_REVOKED", {"state_time": revoked.revoke_time})
    if identity is None or identity.kind is CallerKind.ROOM or identity.host not in policy.governed_hosts:
        return None
    authority = policy.authority(leaf.issuer_key_id)
    if authority is None or authority.host != identity.host:
        return Phrase("AUTHORITY_NOT_NAMED", {})
    if authority.state in (AuthorityState.REVOKED, AuthorityState.RETIRED):
        return Phrase(f"AUTHORITY_{authority.state.name}", {"state_time": authority.state_time})
    return None


def _named(uris: Sequence[str]) -> Phrase:
    if not uris:
        return Phrase("NO_IDENTITY", {})
    return (
        Phrase("SEVERAL_IDENTITIES", {"count": len(uris)}) if uris[1:] else Phrase("LOOSE_IDENTITY", {"uri": uris[0]})
    )


def _reason(number: int) -> str:
    try:
        return RevocationReason(number).name
    except ValueError:  # of a newer release
        return RevocationReason.PRIVILEGE_WITHDRAWN.name


def _use_of(certificate: x509.Certificate) -> str:
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "USE_OTHER"
    if DOCUMENT_SIGNING in purposes:
        return "USE_SIGNING"
    return "USE_SERVER" if ExtendedKeyUsageOID.SERVER_AUTH in purposes else "USE_OTHER"


def _root_of(issuer: x509.Certificate, roots: Sequence[x509.Certificate]) -> x509.Certificate | None:
    return next((root for root in roots if is_issued_by(issuer, root)), None)


def _claims(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether a certificate says that it is issued by just this one, by name and, if it says which, by key."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        said = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return True
    return said is None or said == own


def _claimed(certificate: x509.Certificate) -> SpiffeId | None:
    """The first identity that a certificate claims, whoever signed it."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return SpiffeId.parse(names.get_values_for_type(x509.UniformResourceIdentifier)[0])
    except (x509.ExtensionNotFound, IdentityMalformed, IndexError):
        return None
