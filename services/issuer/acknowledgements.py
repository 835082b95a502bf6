"""Which rooms have heard of what the registry's policy says: asked of its directory."""

from collections.abc import Callable, Mapping

import grpc

from npd.registry.v1 import directory_pb2, directory_pb2_grpc
from services.issuer.domain import REGISTRY
from services.mesh.wire.peer import call_peer


def connected_rooms(channel: grpc.Channel) -> Callable[[], Mapping[str, int]]:
    """Asks over a channel to the registry for the rooms that are not silent, each with the revision of the policy by
    which it decides, as it last reported. Raises PeerUnavailable.
    """
    directory = directory_pb2_grpc.DirectoryServiceStub(channel)

    def ask() -> Mapping[str, int]:
        answer = call_peer(REGISTRY, directory.ListConnections, directory_pb2.ListConnectionsRequest())
        return {
            one.name: one.policy_revision
            for one in answer.connections
            if "/" not in one.name and one.state != directory_pb2.CONNECTION_STATE_SILENT
        }

    return ask
