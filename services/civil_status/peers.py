"""The room `identity`, as this room calls it: reserves numbers while a registrar waits, confirms them by the outbox."""

from collections.abc import Sequence
from uuid import UUID

import grpc

from npd.identity.v1 import number_pb2, number_pb2_grpc
from services.civil_status import convert
from services.civil_status.domain import BirthFacts, Reservation
from services.mesh.core.errors import Kind
from services.mesh.core.outbox import Fate, Message
from services.mesh.core.rights import Access
from services.mesh.wire.peer import PeerRefused, call_peer

IDENTITY = "identity"


class Identity:
    """A typed client of npd.identity.v1.NumberService."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._numbers = number_pb2_grpc.NumberServiceStub(channel)

    def reserve_pin(self, request_id: UUID, access: Access, birth: BirthFacts) -> Reservation:
        """A number for a birth; the same one for the same id. Raises PeerUnavailable, PeerRefused."""
        request = convert.reservation_request(request_id, access, birth)
        return convert.reservation_from_wire(call_peer(IDENTITY, self._numbers.ReservePin, request))

    def confirm_pins(self, messages: Sequence[Message]) -> list[Fate]:
        """Deliver confirmations, one call each: a repeat changes nothing there. Raises PeerUnavailable."""
        return [self._confirm_pin(message) for message in messages]

    def _confirm_pin(self, message: Message) -> Fate:
        try:
            call_peer(IDENTITY, self._numbers.ConfirmPin, number_pb2.ConfirmPinRequest.FromString(message.payload))
        except PeerRefused as refusal:
            if refusal.kind is Kind.INTERNAL:
                raise  # a fault over there: the relay tries some more before it sets the message aside
            return Fate(refusal.reason)
        return Fate()
