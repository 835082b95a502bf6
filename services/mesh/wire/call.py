"""A call in progress: what the interceptors know of it, on top of gRPC's context."""

import itertools
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import grpc
from cryptography import x509
from google.protobuf.message import Message

from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller, CertificateMissing, Leaf
from services.mesh.core.errors import DeadlinePassed
from services.mesh.core.rights import Access
from services.mesh.wire.access import stated_access
from services.mesh.wire.payload import payload_hash

UNARY_CAP = 60.0

# Asking the kernel for a random id per call would let go of the interpreter's lock in the middle of every call.
_PROCESS = secrets.token_hex(10)
_CALLS = itertools.count(1)


class Call:
    """Handed to servicers in place of gRPC's context, to which everything else is passed through."""

    def __init__(self, method: str, context: grpc.ServicerContext) -> None:
        self.method = method
        self.context = context
        self.request_id = f"{_PROCESS}{next(_CALLS):012x}"
        self.leaf: Leaf | None = None
        self.caller: Caller | None = None
        self.request: Message | None = None
        self.deadline = time.monotonic() + UNARY_CAP
        self.progressed: Callable[[], None] = lambda: None
        self.recheck: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.context, name)

    @property
    def stated_access(self) -> Access | None:
        """The ground that the request states, confirmed by nobody."""
        return None if self.request is None else stated_access(self.request)

    def as_context(self) -> grpc.ServicerContext:
        """This call where a servicer's signature says context."""
        return cast(grpc.ServicerContext, self)

    def remaining(self) -> float:
        """Seconds until the call's deadline, or its cap. Raises DeadlinePassed."""
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise DeadlinePassed()
        return remaining


def call_of(context: grpc.ServicerContext) -> Call:
    """The call of a servicer's context."""
    call: object = context
    if not isinstance(call, Call):
        raise RuntimeError("a servicer was reached without the interceptors")
    return call


def caller_of(context: grpc.ServicerContext) -> Caller:
    """Who calls: the one place where a servicer learns it."""
    caller = call_of(context).caller
    if caller is None:
        raise CertificateMissing()
    return caller


def presented_certificate(call: Call) -> x509.Certificate:
    """The leaf that TLS verified on this connection. Raises CertificateMissing."""
    # its stub says Mapping[str, bytes | Iterable[bytes]]; it is a list of bytes per name
    facts = cast(Mapping[str, Sequence[bytes]], call.context.auth_context())
    if not facts.get("x509_pem_cert"):
        raise CertificateMissing()
    return x509.load_pem_x509_certificate(facts["x509_pem_cert"][0])


def answer_key(context: grpc.ServicerContext, request: Message, request_id: str) -> AnswerKey:
    """Names a mutating request: its method, the caller's id of it, and its payload's hash. Raises InvalidField."""
    return AnswerKey(call_of(context).method, request_id, payload_hash(request))
