"""The interceptors, in order: errors, telemetry, deadline, caller, policy, validation.

The first two are frames around the call; the others are guards that refuse it by raising a MeshError. Only `errors`,
the outermost, aborts. The chain is laid once per method; gRPC calls it through one interceptor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from services.mesh.wire.call import Call


class Frame(Protocol):
    """Stands around a call."""

    def __call__(self, call: Call, /) -> AbstractContextManager[None]: ...


class Guard(Protocol):
    """Lets a call pass, or raises a MeshError."""

    def __call__(self, call: Call, request: Message, /) -> None: ...


class Interceptors(grpc.ServerInterceptor):
    """Lays the chain around each method. `standing` are the guards that an open stream must keep passing."""

    def __init__(self, frames: Sequence[Frame], guards: Sequence[Guard], standing: Sequence[Guard]) -> None:
        self._frames = tuple(frames)
        self._guards = tuple(guards)
        self._standing = tuple(standing)
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
        if handler.response_streaming:
            behaviour: Any = handler.unary_stream

            def stream(request: Message, context: grpc.ServicerContext, *sender: Any) -> Iterator[Any] | None:
                if sender:  # gRPC's health Watch sends by itself, from a thread of its own
                    with self._around(method, request, context) as call:
                        return behaviour(request, call.as_context(), *sender)  # type: ignore[no-any-return]
                return self._each(method, behaviour, request, context)

            if hasattr(behaviour, "experimental_non_blocking"):  # without the mark, a watcher would hold a thread
                stream.experimental_non_blocking = behaviour.experimental_non_blocking  # type: ignore[attr-defined]
            return grpc.unary_stream_rpc_method_handler(stream, **codecs)
        unary_behaviour: Any = handler.unary_unary

        def unary(request: Message, context: grpc.ServicerContext) -> Any:
            with self._around(method, request, context) as call:
                return unary_behaviour(request, call.as_context())

        return grpc.unary_unary_rpc_method_handler(unary, **codecs)

    def _each(self, method: str, behaviour: Any, request: Message, context: grpc.ServicerContext) -> Iterator[Any]:
        with self._around(method, request, context) as call:
            yield from behaviour(request, call.as_context())

    def _around(self, method: str, request: Message, context: grpc.ServicerContext) -> _Passage:
        return _Passage(self._frames, self._guards, self._standing, Call(method, context), request)


class _Passage:
    """One call's way through the chain: enter every frame, pass every guard, and out again."""

    __slots__ = ("_call", "_frames", "_guards", "_request", "_stack", "_standing")

    def __init__(
        self, frames: Sequence[Frame], guards: Sequence[Guard], standing: Sequence[Guard], call: Call, request: Message
    ) -> None:
        self._frames, self._guards, self._standing = frames, guards, standing
        self._call, self._request = call, request
        self._stack = ExitStack()

    def __enter__(self) -> Call:
        call, request = self._call, self._request
        with ExitStack() as entering:
            for frame in self._frames:
                entering.enter_context(frame(call))
            call.recheck = self._recheck
            for guard in self._guards:
                guard(call, request)
            self._stack = entering.pop_all()
        return call

    def __exit__(self, *raised: Any) -> bool | None:
        return self._stack.__exit__(*raised)

    def _recheck(self) -> None:
        for guard in self._standing:
            guard(self._call, self._request)
