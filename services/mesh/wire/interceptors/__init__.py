"""The interceptors, in order: errors, telemetry, deadline, caller, policy, validation, approval.

The first two are frames around the call; the others are guards that refuse it by raising a MeshError. Only `errors`,
the outermost, aborts. The chain is laid once per method; gRPC calls it through one interceptor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from services.mesh.core import failpoints
from services.mesh.wire.call import Call


class Frame(Protocol):
    """Stands around a call."""

    def __call__(self, call: Call, /) -> AbstractContextManager[None]: ...


class Guard(Protocol):
    """Lets a call pass, or raises a MeshError."""

    def __call__(self, call: Call, request: Message, /) -> None: ...


class Interceptors(grpc.ServerInterceptor):
    """Lays the chain around each method, once. `standing` are the guards that an open stream must keep passing."""

    def __init__(self, errors: Frame, telemetry: Frame, guards: Sequence[Guard], standing: Sequence[Guard]) -> None:
        self._errors, self._telemetry = errors, telemetry
        self._guards, self._standing = tuple(guards), tuple(standing)
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The method's handler with the chain around it."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming:
            raise RuntimeError(f"{method}: client streaming is not laid out in these interceptors")
        if not handler.response_streaming:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary), **codecs)
        if hasattr(handler.unary_stream, "experimental_non_blocking"):
            return grpc.unary_stream_rpc_method_handler(self._sending(method, handler.unary_stream), **codecs)
        return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream), **codecs)

    def _unary(self, method: str, behaviour: Any) -> Callable[..., Any]:
        def unary(request: Message, context: grpc.ServicerContext) -> Any:
            call = Call(method, context)
            with self._errors(call), self._telemetry(call):
                self._admit(call, request)
                response = behaviour(request, call.as_context())
                failpoints.reach("call.answering")
                return response

        return unary

    def _stream(self, method: str, behaviour: Any) -> Callable[..., Iterator[Any]]:
        def stream(request: Message, context: grpc.ServicerContext) -> Iterator[Any]:
            call = Call(method, context)
            with self._errors(call), self._telemetry(call):
                self._admit(call, request)
                call.progressed()
                for response in behaviour(request, call.as_context()):
                    yield response
                    call.progressed()

        return stream

    def _sending(self, method: str, behaviour: Any) -> Callable[..., Any]:
        """For gRPC's health Watch, which sends by itself from another thread: only its admission is ours."""

        def sending(request: Message, context: grpc.ServicerContext, send_response_callback: Any) -> Any:
            call = Call(method, context)
            with self._errors(call), self._telemetry(call):
                self._admit(call, request)
                return behaviour(request, call.as_context(), send_response_callback)

        sending.experimental_non_blocking = True  # type: ignore[attr-defined]  # else a watcher would hold a thread
        return sending

    def _admit(self, call: Call, request: Message) -> None:
        call.request = request
        call.recheck = lambda: self._pass(self._standing, call, request)
        self._pass(self._guards, call, request)

    @staticmethod
    def _pass(guards: Sequence[Guard], call: Call, request: Message) -> None:
        for guard in guards:
            guard(call, request)
