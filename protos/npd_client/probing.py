"""Looks at an address from outside, by layers: name, TCP, the server's certificate, a call. Sends nothing personal.

gRPC says "Socket closed" for whatever a server dislikes; Python's own TLS says what the server's certificate lacks.
"""

import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from npd.registry.v1 import rights_pb2, rights_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.credentials import CredentialsError, DirectoryPath
from npd_client.diagnosis import Check, Said, failed, sound
from npd_client.errors import Unreachable, refusal_of

PATIENCE = 5.0
"""Seconds for each step."""

_SCHEME = re.compile(r"^(dns:(//[^/]*/)?|ipv4:|ipv6:)")
_EXPIRED, _EARLY, _NAME, _ADDRESS, _PURPOSE = 10, 9, 62, 64, 26
_FOREIGN = (2, 18, 19, 20, 21, 24)
_OLD_TLS = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL")
_ALERTS = ("alert", "unrecognized name")  # OpenSSL 3.0 names no reason for "no application protocol"


class TargetMalformed(ValueError):
    """An address is not HOST:PORT, nor a gRPC target that holds one."""


@dataclass(frozen=True, slots=True)
class Place:
    """A host, by name or number, and a port."""

    host: str
    port: int

    @classmethod
    def of(cls, target: str) -> "Place":
        """Read `host:port`, `[::1]:port`, `dns:///host:port` or the first of `ipv4:a:port,b:port`.

        Raises TargetMalformed.
        """
        host, _, port = _SCHEME.sub("", target).partition(",")[0].rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise TargetMalformed(f"{target!r} is not an address: write HOST:PORT")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def check_name(place: Place) -> Check:
    """Whether the host's name has an address."""
    try:
        found = sorted({str(one[4][0]) for one in socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError):
        return failed(
            "name",
            Said(f"The name {place.host} cannot be resolved.", f"Không phân giải được tên {place.host}."),
            Said("Check its spelling, and this computer's name server.", "Kiểm tra chính tả và máy chủ DNS."),
        )
    return sound("name", f"{place.host} is {', '.join(found)}.", f"{place.host} là {', '.join(found)}.")


def check_reachability(place: Place) -> Check:
    """Whether anything listens there."""
    try:
        socket.create_connection((place.host, place.port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return failed(
            "reachability",
            Said(f"Nothing listens at {place}.", f"Không có dịch vụ nào ở {place}."),
            Said("Check the port, and ask whether the room is running.", "Kiểm tra cổng và hỏi dịch vụ có chạy không."),
        )
    except OSError as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
        return failed(
            "reachability",
            Said(f"{place} cannot be reached ({why}).", f"Không kết nối được {place} ({why})."),
            Said(
                "Check the route and the firewalls on the way; a proxy does not help.",
                "Kiểm tra đường mạng và tường lửa; không dùng proxy.",
            ),
        )
    return sound("reachability", f"{place} takes connections.", f"{place} nhận kết nối.")


def check_server_certificate(place: Place, roots: Sequence[x509.Certificate]) -> Check:
    """Whether the server's certificate is good for this name and leads to a root of ca.crt, over TLS 1.3.

    And whether the server asks for one: a room hangs up on who shows none, before its first frame of HTTP/2.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata="".join(root.public_bytes(Encoding.PEM).decode() for root in roots))
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((place.host, place.port), timeout=PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=place.host) as tls,
        ):
            if _is_served(tls):
                return failed(
                    "server_certificate",
                    Said(
                        f"{place} asks nobody for a certificate: it is no room, but perhaps the issuer's door.",
                        f"{place} không yêu cầu chứng thư: đây không phải dịch vụ của mạng, có thể là door.",
                    ),
                    Said("Dial the room's own port.", "Hãy gọi đúng cổng của dịch vụ."),
                )
            return sound(
                "server_certificate",
                f"The server's certificate is good for {place.host}, under your ca.crt, over TLS 1.3.",
                f"Chứng thư máy chủ hợp lệ cho {place.host} theo ca.crt của bạn, qua TLS 1.3.",
            )
    except ssl.SSLCertVerificationError as error:
        return failed("server_certificate", *_untrusted(place, error))
    except ssl.SSLError as error:
        if any(name in (error.reason or "") for name in _OLD_TLS):
            return failed(
                "server_certificate",
                Said(f"{place} does not speak TLS 1.3.", f"{place} không dùng TLS 1.3."),
                Said(
                    "It is no room of the mesh. Check the address.",
                    "Đây không phải dịch vụ của mạng. Hãy kiểm tra.",
                ),
            )
        if any(alert in str(error) for alert in _ALERTS):
            return failed(
                "server_certificate",
                Said(
                    f"{place} speaks TLS but broke the handshake off ({error}).",
                    f"{place} dùng TLS nhưng đã ngắt quá trình bắt tay ({error}).",
                ),
                Said(
                    "It is no room of the mesh, or something in between ends TLS. Check name and port.",
                    "Đây không phải dịch vụ của mạng, hoặc có thiết bị trung gian. Kiểm tra tên và cổng.",
                ),
            )
        return _not_tls(place)
    except OSError:
        return _not_tls(place)


def check_call(target: str, directory: DirectoryPath) -> Check:
    """Whether a call with the own certificate is answered; a refusal of another room is an answer too."""
    try:
        with RotatingChannel(target, directory) as channel:
            stub = rights_pb2_grpc.RightsServiceStub(channel)
            try:
                answer = stub.WhoAmI(rights_pb2.WhoAmIRequest(), timeout=PATIENCE)
            except grpc.RpcError as error:
                refusal = refusal_of(error, channel.credentials, target)
                if refusal.code is grpc.StatusCode.UNIMPLEMENTED:
                    return sound(
                        "call",
                        "The room answered a call with your certificate (no more was asked: it is not the registry).",
                        "Dịch vụ đã trả lời với chứng thư của bạn (không phải registry nên không hỏi thêm).",
                    )
                head = "" if isinstance(refusal, Unreachable) else f"{refusal.reason or refusal.code.name}: "
                return failed("call", Said(head + refusal.sentence(), head + refusal.sentence("vi")))
    except CredentialsError as error:
        return failed("call", Said(str(error), str(error)))
    return sound("call", f"The mesh takes you for {answer.identity}.", f"Mạng nhận ra bạn là {answer.identity}.")


def _is_served(tls: ssl.SSLSocket) -> bool:
    """Whether the server goes on with somebody who showed no certificate."""
    try:
        return bool(tls.recv(1))
    except OSError:  # ssl.SSLError, too
        return False


def _untrusted(place: Place, error: ssl.SSLCertVerificationError) -> tuple[Said, Said]:
    code = error.verify_code
    if code == _EXPIRED:
        return (
            Said("The server's certificate has expired.", "Chứng thư máy chủ đã hết hạn."),
            Said(
                "Check this computer's clock; if it is right, tell the operator.",
                "Kiểm tra đồng hồ máy này; nếu đúng, hãy báo đơn vị vận hành.",
            ),
        )
    if code == _EARLY:
        return (
            Said("The server's certificate is not valid yet.", "Chứng thư máy chủ chưa có hiệu lực."),
            Said("This computer's clock is slow: set it.", "Đồng hồ máy này chạy chậm: hãy chỉnh lại."),
        )
    if code in (_NAME, _ADDRESS):
        return (
            Said(
                f"The server's certificate does not name {place.host}.", f"Chứng thư máy chủ không có tên {place.host}."
            ),
            Said(
                "Dial the name that the operator published, no number and no alias.",
                "Hãy gọi đúng tên do đơn vị vận hành công bố, không dùng địa chỉ số hay tên khác.",
            ),
        )
    if code in _FOREIGN:
        return (
            Said(
                "The server's certificate leads to a root that your ca.crt does not hold.",
                "Chứng thư máy chủ dẫn tới gốc không có trong ca.crt của bạn.",
            ),
            Said(
                "One of the two is of another environment, or your ca.crt is out of date: take the present one from "
                "your PKI administrator.",
                "Một trong hai thuộc môi trường khác, hoặc ca.crt đã cũ: hãy lấy ca.crt hiện hành.",
            ),
        )
    if code == _PURPOSE:
        return (
            Said("What is at the address shows a client's certificate.", "Máy chủ trình chứng thư của máy khách."),
            Said("Tell the operator.", "Hãy báo đơn vị vận hành."),
        )
    told = error.verify_message
    return (
        Said(f"The server's certificate was not accepted: {told}.", f"Không chấp nhận chứng thư máy chủ: {told}."),
        Said("Tell the operator.", "Hãy báo đơn vị vận hành."),
    )


def _not_tls(place: Place) -> Check:
    return failed(
        "server_certificate",
        Said(f"What listens at {place} does not speak TLS.", f"Dịch vụ ở {place} không dùng TLS."),
        Said("Check the port.", "Hãy kiểm tra cổng."),
    )
