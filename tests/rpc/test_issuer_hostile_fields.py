"""Hostile text and bytes in every field of every method of the issuer: refused or harmless, never a fault of ours."""

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from npd.issuer.v1 import authority_pb2, certificate_pb2, door_pb2, enrolment_pb2
from npd_pki.identity import Kind
from tests.issuer_fixture import IssuerScene, csr_for, outcome, p256_key, uri_of
from tests.mesh_fixture import Desk, Running, Stage, new_id

TEXTS = ["\0", "a\0b", "\u00e9\u202e", "'; --", "A" * 60_000, "-1", "spiffe://", "9" * 40, "MjAyNgpiCmM="]
BYTES = [b"\0", b"-----BEGIN CERTIFICATE-----\n", b"\xff" * 60_000]
NUMBERS = [-(2**31), -1, 99, 2**31 - 1]


@pytest.fixture(scope="module")
def scene(stage: Stage, registry: Running, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> IssuerScene:
    desk.register("tax/core")
    return IssuerScene(stage, registry, desk, tmp_path_factory.mktemp("issuer"))


def methods() -> Iterator[MethodDescriptor]:
    for module in (authority_pb2, certificate_pb2, door_pb2, enrolment_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def sound(scene: IssuerScene, method: MethodDescriptor) -> Message:
    """A request that every field's format lets pass."""
    texts = {
        "request_id": new_id(),
        "agency_id": "tax",
        "system_id": "core",
        "identity": uri_of("tax/core"),
        "application_id": new_id(),
        "enrolment_id": new_id(),
        "key_id": "0" * 64,
        "issuer_key_id": "0" * 64,
        "serial_number": "4711",
        "token": "unknown",
        "csr": csr_for(p256_key()),
        "certificate_chain": scene.hierarchy.agency.certificate.public_bytes(Encoding.PEM),
        "signature": b"s",
        "token_digest": b"d" * 32,
        "profile": 1,
        "reason": 3,
    }
    request = GetMessageClass(method.input_type)()
    for field in method.input_type.fields:
        if field.name in texts and field.containing_oneof is None:
            setattr(request, field.name, texts[field.name])
    return request


def hostile(field: FieldDescriptor) -> list[Any]:
    """Values for a field; of a Timestamp or Duration seconds and nanoseconds."""
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return TEXTS
        case FieldDescriptor.TYPE_BYTES:
            return BYTES
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_ENUM:
            return NUMBERS
        case FieldDescriptor.TYPE_MESSAGE:
            return [(-(2**62), 0), (2**62, 0), (1, -(2**31)), (253402300800, 0), (0, 2**31 - 1)]
    return []


@pytest.mark.parametrize("method", list(methods()), ids=lambda one: one.name)
def test_no_field_is_a_fault_of_ours(scene: IssuerScene, method: MethodDescriptor) -> None:
    name = f"/{method.containing_service.full_name}/{method.name}"
    channel = (
        scene.door_channel
        if method.containing_service.name == "DoorService"
        else scene.issuer.channel(Kind.OPERATOR, "lan")
    )
    answer = GetMessageClass(method.output_type)
    call: Any = channel.unary_unary(name, lambda one: one.SerializeToString(), answer.FromString)
    for field in method.input_type.fields:
        for value in hostile(field):
            request = sound(scene, method)
            if isinstance(value, tuple):
                inner = getattr(request, field.name)
                inner.seconds, inner.nanos = value
            else:
                setattr(request, field.name, value)
            assert outcome(call, request) not in ("", "INTERNAL"), (field.name, str(value)[:20])
