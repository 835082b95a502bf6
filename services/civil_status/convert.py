"""Civil status on the wire and in the domain, turned into each other. Malformed input raises InvalidField."""

import re
from collections.abc import Iterable
from datetime import date, datetime
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from npd.civil_status.v1 import civil_status_pb2
from npd.common.v1 import evidence_pb2, person_pb2, place_pb2
from services.civil_status.domain import (
    AnnulmentFacts,
    BirthFacts,
    CivilStatus,
    Coded,
    CorrectedValues,
    CorrectionFacts,
    DeathFacts,
    Facts,
    MaritalStatus,
    MarriageFacts,
    Place,
    RegisteredAct,
    RegisteredBirth,
    Relative,
)
from services.mesh.core.clock import legal_date
from services.mesh.core.errors import InvalidField, MaskEmpty, MaskUnknownPath
from services.mesh.core.people import Name
from services.mesh.core.person.stated import require_happened
from services.mesh.core.person.validity import normalise
from services.mesh.wire.access import uuid_from_wire
from services.mesh.wire.person import day_from_wire, day_to_wire, identity_from_wire, name_to_wire

_ENTRY_NUMBER = re.compile(r"[A-Za-z0-9._/:-]{1,40}", re.ASCII)
_FIELD_NAME = re.compile(r"[a-z_][a-z_.]{0,99}", re.ASCII)
_ETHNICITIES = "2008"
_ETHNICITY = re.compile(r"[0-9]{2}", re.ASCII)
_VIET_NAM = "VN"


def birth_from_wire(request: civil_status_pb2.RegisterBirthRequest, now: datetime, *, sandbox: bool) -> BirthFacts:
    """What a birth registration says, normalised. Raises InvalidField, EventInFuture, SandboxPin."""
    wire, today = civil_status_pb2.Birth(), legal_date(now)
    wire.CopyFrom(request.birth)
    day = require_happened(day_from_wire(wire.birth_date, "birth.birth_date"), "birth.birth_date", today)
    normalise(wire, "birth.", today, sandbox=sandbox)
    assembled = person_pb2.Person(nationalities=wire.nationalities)
    for role in ("mother", "father"):
        if wire.HasField(role):
            getattr(assembled, role).MergeFrom(_related(getattr(wire, role)))
    normalise(assembled, "birth.", today, sandbox=sandbox)
    return BirthFacts(
        name=_name(wire.full_name),
        birth_date=day,
        sex=int(wire.sex),
        place_of_birth=_place(wire.place_of_birth, "birth.place_of_birth"),
        registration_place=_place(wire.registration_place, "birth.registration_place"),
        hometown=_place(wire.hometown, "birth.hometown"),
        ethnicity=_ethnicity(wire.ethnicity, "birth.ethnicity"),
        nationalities=tuple(dict.fromkeys(wire.nationalities)),
        mother=_parent(wire.mother, "birth.mother") if wire.HasField("mother") else None,
        father=_parent(wire.father, "birth.father") if wire.HasField("father") else None,
        entry_number=_entry_number(request.entry_number),
    )


def marriage_from_wire(
    request: civil_status_pb2.RecordMarriageRequest, now: datetime, *, sandbox: bool
) -> MarriageFacts:
    """What the record of a marriage says. Raises InvalidField, SandboxPin."""
    return MarriageFacts(
        identity_from_wire(request.first_spouse, now, sandbox=sandbox, field="first_spouse"),
        identity_from_wire(request.second_spouse, now, sandbox=sandbox, field="second_spouse"),
        day_from_wire(request.marriage_date, "marriage_date"),
        _entry_number(request.entry_number),
    )


def death_from_wire(request: civil_status_pb2.RegisterDeathRequest, now: datetime, *, sandbox: bool) -> DeathFacts:
    """What the registration of a death says. Raises InvalidField, SandboxPin."""
    return DeathFacts(
        identity_from_wire(request.identity, now, sandbox=sandbox),
        day_from_wire(request.death_date, "death_date"),
        _entry_number(request.entry_number),
    )


