"""Commands by which operators act on the mesh, over the registry's RPCs and with an operator's certificate."""

from typing import Annotated
from uuid import uuid4

import typer

from services.cli.options import (
    AddressOption,
    DirectoryOption,
    EndpointsOption,
    JsonOption,
    SystemArgument,
    one_room,
    system_parts,
)
from services.cli.outcome import print_json


def connections(
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the connected databases: how well each is connected, and when it was last heard of.

    Example: npd connections --json
    """
    from npd.registry.v1 import directory_pb2, directory_pb2_grpc
    from services.cli import views

    with one_room("registry", directory, endpoints, address, as_json=as_json) as channel:
        stub = directory_pb2_grpc.DirectoryServiceStub(channel)
        answer = stub.ListConnections(directory_pb2.ListConnectionsRequest())
        print_json(views.json_of(answer)) if as_json else views.show_connections(answer.connections)


def suspend(
    system: SystemArgument,
    cause: Annotated[str, typer.Option(help="Why, for the suspended to read; no personal data.")],
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suspend a system: its open streams are cut within a second, its calls are refused with the cause.

    Example: npd system suspend tax/core --cause "Unusual number of lookups; call the operator"
    """
    from npd.registry.v1 import agency_pb2, agency_pb2_grpc
    from services.cli import views

    agency_id, system_id = system_parts(system)
    with one_room("registry", directory, endpoints, address, as_json=as_json) as channel:
        answer = agency_pb2_grpc.SystemServiceStub(channel).SuspendSystem(
            agency_pb2.SuspendSystemRequest(
                request_id=str(uuid4()), agency_id=agency_id, system_id=system_id, cause=cause
            )
        )
        print_json(views.json_of(answer)) if as_json else typer.echo(views.sentence_of(answer.system))


def resume(
    system: SystemArgument,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Resume a suspended system.

    Example: npd system resume tax/core
    """
    from npd.registry.v1 import agency_pb2, agency_pb2_grpc
    from services.cli import views

    agency_id, system_id = system_parts(system)
    with one_room("registry", directory, endpoints, address, as_json=as_json) as channel:
        answer = agency_pb2_grpc.SystemServiceStub(channel).ResumeSystem(
            agency_pb2.ResumeSystemRequest(request_id=str(uuid4()), agency_id=agency_id, system_id=system_id)
        )
        print_json(views.json_of(answer)) if as_json else typer.echo(views.sentence_of(answer.system))
