"""The offices that register acts: civil status, residence, identity cards. Each calls its room as in real life.

Methods raise Refusal. A `request_id` that is given makes a repeat of the call the same request.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date

from npd.civil_status.v1 import civil_status_pb2, civil_status_pb2_grpc
from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.person_pb2 import StatedIdentity
from npd.common.v1.place_pb2 import Address
from npd.identity.v1 import card_pb2, card_pb2_grpc, number_pb2, number_pb2_grpc
from npd.residence.v1 import residence_pb2, residence_pb2_grpc
from npd_client.client import Client, date_of
from npd_client.errors import refusal_of
from services.local.sandbox import Stated

Stub = TypeVar("Stub")

_TIMEOUT = 15.0


def identity_of(person: Stated) -> StatedIdentity:
    """A person as an office states him."""
    return StatedIdentity(pin=person.pin, full_name=person.full_name, birth_date=date_of(person.birth_date))


class _Office:
    """An office at its desk: the client of its system, and the ground on which it acts."""

    def __init__(self, client: Client, ground: Callable[[str], AccessContext], room: str) -> None:
        self._client = client
        self._ground = ground
        self._room = room

    @contextmanager
    def _calling(self, stub: Callable[[grpc.Channel], Stub]) -> Iterator[Stub]:
        try:
            yield stub(self._client.channel(self._room))
        except grpc.RpcError as error:
            raise refusal_of(error) from error


class Registrar(_Office):
    """A civil-status office."""

    def __init__(self, client: Client, ground: Callable[[str], AccessContext]) -> None:
        super().__init__(client, ground, "civil_status")

    def register_birth(
        self, birth: civil_status_pb2.Birth, *, entry: str, request_id: str = ""
    ) -> civil_status_pb2.RegisterBirthResponse:
        """Register a birth."""
        with self._calling(civil_status_pb2_grpc.CivilStatusServiceStub) as stub:
            return stub.RegisterBirth(
                civil_status_pb2.RegisterBirthRequest(
                    **_act(self._ground(f"HT/{entry}"), request_id), birth=birth, entry_number=entry
                ),
                timeout=_TIMEOUT,
            )

    def record_marriage(
        self, first: Stated, second: Stated, day: date, *, entry: str, request_id: str = ""
    ) -> civil_status_pb2.RecordMarriageResponse:
        """Record a marriage."""
        with self._calling(civil_status_pb2_grpc.CivilStatusServiceStub) as stub:
            return stub.RecordMarriage(
                civil_status_pb2.RecordMarriageRequest(
                    **_act(self._ground(f"HT/{entry}"), request_id),
                    first_spouse=identity_of(first),
                    second_spouse=identity_of(second),
                    marriage_date=wire_date(day),
                    entry_number=entry,
                ),
                timeout=_TIMEOUT,
            )

    def register_death(
        self, person: Stated, day: date, *, entry: str, request_id: str = ""
    ) -> civil_status_pb2.RegisterDeathResponse:
        """Register a death."""
        with self._calling(civil_status_pb2_grpc.CivilStatusServiceStub) as stub:
            return stub.RegisterDeath(
                civil_status_pb2.RegisterDeathRequest(
                    **_act(self._ground(f"HT/{entry}"), request_id),
                    identity=identity_of(person),
                    death_date=wire_date(day),
                    entry_number=entry,
                ),
                timeout=_TIMEOUT,
            )

    def correct_birth_date(
        self, person: Stated, birth_date: date, day: date, *, entry: str, request_id: str = ""
    ) -> civil_status_pb2.CorrectBirthResponse:
        """Correct a birth date, decided on a day."""
        with self._calling(civil_status_pb2_grpc.CivilStatusServiceStub) as stub:
            return stub.CorrectBirth(
                civil_status_pb2.CorrectBirthRequest(
                    **_act(self._ground(f"HT/{entry}"), request_id),
                    identity=identity_of(person),
                    correction=civil_status_pb2.BirthCorrection(birth_date=wire_date(birth_date)),
                    corrected_mask=FieldMask(paths=["birth_date"]),
                    decision_date=wire_date(day),
                    entry_number=entry,
                ),
                timeout=_TIMEOUT,
            )

    def annul(self, act_id: str, day: date, *, entry: str, request_id: str = "") -> civil_status_pb2.AnnulActResponse:
        """Annul a marriage or a death."""
        with self._calling(civil_status_pb2_grpc.CivilStatusServiceStub) as stub:
            return stub.AnnulAct(
                civil_status_pb2.AnnulActRequest(
                    **_act(self._ground(f"HT/{entry}"), request_id),
                    act_id=act_id,
                    decision_date=wire_date(day),
                    entry_number=entry,
                ),
                timeout=_TIMEOUT,
            )

    def civil_status(self, person: Stated, *, case: str) -> civil_status_pb2.GetCivilStatusResponse:
        """Read a person's civil status."""
        with self._calling(civil_status_pb2_grpc.CivilStatusServiceStub) as stub:
            request = civil_status_pb2.GetCivilStatusRequest(access=self._ground(case), identity=identity_of(person))
            return stub.GetCivilStatus(request, timeout=_TIMEOUT)