def correction_from_wire(
    request: civil_status_pb2.CorrectBirthRequest, now: datetime, *, sandbox: bool
) -> CorrectionFacts:
    """What a correction says: only what its mask names. Raises InvalidField, MaskEmpty, MaskUnknownPath, SandboxPin."""
    paths, wire = _corrected_paths(request.corrected_mask), civil_status_pb2.BirthCorrection()
    for path in paths:
        if not request.correction.HasField(path):  # type: ignore[arg-type]  # the stub wants a literal
            raise InvalidField(f"correction.{path}", "is required: the mask names it")
        getattr(wire, path).CopyFrom(getattr(request.correction, path))
    today = legal_date(now)
    if "birth_date" in paths:
        day = day_from_wire(wire.birth_date, "correction.birth_date")
        require_happened(day, "correction.birth_date", today)
    normalise(wire, "correction.", today, sandbox=sandbox)
    return CorrectionFacts(
        identity_from_wire(request.identity, now, sandbox=sandbox),
        _corrected(wire, paths),
        day_from_wire(request.decision_date, "decision_date"),
        _entry_number(request.entry_number),
    )


def annulment_from_wire(request: civil_status_pb2.AnnulActRequest) -> AnnulmentFacts:
    """Which act is annulled, by which decision. Raises InvalidField."""
    return AnnulmentFacts(
        UUID(uuid_from_wire(request.act_id, "act_id")),
        day_from_wire(request.decision_date, "decision_date"),
        _entry_number(request.entry_number),
    )


def birth_to_wire(registered: RegisteredBirth) -> civil_status_pb2.RegisterBirthResponse:
    """A birth as registered."""
    return civil_status_pb2.RegisterBirthResponse(act=act_to_wire(registered.act), pin=registered.pin)


def act_to_wire(act: RegisteredAct) -> civil_status_pb2.Act:
    """An act as registered."""
    wire = civil_status_pb2.Act(
        act_id=str(act.act_id),
        kind=act.kind.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        event_date=day_to_wire(act.event_date),
        register_time=Timestamp(),
        entry_number=act.entry_number,
        annulled_by=str(act.annulled_by or ""),
    )
    wire.register_time.FromDatetime(act.register_time)
    return wire


def status_to_wire(status: CivilStatus | None) -> civil_status_pb2.GetCivilStatusResponse:
    """What an officer is shown; None: NO_MATCH."""
    if status is None:
        return civil_status_pb2.GetCivilStatusResponse(outcome=evidence_pb2.OUTCOME_NO_MATCH)
    return civil_status_pb2.GetCivilStatusResponse(
        outcome=evidence_pb2.OUTCOME_DISCLOSED,
        marital_status=status.marital.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        spouse=_relative_to_wire(status.spouse),
        death=_death_to_wire(status.death_date),
        acts=map(act_to_wire, status.acts),
    )


def facts_to_bytes(facts: Facts) -> bytes:
    """What is told of a person, as a serialised npd.common.v1.Person."""
    wire = person_pb2.Person(
        full_name=name_to_wire(facts.full_name),
        birth_date=day_to_wire(facts.birth_date),
        sex=facts.sex,  # type: ignore[arg-type]  # as it came from the wire
        place_of_birth=_place_to_wire(facts.place_of_birth),
        birth_registration_place=_place_to_wire(facts.birth_registration_place),
        hometown=_place_to_wire(facts.hometown),
        ethnicity=_coded_to_wire(facts.ethnicity),
        nationalities=facts.nationalities,
        marital_status=facts.marital_status.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        mother=_relative_to_wire(facts.mother),
        father=_relative_to_wire(facts.father),
        children=_relatives_to_wire(facts.children),
        spouses=_relatives_to_wire(facts.spouses),
        death_or_missing=_death_to_wire(facts.death_date),
    )
    return wire.SerializeToString(deterministic=True)


def spouse_pins_from_bytes(person: bytes) -> tuple[str, ...]:
    """The numbers of the spouses whom a change tells of; empty for one who has none."""
    return tuple(spouse.pin for spouse in person_pb2.Person.FromString(person).spouses)


def marital_status_from_bytes(person: bytes) -> MaritalStatus:
    """The marital status that a serialised npd.common.v1.Person tells."""
    return MaritalStatus(person_pb2.Person.FromString(person).marital_status)


