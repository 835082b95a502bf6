"""The certificate by which a caller calls, from what TLS verified of this very connection."""

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from services.issuer.domain import Certificate, CertificateName, Profile
from services.mesh.core.caller import CertificateMissing, key_id
from services.mesh.wire.call import call_of, caller_of, presented_certificate


def held_certificate(context: grpc.ServicerContext) -> Certificate:
    """The certificate of a call, as this room would know it: the caller guard has judged it already.

    Raises CertificateMissing.
    """
    call, caller = call_of(context), caller_of(context)
    if call.leaf is None:
        raise CertificateMissing()
    presented = presented_certificate(call)
    return Certificate(
        name=CertificateName(call.leaf.issuer_key_id, call.leaf.serial_number),
        identity=caller.identity,
        agency_id=caller.agency_id,
        system_id=caller.system_id,
        profile=Profile.CLIENT_TLS,
        key_id=key_id(presented),
        start_time=call.leaf.valid_from_time,
        expire_time=call.leaf.expire_time,
        intent_time=call.leaf.valid_from_time,
        der=presented.public_bytes(Encoding.DER),
    )
