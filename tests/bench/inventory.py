"""Lists and the report over a large inventory, by an operator.

Made up are identities that renewed every 60 days: each has certificates of 90 days, the newest of which ends in 30 to
90 days. One in a hundred is late: what it holds ends within 30 days, and nothing follows.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from google.protobuf.message import Message
from rich.table import Table

from npd.issuer.v1 import certificate_pb2
from services.local.mesh import LocalMesh
from tests.holders import PkiAdmin

TARGET_MS = 200
_GENERATIONS = 5
_SYSTEMS_AN_AGENCY = 10
_ASKED = 60
_EVERY = timedelta(days=60)
_LIFE = timedelta(days=90)
_COLUMNS = (
    "issuer_key_id, serial_number, identity, agency_id, system_id, profile, key_id, start_time, expire_time, "
    "intent_time, der"
)


def measure(mesh: LocalMesh, count: int, counted: Callable[[int], object]) -> Table:
    """Fill the store, then ask."""
    with PkiAdmin(mesh) as admin:
        issuer = next(one.key_id for one in admin.listed().values() if one.host.startswith("agency."))
        _fill(mesh, issuer, count, counted)
        soon = certificate_pb2.ListCertificatesRequest(page_size=100)
        soon.expires_within.FromTimedelta(timedelta(days=30))
        whole = certificate_pb2.ListCertificatesRequest(page_size=1000)
        agency = certificate_pb2.ListCertificatesRequest(agency_id="a17", page_size=1000)
        revoked = certificate_pb2.ListCertificatesRequest(
            state=certificate_pb2.CERTIFICATE_STATE_REVOKED, page_size=1000
        )
        deep = certificate_pb2.ListCertificatesRequest(page_size=1000)
        for _ in range(min(50, count // 2000)):
            deep.page_token = admin.certificates.ListCertificates(deep, timeout=30).next_page_token
        ask: Callable[..., Any] = admin.certificates.ListCertificates
        asked: dict[str, tuple[Callable[..., Any], Message]] = {
            "list --expires-within 30d, 100 a page": (ask, soon),
            "list, 1,000 a page": (ask, whole),
            "list, 1,000 a page, from the middle": (ask, deep),
            "list --agency": (ask, agency),
            "list --status revoked": (ask, revoked),
            "report expiring --within 30d": (
                admin.certificates.ReportExpiring,
                certificate_pb2.ReportExpiringRequest(),
            ),
        }
        drawn = Table(f"over {count:,} certificates", "answer", "p50 ms", "p95 ms")
        for title, (call, request) in asked.items():
            drawn.add_row(title, *_figures(call, request))
    drawn.caption = f"target {TARGET_MS} ms"
    return drawn


def _figures(call: Callable[..., Any], request: Message) -> tuple[str, str, str]:
    milliseconds = []
    answer: Any = call(request, timeout=60)
    for _ in range(_ASKED):
        start = time.perf_counter()
        answer = call(request, timeout=60)
        milliseconds.append((time.perf_counter() - start) * 1000)
    milliseconds.sort()
    if isinstance(answer, certificate_pb2.ReportExpiringResponse):
        rows = f"{sum(len(one.certificates) for one in answer.agencies):,} of {len(answer.agencies):,} agencies"
    else:
        rows = f"{len(answer.certificates):,}"
    return rows, f"{milliseconds[len(milliseconds) // 2]:.0f}", f"{milliseconds[int(len(milliseconds) * 0.95)]:.0f}"


def _fill(mesh: LocalMesh, issuer: str, count: int, counted: Callable[[int], object]) -> None:
    place = mesh.layout.room("issuer").database_url.read_text().strip()
    url = place.replace("postgresql+psycopg:", "postgresql:")
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.cursor().copy(f"COPY certificates ({_COLUMNS}) FROM STDIN") as copy:
            for number, row in enumerate(_rows(mesh.settings.environment, issuer, count), 1):
                copy.write_row(row)
                if number % 1000 == 0:
                    counted(number)
        connection.execute("ANALYZE certificates")


def _rows(environment: str, issuer: str, count: int) -> Iterator[tuple[object, ...]]:
    now = datetime.now(UTC)
    der = secrets.token_bytes(800)
    for number in range(count):
        identity, generation = divmod(number, _GENERATIONS)
        agency, system = f"a{identity // _SYSTEMS_AN_AGENCY}", f"s{identity % _SYSTEMS_AN_AGENCY}"
        is_late = identity % 100 == 0
        last = timedelta(days=identity % 30 + 1 if is_late else identity % 60 + 30, seconds=identity % 86_400)
        end = now + last - generation * _EVERY
        yield (
            issuer,
            f"{secrets.randbits(158) | 1 << 158:x}",
            f"spiffe://agency.{environment}/{agency}/{system}",
            agency,
            system,
            "CLIENT_TLS",
            secrets.token_hex(32),
            end - _LIFE,
            end,
            end - _LIFE,
            der,
        )