def _corrected_paths(mask: FieldMask) -> tuple[str, ...]:
    paths = tuple(dict.fromkeys(mask.paths))
    if not paths:
        raise MaskEmpty("corrected_mask", "must name at least one field")
    for path in paths:
        if path not in civil_status_pb2.BirthCorrection.DESCRIPTOR.fields_by_name:
            shown = path if _FIELD_NAME.fullmatch(path) else "something that is no field name"
            raise MaskUnknownPath("corrected_mask", "must name top-level fields of BirthCorrection", field=shown)
    return paths


def _corrected(wire: civil_status_pb2.BirthCorrection, paths: Iterable[str]) -> CorrectedValues:
    named = set(paths)
    return CorrectedValues(
        full_name=_name(wire.full_name) if "full_name" in named else None,
        birth_date=day_from_wire(wire.birth_date, "correction.birth_date") if "birth_date" in named else None,
        place_of_birth=(
            _place(wire.place_of_birth, "correction.place_of_birth") if "place_of_birth" in named else None
        ),
        hometown=_place(wire.hometown, "correction.hometown") if "hometown" in named else None,
        ethnicity=_ethnicity(wire.ethnicity, "correction.ethnicity") if "ethnicity" in named else None,
    )


def _entry_number(value: str) -> str:
    if not _ENTRY_NUMBER.fullmatch(value):
        raise InvalidField("entry_number", "must be 1 to 40 letters, digits and . _ / : -")
    return value


def _place(wire: place_pb2.AdminPlace, field: str) -> Place:
    """A unit of Viet Nam with its list, or another country."""
    if wire.unit_code and wire.country_code not in ("", _VIET_NAM):
        raise InvalidField(f"{field}.country_code", "must be empty or VN beside a unit")
    if not wire.unit_code and wire.country_code in ("", _VIET_NAM):
        raise InvalidField(f"{field}.unit_code", "is required for a place in Viet Nam")
    return Place(wire.unit_code, wire.unit_list_version, wire.country_code)


def _ethnicity(wire: person_pb2.CodedValue, field: str) -> Coded:
    if wire.list_version != _ETHNICITIES or not _ETHNICITY.fullmatch(wire.code):
        raise InvalidField(field, f"must be a two-digit code of the list of {_ETHNICITIES}")
    return Coded(wire.code, wire.list_version, wire.alternative_name)


def _parent(wire: civil_status_pb2.Parent, field: str) -> Relative:
    if not wire.name.full and not wire.pin:
        raise InvalidField(f"{field}.name", "is required of a parent without a PIN")
    return Relative(_name(wire.name), wire.pin, wire.nationality)


def _related(wire: civil_status_pb2.Parent) -> person_pb2.RelatedPerson:
    return person_pb2.RelatedPerson(pin=wire.pin, nationality=wire.nationality)


def _name(wire: person_pb2.PersonName) -> Name:
    return Name(wire.family, wire.middle, wire.given, wire.full)


def _place_to_wire(place: Place | None) -> place_pb2.AdminPlace | None:
    if place is None:
        return None
    return place_pb2.AdminPlace(
        unit_code=place.unit_code, unit_list_version=place.unit_list_version, country_code=place.country_code
    )


def _coded_to_wire(coded: Coded | None) -> person_pb2.CodedValue | None:
    if coded is None:
        return None
    return person_pb2.CodedValue(
        code=coded.code, list_version=coded.list_version, alternative_name=coded.alternative_name
    )


def _relative_to_wire(relative: Relative | None) -> person_pb2.RelatedPerson | None:
    if relative is None:
        return None
    name = name_to_wire(relative.name)
    return person_pb2.RelatedPerson(name=name, pin=relative.pin, nationality=relative.nationality)


def _relatives_to_wire(relatives: Iterable[Relative]) -> list[person_pb2.RelatedPerson]:
    return [wire for relative in relatives if (wire := _relative_to_wire(relative)) is not None]


def _death_to_wire(day: date | None) -> person_pb2.DeathOrMissing | None:
    if day is None:
        return None
    return person_pb2.DeathOrMissing(kind=person_pb2.DEATH_OR_MISSING_KIND_DEAD, date=day_to_wire(day))
