"""The room `identity`, as this room calls it: reserves numbers while a registrar waits, confirms them by the outbox."""

from collections.abc import Sequence
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

import grpc

from npd.common.v1 import place_pb2
from npd.identity.v1 import number_pb2, number_pb2_grpc
from services.civil_status.domain import BirthFacts, Reservation
from services.mesh.core.chain import Causation
from services.mesh.core.errors import Kind
from services.mesh.core.outbox import Fate, Message
from services.mesh.core.rights import Access
from services.mesh.core.telling import access_to_wire, causation_to_wire
from services.mesh.wire.access import uuid_from_wire
from services.mesh.wire.peer import PeerRefused, call_peer
from services.mesh.wire.person import day_to_wire, instant_from_wire

IDENTITY: Final = "identity"
CONFIRMATION: Final = "confirmation"


class Identity:
    """A typed client of npd.identity.v1.NumberService."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._numbers = number_pb2_grpc.NumberServiceStub(channel)

    def reserve_pin(self, request_id: UUID, access: Access, birth: BirthFacts) -> Reservation:
        """A number for a birth; the same one for the same id. Raises PeerUnavailable, PeerRefused."""
        place = birth.registration_place
        request = number_pb2.ReservePinRequest(
            request_id=str(request_id),
            access=access_to_wire(access),
            birth=number_pb2.BirthFacts(
                sex=birth.sex,  # type: ignore[arg-type]  # as it came from the wire
                birth_date=day_to_wire(birth.birth_date),
                registration_place=place_pb2.AdminPlace(
                    unit_code=place.unit_code,
                    unit_list_version=place.unit_list_version,
                    country_code=place.country_code,
                ),
            ),
        )
        reserved: number_pb2.ReservePinResponse = call_peer(IDENTITY, self._numbers.ReservePin, request)
        return Reservation(
            reserved.pin,
            UUID(uuid_from_wire(reserved.subject_id, "subject_id")),
            instant_from_wire(reserved.expire_time, "expire_time"),
        )

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


def confirmation(reservation: Reservation, causation: Causation) -> Message:
    """The message that confirms a number; its id, and so the request's, is the same for the same birth."""
    message_id = uuid5(NAMESPACE_URL, f"{CONFIRMATION}/{reservation.subject_id}/{reservation.pin}")
    wire = number_pb2.ConfirmPinRequest(
        request_id=str(message_id),
        pin=reservation.pin,
        subject_id=str(reservation.subject_id),
        causation=causation_to_wire(causation),
    )
    payload = wire.SerializeToString(deterministic=True)
    return Message(message_id, IDENTITY, CONFIRMATION, reservation.subject_id, payload, causation)
