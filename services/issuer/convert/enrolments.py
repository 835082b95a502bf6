"""Enrolments, and what the door answers, onto the wire."""

from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from npd.issuer.v1 import door_pb2, enrolment_pb2
from services.issuer.convert.certificates import (
    application_to_wire,
    instant,
    issued_to_wire,
    segment_from_wire,
    window_to_wire,
)
from services.issuer.domain import Enrolment, Issued
from services.issuer.findings import Explanation
from services.mesh.wire import paging
from services.mesh.wire.access import uuid_from_wire
from services.mesh.wire.person import instant_from_wire


def enrolment_id_from_wire(value: str) -> UUID:
    """The id of an enrolment."""
    return UUID(uuid_from_wire(value, "enrolment_id"))


def system_from_wire(wire: enrolment_pb2.CreateEnrolmentRequest) -> tuple[str, str]:
    """Agency and system that are enrolled."""
    return segment_from_wire(wire.agency_id, "agency_id"), segment_from_wire(wire.system_id, "system_id")


def term_from_wire(
    wire: enrolment_pb2.CreateEnrolmentRequest | enrolment_pb2.EnableExpiredRenewalRequest,
) -> datetime | None:
    """Until when, if it is said."""
    stated: Timestamp = wire.expire_time
    return instant_from_wire(stated, "expire_time") if wire.HasField("expire_time") else None


def enrolment_to_wire(one: Enrolment, now: datetime) -> enrolment_pb2.Enrolment:
    """An enrolment; of its token nothing."""
    return enrolment_pb2.Enrolment(
        enrolment_id=str(one.enrolment_id),
        identity=one.identity,
        profile=one.profile.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        state=one.state_at(now).value,  # type: ignore[arg-type]
        creator=one.creator,
        create_time=instant(one.create_time),
        expire_time=instant(one.expire_time),
        application_id=str(one.application_id or ""),
    )


def enrolments_to_wire(found: list[Enrolment], limit: int, now: datetime) -> enrolment_pb2.ListEnrolmentsResponse:
    """A page of enrolments."""
    last = found[-1] if len(found) == limit else None
    token = paging.to_token(last.create_time.isoformat(), str(last.enrolment_id)) if last else ""
    return enrolment_pb2.ListEnrolmentsResponse(
        enrolments=[enrolment_to_wire(one, now) for one in found], next_page_token=token
    )


def enrolled_to_wire(issued: Issued, now: datetime, bundle: bytes) -> door_pb2.EnrolResponse:
    """What somebody gets who brought a token."""
    return door_pb2.EnrolResponse(
        application=application_to_wire(issued.application),
        certificate=issued_to_wire(issued, now),
        window=window_to_wire(issued.window),
        trust_bundle=bundle if issued.certificate else b"",
    )


def renewed_late_to_wire(issued: Issued, now: datetime, bundle: bytes) -> door_pb2.RenewExpiredResponse:
    """What a holder gets who renewed an expired certificate."""
    return door_pb2.RenewExpiredResponse(
        certificate=issued_to_wire(issued, now), window=window_to_wire(issued.window), trust_bundle=bundle
    )


def diagnosed_to_wire(explanations: list[Explanation], now: datetime) -> door_pb2.DiagnoseResponse:
    """What is wrong with a certificate."""
    wire = door_pb2.DiagnoseResponse(server_time=instant(now))
    for one in explanations:
        finding: Any = one.finding.value  # a test holds the numbers equal
        wire.explanations.add(finding=finding, english=one.english, vietnamese=one.vietnamese)
    return wire


def status_to_wire(issued: Issued | None, now: datetime, bundle: bytes) -> door_pb2.GetApplicationStatusResponse:
    """How an application stands; nothing before there is one."""
    if issued is None:
        return door_pb2.GetApplicationStatusResponse()
    return door_pb2.GetApplicationStatusResponse(
        application=application_to_wire(issued.application),
        certificate=issued_to_wire(issued, now),
        trust_bundle=bundle if issued.certificate else b"",
    )
