"""Serves the proofs of a room's log: npd.common.v1.EvidenceService, the same in every room."""

import grpc

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from services.mesh.core.db import Database
from services.mesh.core.errors import InvalidField
from services.mesh.core.evidence.entry import Receipt
from services.mesh.core.evidence.log import Log
from services.mesh.core.methods import agency, allow, operator, room

_ANYBODY = allow(agency(), operator(), room())

METHODS = {
    "/npd.common.v1.EvidenceService/GetCheckpoint": _ANYBODY,
    "/npd.common.v1.EvidenceService/GetInclusionProof": _ANYBODY,
    "/npd.common.v1.EvidenceService/GetConsistencyProof": _ANYBODY,
}


class EvidenceServicer(evidence_pb2_grpc.EvidenceServiceServicer):
    """Adapts the wire to the log: convert, read, convert."""

    def __init__(self, database: Database[Log]) -> None:
        self._database = database

    def GetCheckpoint(
        self, request: evidence_pb2.GetCheckpointRequest, context: grpc.ServicerContext
    ) -> evidence_pb2.GetCheckpointResponse:
        with self._database.transaction() as log:
            return evidence_pb2.GetCheckpointResponse(checkpoint=log.newest_checkpoint()[1])

    def GetInclusionProof(
        self, request: evidence_pb2.GetInclusionProofRequest, context: grpc.ServicerContext
    ) -> evidence_pb2.GetInclusionProofResponse:
        if len(request.leaf_hash) != 32:
            raise InvalidField("leaf_hash", "must be 32 bytes")
        with self._database.transaction() as log:
            proof = log.prove_inclusion(request.leaf_hash)
        return evidence_pb2.GetInclusionProofResponse(
            entry=proof.entry, index=proof.index, hashes=proof.hashes, checkpoint=proof.checkpoint
        )

    def GetConsistencyProof(
        self, request: evidence_pb2.GetConsistencyProofRequest, context: grpc.ServicerContext
    ) -> evidence_pb2.GetConsistencyProofResponse:
        with self._database.transaction() as log:
            proof = log.prove_consistency(request.old_size)
        return evidence_pb2.GetConsistencyProofResponse(hashes=proof.hashes, checkpoint=proof.checkpoint)


def receipt_to_wire(receipt: Receipt) -> evidence_pb2.Receipt:
    """A receipt as answers carry it."""
    return evidence_pb2.Receipt(log_origin=receipt.log_origin, leaf_hash=receipt.leaf_hash)
