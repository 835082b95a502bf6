"""Authorities, onto the wire."""

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd.issuer.v1 import authority_pb2
from npd.registry.v1 import policy_pb2
from services.issuer.convert.certificates import instant
from services.issuer.domain import AuthorityMoved, AuthorityShown


def authority_to_wire(shown: AuthorityShown) -> authority_pb2.Authority:
    """An authority; without a state if its files lie ready and it was not prepared."""
    one = shown.authority
    certificate = x509.load_der_x509_certificate(one.certificate)
    state = one.state.value if shown.is_prepared else policy_pb2.AUTHORITY_STATE_UNSPECIFIED
    return authority_pb2.Authority(
        key_id=one.key_id,
        host=one.host,
        state=state,  # type: ignore[arg-type]  # a test holds the numbers equal
        state_time=instant(one.state_time if shown.is_prepared else None),
        expire_time=instant(one.expire_time),
        subject=certificate.subject.rfc4514_string(),
        unexpired_count=shown.unexpired_count,
        has_key=shown.has_key,
        unacknowledged_rooms=shown.unacknowledged_rooms,
        certificate=certificate.public_bytes(Encoding.PEM),
    )


def authorities_to_wire(shown: Iterable[AuthorityShown]) -> authority_pb2.ListAuthoritiesResponse:
    """All authorities."""
    return authority_pb2.ListAuthoritiesResponse(authorities=map(authority_to_wire, shown))


def activated_to_wire(moved: AuthorityMoved) -> authority_pb2.ActivateAuthorityResponse:
    """An authority that issues now, and the one that did before."""
    former = authority_to_wire(moved.former) if moved.former else None
    return authority_pb2.ActivateAuthorityResponse(authority=authority_to_wire(moved.authority), former=former)


def force_revoked_to_wire(moved: AuthorityMoved) -> authority_pb2.ForceRevokeAuthorityResponse:
    """An authority that was revoked with its leaves."""
    return authority_pb2.ForceRevokeAuthorityResponse(
        authority=authority_to_wire(moved.authority), revoked_count=moved.revoked_count
    )
