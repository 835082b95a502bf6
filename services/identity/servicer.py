"""The identity room's services: each RPC converts, calls one operation, and converts."""

from uuid import UUID

import grpc

from npd.identity.v1 import card_pb2, card_pb2_grpc, number_pb2, number_pb2_grpc
from services.identity import convert
from services.identity.operations.cards import CardOperations
from services.identity.operations.numbers import NumberOperations
from services.mesh.core.clock import Clock
from services.mesh.core.person.pin import require_pin
from services.mesh.wire.access import access_from_wire, causation_from_wire, relayed_access_from_wire, uuid_from_wire
from services.mesh.wire.call import answer_key, call_of, caller_of
from services.mesh.wire.person import identity_from_wire


class NumberServicer(number_pb2_grpc.NumberServiceServicer):
    """Adapts the wire to operations on numbers."""

    def __init__(self, operations: NumberOperations, clock: Clock, *, sandbox: bool) -> None:
        self._operations = operations
        self._clock = clock
        self._sandbox = sandbox

    def ReservePin(
        self, request: number_pb2.ReservePinRequest, context: grpc.ServicerContext
    ) -> number_pb2.ReservePinResponse:
        key = answer_key(context, request, request.request_id)
        access = relayed_access_from_wire(request.access)
        birth = convert.birth_from_wire(request.birth, self._clock.now())
        reservation = self._operations.reserve_pin(caller_of(context), access, birth, key)
        return convert.reservation_to_wire(reservation)

    def ConfirmPin(
        self, request: number_pb2.ConfirmPinRequest, context: grpc.ServicerContext
    ) -> number_pb2.ConfirmPinResponse:
        key = answer_key(context, request, request.request_id)
        pin = require_pin(request.pin, "pin", sandbox=self._sandbox)
        subject_id = UUID(uuid_from_wire(request.subject_id, "subject_id"))
        causation = causation_from_wire(request.causation, "causation")
        confirmed = self._operations.confirm_pin(caller_of(context), pin, subject_id, causation, key)
        return convert.confirmation_to_wire(confirmed)

    def ResolvePin(
        self, request: number_pb2.ResolvePinRequest, context: grpc.ServicerContext
    ) -> number_pb2.ResolvePinResponse:
        caller = caller_of(context)
        access = convert.resolver_access(request, caller)
        pin = require_pin(request.pin, "pin", sandbox=self._sandbox)
        resolution = self._operations.resolve_pin(caller, access, pin, call_of(context).method)
        return convert.resolution_to_wire(resolution)

    def SucceedPin(
        self, request: number_pb2.SucceedPinRequest, context: grpc.ServicerContext
    ) -> number_pb2.SucceedPinResponse:
        key, now = answer_key(context, request, request.request_id), self._clock.now()
        access, ground = access_from_wire(request.access), convert.ground_from_wire(request.ground)
        identity = identity_from_wire(request.identity, now, sandbox=self._sandbox)
        birth = convert.birth_from_wire(request.birth, now)
        new = self._operations.succeed_pin(caller_of(context), access, identity, ground, birth, key)
        return number_pb2.SucceedPinResponse(pin=new.pin, act_id=str(new.act_id))


class CardServicer(card_pb2_grpc.CardServiceServicer):
    """Adapts the wire to operations on cards."""

    def __init__(self, operations: CardOperations, clock: Clock, *, sandbox: bool) -> None:
        self._operations = operations
        self._clock = clock
        self._sandbox = sandbox

    def RequestCard(
        self, request: card_pb2.RequestCardRequest, context: grpc.ServicerContext
    ) -> card_pb2.RequestCardResponse:
        key, access = answer_key(context, request, request.request_id), access_from_wire(request.access)
        identity = identity_from_wire(request.identity, self._clock.now(), sandbox=self._sandbox)
        return convert.request_to_wire(self._operations.request_card(caller_of(context), access, identity, key))

    def IssueCard(
        self, request: card_pb2.IssueCardRequest, context: grpc.ServicerContext
    ) -> card_pb2.IssueCardResponse:
        key, access = answer_key(context, request, request.request_id), access_from_wire(request.access)
        card_id = UUID(uuid_from_wire(request.card_id, "card_id"))
        document = convert.document_from_wire(request)
        return convert.issue_to_wire(self._operations.issue_card(caller_of(context), access, card_id, document, key))

    def CancelCard(
        self, request: card_pb2.CancelCardRequest, context: grpc.ServicerContext
    ) -> card_pb2.CancelCardResponse:
        key, access = answer_key(context, request, request.request_id), access_from_wire(request.access)
        number = convert.document_number_from_wire(request.document_number)
        reason = convert.reason_from_wire(request.reason)
        act = self._operations.cancel_card(caller_of(context), access, number, reason, key)
        return convert.cancellation_to_wire(act)

    def CheckCard(
        self, request: card_pb2.CheckCardRequest, context: grpc.ServicerContext
    ) -> card_pb2.CheckCardResponse:
        access, method = access_from_wire(request.access), call_of(context).method
        identity = identity_from_wire(request.identity, self._clock.now(), sandbox=self._sandbox)
        number = convert.document_number_from_wire(request.document_number)
        valid = self._operations.check_card(caller_of(context), access, identity, number, method)
        return card_pb2.CheckCardResponse(valid=valid)

    def GetCards(self, request: card_pb2.GetCardsRequest, context: grpc.ServicerContext) -> card_pb2.GetCardsResponse:
        access, method = access_from_wire(request.access), call_of(context).method
        identity = identity_from_wire(request.identity, self._clock.now(), sandbox=self._sandbox)
        return convert.cards_to_wire(self._operations.get_cards(caller_of(context), access, identity, method))
