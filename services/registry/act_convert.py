"""The issuer's acts, from the wire to the domain. Malformed input raises InvalidField, which names the act's field."""

from datetime import datetime
from typing import Any

from npd.registry.v1 import certificate_authority_pb2, policy_pb2
from services.mesh.core.authorities import Authority, AuthorityState
from services.mesh.core.caller import CallerKind, IdentityMalformed, SpiffeId
from services.mesh.core.errors import InvalidField
from services.mesh.wire.access import uuid_from_wire
from services.mesh.wire.payload import payload_hash
from services.registry import domain, formats
from services.registry.convert import instant_from_wire, revocation_reason_from_wire

_MAX_ACTS = 500


def acts_from_wire(
    wire: certificate_authority_pb2.RecordCertificateActsRequest, environment: str
) -> list[domain.CertificateAct]:
    """The acts, each once, in their order."""
    if not 1 <= len(wire.acts) <= _MAX_ACTS:
        raise InvalidField("acts", f"must be 1 to {_MAX_ACTS}")
    acts: dict[str, domain.CertificateAct] = {}
    for index, told in enumerate(wire.acts):
        act = _act_from_wire(f"acts[{index}]", told, environment)
        if acts.setdefault(act.act_id, act) != act:
            raise InvalidField(f"acts[{index}].act_id", "is the id of another act of this request")
    return list(acts.values())


def _act_from_wire(
    field: str, wire: certificate_authority_pb2.CertificateAct, environment: str
) -> domain.CertificateAct:
    return domain.CertificateAct(
        act_id=uuid_from_wire(wire.act_id, f"{field}.act_id"),
        digest=payload_hash(wire),
        method=formats.require_method(f"{field}.method", wire.method),
        actor=_actor(f"{field}.actor", wire.actor, environment),
        object=formats.require_act_object(f"{field}.object", wire.object),
        act_time=_required_time(field, wire, "act_time"),
        revocations=tuple(
            _revocation_from_wire(f"{field}.revoked_certificates[{index}]", revoked)
            for index, revoked in enumerate(wire.revoked_certificates)
        ),
        authority=_authority_from_wire(f"{field}.authority", wire.authority, environment)
        if wire.HasField("authority")
        else None,
    )


def _actor(field: str, identity: str, environment: str) -> str:
    try:
        is_ours = SpiffeId.parse(identity).environment == environment
    except IdentityMalformed:
        is_ours = False
    if not is_ours:
        raise InvalidField(field, "must be an identity of this environment")
    return identity


def _revocation_from_wire(field: str, wire: policy_pb2.RevokedCertificate) -> domain.Revocation:
    return domain.Revocation(
        formats.require_issuer_key_id(f"{field}.issuer_key_id", wire.issuer_key_id),
        formats.require_serial_number(f"{field}.serial_number", wire.serial_number),
        revocation_reason_from_wire(wire.reason, f"{field}.reason"),
        _required_time(field, wire, "revoke_time"),
        formats.require_issuer_key_id(f"{field}.key_id", wire.key_id) if wire.key_id else "",
    )


def _authority_from_wire(field: str, wire: policy_pb2.CertificateAuthority, environment: str) -> Authority:
    key_id = formats.require_issuer_key_id(f"{field}.key_id", wire.key_id)
    hosts = [f"{kind.value}.{environment}" for kind in (CallerKind.AGENCY, CallerKind.OPERATOR)]
    if wire.host not in hosts:
        raise InvalidField(f"{field}.host", f"must be {' or '.join(hosts)}")
    try:
        state = AuthorityState(wire.state)
    except ValueError:
        raise InvalidField(f"{field}.state", "must be a state of the contract") from None
    return Authority(key_id, wire.host, state, _required_time(field, wire, "state_time"))


def _required_time(field: str, message: Any, name: str) -> datetime:
    if not message.HasField(name):
        raise InvalidField(f"{field}.{name}", "is required")
    return instant_from_wire(f"{field}.{name}", getattr(message, name))
