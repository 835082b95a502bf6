"""Residence on the wire and in the domain, turned into each other. Malformed input raises InvalidField."""

import re
from collections.abc import Collection
from datetime import date, datetime
from uuid import UUID

from google.type import date_pb2

from npd.common.v1 import evidence_pb2, person_pb2, place_pb2
from npd.residence.v1 import residence_pb2
from services.mesh.core.clock import legal_date
from services.mesh.core.errors import FieldRequired, InvalidField, Violation
from services.mesh.core.following import FollowedChange
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.validity import normalise
from services.mesh.wire.access import uuid_from_wire
from services.mesh.wire.person import day_from_wire, day_to_wire, identity_from_wire, name_to_wire, partial_to_wire
from services.residence.domain import (
    Address,
    Closing,
    ClosingGround,
    Disclosure,
    Facts,
    HeldResidence,
    NewResidence,
    Residence,
    ResidenceAct,
    ResidenceKind,
)
from services.residence.household import HeldMembership, Household, HouseholdAct, Joining, Member, Relation

_CODE = re.compile(r"[0-9]{1,8}", re.ASCII)
_KINDS = frozenset(kind.value for kind in ResidenceKind)
# death, removal and expiry are found out by the mesh, never stated
_STATED_GROUNDS = frozenset(ground.value for ground in ClosingGround) - {
    ClosingGround.DEATH.value,
    ClosingGround.MOVED.value,
    ClosingGround.EXPIRED.value,
}


def new_residence_from_wire(
    wire: residence_pb2.RegisterResidenceRequest, now: datetime, *, sandbox: bool
) -> NewResidence:
    """A residence to register. Raises InvalidField, FieldRequired, SandboxPin."""
    identity = identity_from_wire(wire.identity, now, sandbox=sandbox)
    if wire.kind not in _KINDS:
        raise InvalidField("kind", "must be a kind of the contract")
    kind, today = ResidenceKind(wire.kind), legal_date(now)
    normalise(wire.address, "address.", today, sandbox=sandbox)
    start_date = day_from_wire(wire.start_date, "start_date")
    joining = None
    if wire.HasField("household"):
        if kind is ResidenceKind.TEMPORARY:
            raise InvalidField("household", "goes with a permanent residence only")
        joining = _joining(wire.household, today, sandbox=sandbox)
    follows = UUID(uuid_from_wire(wire.follows_act_id, "follows_act_id")) if wire.follows_act_id else None
    end_date = _end_date(wire, kind, start_date)
    return NewResidence(identity, kind, _address(wire.address), start_date, end_date, joining, follows)


def closing_from_wire(wire: residence_pb2.CloseResidenceRequest) -> Closing:
    """A residence to close. Raises InvalidField."""
    residence_id = UUID(uuid_from_wire(wire.residence_id, "residence_id"))
    if wire.ground not in _STATED_GROUNDS:
        raise InvalidField("ground", "must be a ground of the contract, and neither DEATH nor MOVED nor EXPIRED")
    return Closing(residence_id, ClosingGround(wire.ground), day_from_wire(wire.closing_date, "closing_date"))


def household_id_from_wire(wire: residence_pb2.NameHeadRequest) -> UUID:
    """The household. Raises InvalidField."""
    return UUID(uuid_from_wire(wire.household_id, "household_id"))


def held_from_change(change: FollowedChange) -> list[HeldResidence]:
    """What a change says that the record holds now, of each kind of residence that it tells of."""
    person, held = person_pb2.Person.FromString(change.person), []
    if ResidenceKind.PERMANENT.path in change.paths:
        address = _address(person.permanent_residence) if person.HasField("permanent_residence") else None
        held.append(HeldResidence(ResidenceKind.PERMANENT, address))
    if ResidenceKind.TEMPORARY.path in change.paths:
        stay = person.temporary_residence
        address = _address(stay.address) if person.HasField("temporary_residence") else None
        held.append(
            HeldResidence(
                ResidenceKind.TEMPORARY, address, _day_if_whole(stay.start_date), _day_if_whole(stay.end_date)
            )
        )
    return held


def membership_from_change(change: FollowedChange) -> HeldMembership | None:
    """What a change says that the record holds now of a person's household; None if it does not tell of one."""
    if "household" not in change.paths:
        return None
    person, relation = person_pb2.Person.FromString(change.person), None
    if person.HasField("relation_to_head"):
        coded = person.relation_to_head
        relation = Relation(coded.code, coded.list_version, coded.alternative_name)
    return HeldMembership(person.household.head.pin, relation)


def facts_to_bytes(facts: Facts, paths: Collection[str]) -> bytes:
    """What the record is told of a person: the facts of these paths, and no others."""
    wire = person_pb2.Person()
    if facts.permanent is not None:
        wire.permanent_residence.CopyFrom(_address_to_wire(facts.permanent))
    if facts.temporary is not None:
        stay = facts.temporary
        wire.temporary_residence.CopyFrom(
            person_pb2.TemporaryResidence(
                address=_address_to_wire(stay.address),
                start_date=day_to_wire(stay.start_date),
                end_date=day_to_wire(stay.end_date),
            )
        )
    if facts.current is not None:
        wire.current_residence.CopyFrom(_address_to_wire(facts.current))
    if facts.relation is not None:
        wire.relation_to_head.CopyFrom(_relation_to_wire(facts.relation))
    if facts.household is not None:
        wire.household.SetInParent()
        for member in facts.household.in_order:
            target = wire.household.head if member.is_head else wire.household.members.add()
            target.CopyFrom(person_pb2.RelatedPerson(name=name_to_wire(member.name), pin=member.pin))
    for field, _ in wire.ListFields():
        if field.name not in paths:
            wire.ClearField(field.name)  # type: ignore[arg-type]  # the stub wants a literal
    return wire.SerializeToString(deterministic=True)


