"""AuthorityService: each RPC converts, calls one operation, and converts."""

import grpc

from npd.issuer.v1 import authority_pb2, authority_pb2_grpc
from services.issuer.convert import authorities as convert
from services.issuer.convert.certificates import key_id_from_wire, reason_from_wire
from services.issuer.operations.authorities import AuthorityOperations
from services.mesh.wire.call import answer_key, caller_of


class AuthorityServicer(authority_pb2_grpc.AuthorityServiceServicer):
    """Adapts the wire to operations on authorities."""

    def __init__(self, operations: AuthorityOperations) -> None:
        self._operations = operations

    def ListAuthorities(
        self, request: authority_pb2.ListAuthoritiesRequest, context: grpc.ServicerContext
    ) -> authority_pb2.ListAuthoritiesResponse:
        return convert.authorities_to_wire(self._operations.list_authorities())

    def PrepareAuthority(
        self, request: authority_pb2.PrepareAuthorityRequest, context: grpc.ServicerContext
    ) -> authority_pb2.PrepareAuthorityResponse:
        key = answer_key(context, request, request.request_id)
        key_id = key_id_from_wire(request.key_id, "key_id")
        moved = self._operations.prepare_authority(caller_of(context), key_id, key)
        return authority_pb2.PrepareAuthorityResponse(authority=convert.authority_to_wire(moved.authority))

    def ActivateAuthority(
        self, request: authority_pb2.ActivateAuthorityRequest, context: grpc.ServicerContext
    ) -> authority_pb2.ActivateAuthorityResponse:
        key = answer_key(context, request, request.request_id)
        key_id = key_id_from_wire(request.key_id, "key_id")
        return convert.activated_to_wire(self._operations.activate_authority(caller_of(context), key_id, key))

    def TaintAuthority(
        self, request: authority_pb2.TaintAuthorityRequest, context: grpc.ServicerContext
    ) -> authority_pb2.TaintAuthorityResponse:
        key = answer_key(context, request, request.request_id)
        key_id = key_id_from_wire(request.key_id, "key_id")
        moved = self._operations.taint_authority(caller_of(context), key_id, key)
        return authority_pb2.TaintAuthorityResponse(authority=convert.authority_to_wire(moved.authority))

    def RetireAuthority(
        self, request: authority_pb2.RetireAuthorityRequest, context: grpc.ServicerContext
    ) -> authority_pb2.RetireAuthorityResponse:
        key = answer_key(context, request, request.request_id)
        key_id = key_id_from_wire(request.key_id, "key_id")
        moved = self._operations.retire_authority(caller_of(context), key_id, key)
        return authority_pb2.RetireAuthorityResponse(authority=convert.authority_to_wire(moved.authority))

    def RevokeAuthority(
        self, request: authority_pb2.RevokeAuthorityRequest, context: grpc.ServicerContext
    ) -> authority_pb2.RevokeAuthorityResponse:
        key = answer_key(context, request, request.request_id)
        key_id, reason = key_id_from_wire(request.key_id, "key_id"), reason_from_wire(request.reason)
        moved = self._operations.revoke_authority(caller_of(context), key_id, reason, key)
        return authority_pb2.RevokeAuthorityResponse(authority=convert.authority_to_wire(moved.authority))

    def ForceRevokeAuthority(
        self, request: authority_pb2.ForceRevokeAuthorityRequest, context: grpc.ServicerContext
    ) -> authority_pb2.ForceRevokeAuthorityResponse:
        key = answer_key(context, request, request.request_id)
        key_id, reason = key_id_from_wire(request.key_id, "key_id"), reason_from_wire(request.reason)
        moved = self._operations.force_revoke_authority(caller_of(context), key_id, reason, key)
        return convert.force_revoked_to_wire(moved)
