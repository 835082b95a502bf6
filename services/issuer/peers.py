"""The registry, as this room calls it: it records what was done here, and spreads what that changes in the policy."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final
from uuid import NAMESPACE_URL, uuid5

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from npd.registry.v1 import certificate_authority_pb2, certificate_authority_pb2_grpc, policy_pb2
from services.issuer.domain import REGISTRY, Authority, CertificateAct, Revocation
from services.mesh.core.chain import Causation
from services.mesh.core.outbox import Fate, Message
from services.mesh.wire.peer import call_peer

ACT: Final = "certificate_act"
_MOST, _LARGEST = 500, 512 << 10


class Registry:
    """A typed client of npd.registry.v1.CertificateActService."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._acts = certificate_authority_pb2_grpc.CertificateActServiceStub(channel)

    def record_acts(self, messages: Sequence[Message]) -> list[Fate]:
        """Deliver acts in their order, as many at once as the registry takes, which records all of them or none.

        Raises PeerUnavailable, and PeerRefused for a bad one among them: the relay then looks into them one by one.
        """
        for portion in _portions(messages):
            acts = [certificate_authority_pb2.CertificateAct.FromString(one.payload) for one in portion]
            request = certificate_authority_pb2.RecordCertificateActsRequest(acts=acts)
            call_peer(REGISTRY, self._acts.RecordCertificateActs, request)
        return [Fate() for _ in messages]


def message(act: CertificateAct) -> Message:
    """The message that tells of an act. Acts of one certificate or authority leave in their order."""
    wire = certificate_authority_pb2.CertificateAct(
        act_id=str(act.act_id),
        method=act.method,
        actor=act.actor,
        object=act.object,
        act_time=_instant(act.act_time),
        revoked_certificates=map(_revoked, act.revoked),
        authority=_authority(act.authority) if act.authority else None,
    )
    subject = act.subject
    if act.authority is not None:
        subject = f"authority {act.authority.key_id}"
    elif len(act.revoked) == 1:
        subject = str(act.revoked[0].name)
    subject_id = uuid5(NAMESPACE_URL, f"{ACT}/{subject}")
    causation = Causation(act.act_id, act.act_id)
    return Message(act.act_id, REGISTRY, ACT, subject_id, wire.SerializeToString(deterministic=True), causation)


def _portions(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """At most 500 acts each, and well below the largest request that a room takes; a single act always is."""
    portion: list[Message] = []
    size = 0
    for message in messages:
        if portion and (len(portion) == _MOST or size + len(message.payload) > _LARGEST):
            yield portion
            portion, size = [], 0
        portion.append(message)
        size += len(message.payload)
    if portion:
        yield portion


def _revoked(revocation: Revocation) -> policy_pb2.RevokedCertificate:
    return policy_pb2.RevokedCertificate(
        issuer_key_id=revocation.name.issuer_key_id,
        serial_number=revocation.name.serial_number,
        revoke_time=_instant(revocation.revoke_time),
        reason=revocation.reason.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        key_id=revocation.key_id,
    )


def _authority(authority: Authority) -> policy_pb2.CertificateAuthority:
    return policy_pb2.CertificateAuthority(
        key_id=authority.key_id,
        host=authority.host,
        state=authority.state.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        state_time=_instant(authority.state_time),
    )


def _instant(moment: datetime) -> Timestamp:
    wire = Timestamp()
    wire.FromDatetime(moment)
    return wire
