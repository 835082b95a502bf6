"""The issuer's door: the one port that asks no certificate of its callers. It is trusted by the roots given, never at
first sight.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc

from npd.issuer.v1 import door_pb2, door_pb2_grpc
from npd_client.channel import LOOPBACK, OPTIONS, service_config
from npd_client.errors import refusal_of

Reply = TypeVar("Reply")

TIMEOUT = 30.0
"""Seconds for a call; the door answers slowly to those who ask often."""


class Door:
    """Calls the door. Every method raises Refusal, Unreachable if there was no answer."""

    def __init__(self, target: str, channel: grpc.Channel) -> None:
        self._target = target
        self._stub = door_pb2_grpc.DoorServiceStub(channel)

    def enrol(self, request_id: str, token: str, csr: bytes) -> door_pb2.EnrolResponse:
        """Bring a token and a signing request; the same again gets the first answer."""
        return self._call(self._stub.Enrol, door_pb2.EnrolRequest(request_id=request_id, token=token, csr=csr))

    def status(self, token: str) -> door_pb2.GetApplicationStatusResponse:
        """How the application stands that came with a token."""
        return self._call(self._stub.GetApplicationStatus, door_pb2.GetApplicationStatusRequest(token=token))

    def renew_expired(
        self, request_id: str, certificate_chain: bytes, csr: bytes, signature: bytes
    ) -> door_pb2.RenewExpiredResponse:
        """Renew an expired certificate whose renewal an operator enabled."""
        request = door_pb2.RenewExpiredRequest(
            request_id=request_id, certificate_chain=certificate_chain, csr=csr, signature=signature
        )
        return self._call(self._stub.RenewExpired, request)

    def diagnose(self, certificate_chain: bytes) -> door_pb2.DiagnoseResponse:
        """What the mesh thinks of a certificate, and what time it has."""
        return self._call(self._stub.Diagnose, door_pb2.DiagnoseRequest(certificate_chain=certificate_chain))

    def _call(self, method: Callable[..., Reply], request: Any) -> Reply:
        try:
            return method(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            raise refusal_of(error, target=self._target) from error


@contextmanager
def open_door(target: str, roots: bytes) -> Iterator[Door]:
    """The door at an address, whose certificate leads to one of `roots` (PEM). Raises nothing before the first call."""
    direct = [("grpc.enable_http_proxy", 0)] if target.startswith(LOOPBACK) else []
    options = [*OPTIONS, ("grpc.service_config", service_config(target)), *direct]
    with grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), options=options) as channel:
        yield Door(target, channel)


def server_time(answer: door_pb2.DiagnoseResponse) -> datetime:
    """The door's clock, UTC."""
    return answer.server_time.ToDatetime(tzinfo=UTC)