def registered_to_wire(done: ResidenceAct) -> residence_pb2.RegisterResidenceResponse:
    """The residence as registered."""
    return residence_pb2.RegisterResidenceResponse(
        residence=_residence_to_wire(done.residence), act_id=str(done.act_id)
    )


def closed_to_wire(done: ResidenceAct) -> residence_pb2.CloseResidenceResponse:
    """The residence as closed."""
    return residence_pb2.CloseResidenceResponse(residence=_residence_to_wire(done.residence), act_id=str(done.act_id))


def headed_to_wire(done: HouseholdAct) -> residence_pb2.NameHeadResponse:
    """The household under its head."""
    return residence_pb2.NameHeadResponse(household=_household_to_wire(done.household), act_id=str(done.act_id))


def disclosure_to_wire(disclosure: Disclosure) -> residence_pb2.GetResidenceResponse:
    """What an officer is shown."""
    if not disclosure.is_match:
        return residence_pb2.GetResidenceResponse(outcome=evidence_pb2.OUTCOME_NO_MATCH)
    household = disclosure.household
    return residence_pb2.GetResidenceResponse(
        outcome=evidence_pb2.OUTCOME_DISCLOSED,
        residences=map(_residence_to_wire, disclosure.residences),
        household=_household_to_wire(household) if household is not None else None,
    )


def _joining(wire: residence_pb2.Joining, today: date, *, sandbox: bool) -> Joining:
    relation = None
    if wire.HasField("relation_to_head"):
        normalise(wire.relation_to_head, "household.relation_to_head.", today, sandbox=sandbox)
        if not _CODE.fullmatch(wire.relation_to_head.code):
            raise InvalidField("household.relation_to_head.code", "must be 1 to 8 digits 0-9")
        coded = wire.relation_to_head
        relation = Relation(coded.code, coded.list_version, coded.alternative_name)
    if not wire.household_id:
        if relation is not None:
            raise InvalidField("household.relation_to_head", "must be absent: who founds a household is its head")
        return Joining(None, None)
    if relation is None:
        raise FieldRequired(Violation("household.relation_to_head", "is required of who joins a household"))
    return Joining(UUID(uuid_from_wire(wire.household_id, "household.household_id")), relation)


def _end_date(wire: residence_pb2.RegisterResidenceRequest, kind: ResidenceKind, start_date: date) -> date | None:
    if kind is ResidenceKind.PERMANENT:
        if wire.HasField("end_date"):
            raise InvalidField("end_date", "goes with a temporary residence only")
        return None
    if not wire.HasField("end_date"):
        raise FieldRequired(Violation("end_date", "is required of a temporary residence"))
    end_date = day_from_wire(wire.end_date, "end_date")
    if end_date <= start_date:
        raise InvalidField("end_date", "must lie after the first day")
    return end_date


def _address(wire: place_pb2.Address) -> Address:
    place, day = wire.place, wire.as_of_date
    return Address(
        place.unit_code,
        place.unit_list_version,
        place.country_code,
        wire.detail_text,
        PartialDate(day.year, day.month, day.day),
    )


def _day_if_whole(wire: date_pb2.Date) -> date | None:
    """A day of the record, which may hold none, or one that is known in part only."""
    return day_from_wire(wire, "") if wire.year and wire.month and wire.day else None


def _address_to_wire(address: Address) -> place_pb2.Address:
    place = place_pb2.AdminPlace(
        unit_code=address.unit_code, unit_list_version=address.unit_list_version, country_code=address.country_code
    )
    return place_pb2.Address(
        place=place if place.ListFields() else None,
        detail_text=address.detail_text,
        as_of_date=partial_to_wire(address.as_of_date) if address.as_of_date.year else None,
    )


def _residence_to_wire(residence: Residence) -> residence_pb2.Residence:
    return residence_pb2.Residence(
        residence_id=str(residence.residence_id),
        kind=residence.kind.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        address=_address_to_wire(residence.address),
        start_date=day_to_wire(residence.start_date),
        end_date=day_to_wire(residence.end_date),
        household_id=str(residence.household_id) if residence.household_id else "",
        state=residence.state.value,  # type: ignore[arg-type]  # as above
        ground=residence.ground.value if residence.ground else None,  # type: ignore[arg-type]  # as above
        closing_date=day_to_wire(residence.closing_date),
    )


def _household_to_wire(household: Household) -> residence_pb2.Household:
    return residence_pb2.Household(
        household_id=str(household.household_id), members=map(_member_to_wire, household.in_order)
    )


def _member_to_wire(member: Member) -> residence_pb2.Member:
    return residence_pb2.Member(
        name=name_to_wire(member.name),
        pin=member.pin,
        relation_to_head=_relation_to_wire(member.relation) if member.relation else None,
        is_head=member.is_head,
    )


def _relation_to_wire(relation: Relation) -> person_pb2.CodedValue:
    return person_pb2.CodedValue(
        code=relation.code, list_version=relation.list_version, alternative_name=relation.alternative_name
    )
