"""Reports a room's contacts to the registry's directory."""

from collections.abc import Sequence

import grpc

from npd.registry.v1 import directory_pb2, directory_pb2_grpc
from services.mesh.core.contacts import Contact, Report

_TIMEOUT = 5.0


def registry_report(channel: grpc.Channel) -> Report:
    """A report over a channel to the registry. Raises grpc.RpcError."""
    stub = directory_pb2_grpc.DirectoryServiceStub(channel)

    def report(contacts: Sequence[Contact]) -> None:
        request = directory_pb2.ReportContactsRequest()
        for contact in contacts:
            wire = request.contacts.add(name=contact.name)
            wire.contact_time.FromDatetime(contact.contact_time)
            if contact.success_time is not None:
                wire.success_time.FromDatetime(contact.success_time)
        stub.ReportContacts(request, timeout=_TIMEOUT)

    return report
