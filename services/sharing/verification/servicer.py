"""npd.sharing.v1.VerificationService: convert, ask the gatherer, convert."""

import grpc

from npd.sharing.v1 import verification_pb2, verification_pb2_grpc
from services.mesh.core.clock import Clock
from services.mesh.core.gather import Gatherer
from services.mesh.wire.call import call_of, caller_of
from services.sharing.verification import convert
from services.sharing.verification.domain import Verdicts, Verification


class VerificationServicer(verification_pb2_grpc.VerificationServiceServicer):
    """Adapts the wire to one operation, by way of the gatherer that feeds it."""

    def __init__(self, verifications: Gatherer[Verification, Verdicts], clock: Clock, *, sandbox: bool) -> None:
        self._verifications = verifications
        self._clock = clock
        self._sandbox = sandbox

    def VerifyCitizen(
        self, request: verification_pb2.VerifyCitizenRequest, context: grpc.ServicerContext
    ) -> verification_pb2.VerifyCitizenResponse:
        call, now = call_of(context), self._clock.now()
        asked = convert.verification_from_wire(request, caller_of(context), call.method, now, sandbox=self._sandbox)
        return convert.verdicts_to_wire(self._verifications.ask(asked, call.remaining()))