class ResidenceOffice(_Office):
    """A residence office."""

    def __init__(self, client: Client, ground: Callable[[str], AccessContext]) -> None:
        super().__init__(client, ground, "residence")

    def register_permanent(
        self,
        person: Stated,
        address: Address,
        start: date,
        *,
        case: str,
        household: residence_pb2.Joining | None = None,
        follows: str = "",
        request_id: str = "",
    ) -> residence_pb2.RegisterResidenceResponse:
        """Register a permanent residence, by default founding or joining no household and following no other act."""
        with self._calling(residence_pb2_grpc.ResidenceServiceStub) as stub:
            return stub.RegisterResidence(
                residence_pb2.RegisterResidenceRequest(
                    **_act(self._ground(case), request_id),
                    identity=identity_of(person),
                    kind=residence_pb2.RESIDENCE_KIND_PERMANENT,
                    address=address,
                    start_date=wire_date(start),
                    household=household,
                    follows_act_id=follows,
                ),
                timeout=_TIMEOUT,
            )

    def close(
        self,
        residence_id: str,
        ground: "residence_pb2.ClosingGround.ValueType",
        day: date,
        *,
        case: str,
        request_id: str = "",
    ) -> residence_pb2.CloseResidenceResponse:
        """Close a residence."""
        with self._calling(residence_pb2_grpc.ResidenceServiceStub) as stub:
            return stub.CloseResidence(
                residence_pb2.CloseResidenceRequest(
                    **_act(self._ground(case), request_id),
                    residence_id=residence_id,
                    ground=ground,
                    closing_date=wire_date(day),
                ),
                timeout=_TIMEOUT,
            )

    def residence(self, person: Stated, *, case: str) -> residence_pb2.GetResidenceResponse:
        """Read a person's residences and household."""
        with self._calling(residence_pb2_grpc.ResidenceServiceStub) as stub:
            request = residence_pb2.GetResidenceRequest(access=self._ground(case), identity=identity_of(person))
            return stub.GetResidence(request, timeout=_TIMEOUT)


class IdentityOffice(_Office):
    """An identity office."""

    def __init__(self, client: Client, ground: Callable[[str], AccessContext]) -> None:
        super().__init__(client, ground, "identity")

    def request_card(self, person: Stated, *, case: str, request_id: str = "") -> card_pb2.RequestCardResponse:
        """Take in a request for a card."""
        with self._calling(card_pb2_grpc.CardServiceStub) as stub:
            request = card_pb2.RequestCardRequest(**_act(self._ground(case), request_id), identity=identity_of(person))
            return stub.RequestCard(request, timeout=_TIMEOUT)

    def issue_card(
        self, card_id: str, document_number: str, day: date, *, case: str, request_id: str = ""
    ) -> card_pb2.IssueCardResponse:
        """Issue a requested card."""
        with self._calling(card_pb2_grpc.CardServiceStub) as stub:
            return stub.IssueCard(
                card_pb2.IssueCardRequest(
                    **_act(self._ground(case), request_id),
                    card_id=card_id,
                    document_number=document_number,
                    issue_date=wire_date(day),
                    issuing_office="Bộ Công an",
                ),
                timeout=_TIMEOUT,
            )

    def cards(self, person: Stated, *, case: str) -> card_pb2.GetCardsResponse:
        """Read a person's cards."""
        with self._calling(card_pb2_grpc.CardServiceStub) as stub:
            request = card_pb2.GetCardsRequest(access=self._ground(case), identity=identity_of(person))
            return stub.GetCards(request, timeout=_TIMEOUT)

    def resolve(self, pin: str, *, case: str) -> number_pb2.ResolvePinResponse:
        """What became of a number."""
        with self._calling(number_pb2_grpc.NumberServiceStub) as stub:
            return stub.ResolvePin(number_pb2.ResolvePinRequest(access=self._ground(case), pin=pin), timeout=_TIMEOUT)


def wire_date(day: date) -> Date:
    """A whole date on the wire."""
    return Date(year=day.year, month=day.month, day=day.day)


def _act(access: AccessContext, request_id: str) -> dict[str, Any]:
    """The fields with which every act's request begins."""
    return {"request_id": request_id or str(uuid4()), "access": access}
