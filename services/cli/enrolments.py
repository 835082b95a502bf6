"""Commands that let somebody come to the issuer's door: with a one-time token, or with an expired certificate."""

import secrets
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated
from uuid import uuid4

import typer

from services.cli.naming import (
    ISSUER,
    TIMEOUT,
    CertificateArgument,
    IssuerKeyOption,
    ProfileName,
    ProfileOption,
    certificate_name,
    whole_name,
)
from services.cli.options import (
    AddressOption,
    DirectoryOption,
    EndpointsOption,
    JsonOption,
    SystemArgument,
    door_address,
    duration,
    one_room,
    system_parts,
    uuid_argument,
)
from services.cli.outcome import print_json

_TOKEN_BYTES = 32
_PAGE = 1000


def create(
    system: SystemArgument,
    profile: ProfileOption = ProfileName.CLIENT_TLS,
    valid: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="TIME", help="How long the token can be used; by default 72h."),
    ] = None,
    door: Annotated[
        str, typer.Option(help="Address of the issuer's door; by default from the file of addresses.")
    ] = "",
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol a system: makes a one-time token, and prints it once, with the command to hand over to the agency.

    The token is made here; the issuer learns its digest alone. Hand it over to the agency's administrator in person or
    over a channel that you would trust with a password.

    Example: npd enrolment create tax/core --valid 24h
    """
    from npd.issuer.v1 import certificate_pb2, enrolment_pb2, enrolment_pb2_grpc
    from services.cli import views

    agency_id, system_id = system_parts(system)
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    request = enrolment_pb2.CreateEnrolmentRequest(
        request_id=str(uuid4()),
        agency_id=agency_id,
        system_id=system_id,
        profile=certificate_pb2.CertificateProfile.Value(f"CERTIFICATE_PROFILE_{profile.name}"),
        token_digest=sha256(token.encode()).digest(),
    )
    if valid is not None:
        request.expire_time.FromDatetime(datetime.now(UTC) + valid)
    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        made = stub.CreateEnrolment(request, timeout=TIMEOUT).enrolment
        at = door or door_address(directory, endpoints) or "DOOR:PORT"
        command = f"npd-client enrol --door {at} --ca ca.crt -d {agency_id}-{system_id}"
        if as_json:
            print_json({**views.json_of(made), "token": token, "command": command})
            return
        typer.echo(f"{made.identity} can enrol until {views.time_text(made.expire_time)}")
        typer.echo(f"Enrolment: {made.enrolment_id}")
        typer.echo(f"Token, shown this once: {token}")
        typer.echo("Hand over the token, your ca.crt, and this command, which asks for the token:")
        typer.echo(f"  {command}")


def list_(
    agency: Annotated[str, typer.Option(help="Only those of an agency.")] = "",
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """List enrolments, newest first: who may come, until when, and whether he came.

    Example: npd enrolment list --agency tax
    """
    from npd.issuer.v1 import enrolment_pb2, enrolment_pb2_grpc
    from services.cli import issuer_views, views

    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        request = enrolment_pb2.ListEnrolmentsRequest(agency_id=agency, page_size=_PAGE)
        found: list[enrolment_pb2.Enrolment] = []
        while True:
            answer = stub.ListEnrolments(request, timeout=TIMEOUT)
            found += answer.enrolments
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
        if as_json:
            print_json({"enrolments": [views.json_of(one) for one in found]})
        else:
            issuer_views.show_enrolments(found)


def cancel(
    enrolment: Annotated[str, typer.Argument(metavar="ID", help="The enrolment's id.", callback=uuid_argument)],
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel an enrolment that was not used: its token opens the door no more.

    Example: npd enrolment cancel 6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21
    """
    from npd.issuer.v1 import enrolment_pb2, enrolment_pb2_grpc
    from services.cli import issuer_views, views

    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        request = enrolment_pb2.CancelEnrolmentRequest(request_id=str(uuid4()), enrolment_id=enrolment)
        answer = enrolment_pb2_grpc.EnrolmentServiceStub(channel).CancelEnrolment(request, timeout=TIMEOUT)
        if as_json:
            print_json(views.json_of(answer))
        else:
            state = issuer_views.enrolment_state_of(answer.enrolment)
            typer.echo(f"enrolment {enrolment} of {answer.enrolment.identity} is {state}")


def enable_expired(
    certificate: CertificateArgument,
    issuer_key_id: IssuerKeyOption = "",
    valid: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="TIME", help="How long it can be renewed; by default 72h."),
    ] = None,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an expired certificate be renewed once at the door, by whoever holds its key.

    Example: npd cert enable-expired .npd/agencies/tax/core/tls.crt --valid 24h
    """
    from npd.issuer.v1 import enrolment_pb2, enrolment_pb2_grpc
    from services.cli import views

    with one_room(ISSUER, directory, endpoints, address, as_json=as_json) as channel:
        name = whole_name(channel, certificate_name(certificate, issuer_key_id))
        request = enrolment_pb2.EnableExpiredRenewalRequest(
            request_id=str(uuid4()), issuer_key_id=name.issuer_key_id, serial_number=name.serial_number
        )
        if valid is not None:
            request.expire_time.FromDatetime(datetime.now(UTC) + valid)
        answer = enrolment_pb2_grpc.EnrolmentServiceStub(channel).EnableExpiredRenewal(request, timeout=TIMEOUT)
        if as_json:
            print_json(views.json_of(answer))
        else:
            until = views.time_text(answer.expire_time)
            typer.echo(
                f"certificate {name.serial_number} can be renewed once until {until}: npd-client renew --expired"
            )
