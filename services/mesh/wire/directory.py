"""Reports a room's contacts, how far messages and changes have flowed, and its policy, to the registry's directory."""

from collections.abc import Sequence

import grpc

from npd.registry.v1 import directory_pb2, directory_pb2_grpc
from services.mesh.core.contacts import Contact, Flow, Report

_TIMEOUT = 5.0


def registry_report(channel: grpc.Channel) -> Report:
    """A report over a channel to the registry. Raises grpc.RpcError."""
    stub = directory_pb2_grpc.DirectoryServiceStub(channel)

    def report(contacts: Sequence[Contact], flow: Flow, policy_revision: int) -> None:
        request = directory_pb2.ReportContactsRequest(policy_revision=policy_revision)
        _add_flow(request, flow)
        for contact in contacts:
            wire = request.contacts.add(name=contact.name)
            wire.contact_time.FromDatetime(contact.contact_time)
            if contact.success_time is not None:
                wire.success_time.FromDatetime(contact.success_time)
        stub.ReportContacts(request, timeout=_TIMEOUT)

    return report


def _add_flow(request: directory_pb2.ReportContactsRequest, flow: Flow) -> None:
    if flow.backlog is not None:
        backlog = request.backlog
        backlog.backlog_count, backlog.set_aside_count = flow.backlog.count, flow.backlog.set_aside_count
        if flow.backlog.oldest_time is not None:
            backlog.oldest_time.FromDatetime(flow.backlog.oldest_time)
    for activity in flow.activities:
        request.activities.add(name=activity.name).contribution_time.FromDatetime(activity.contribution_time)
    for lag in flow.lags:
        wire = request.lags.add(name=lag.name, unapplied_count=lag.unapplied_count, rejected_count=lag.rejected_count)
        if lag.oldest_time is not None:
            wire.oldest_time.FromDatetime(lag.oldest_time)
