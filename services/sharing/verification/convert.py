"""Verification between wire and domain."""

import re
from collections import Counter
from datetime import datetime

from google.protobuf.message import Message

from npd.common.v1 import evidence_pb2, place_pb2
from npd.sharing.v1 import verification_pb2
from services.mesh.core import places
from services.mesh.core.caller import Caller
from services.mesh.core.clock import legal_date
from services.mesh.core.errors import InvalidField
from services.mesh.core.person.validity import normalise
from services.mesh.wire.access import access_from_wire
from services.mesh.wire.evidence import receipt_to_wire
from services.mesh.wire.person import identity_from_wire
from services.sharing.record.fields import require_top_level, values_of
from services.sharing.verification.domain import (
    HOME_COUNTRY,
    AgeAtLeast,
    Alive,
    Claimed,
    HasNationality,
    Predicate,
    ResidesIn,
    Verdict,
    Verdicts,
    Verification,
)

_CLAIMED_BYTES = 64 << 10
_ITEMS_LIMIT = 100
_PREDICATES_OF_A_KIND = 3
_OLDEST = 150
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)


def verification_from_wire(
    request: verification_pb2.VerifyCitizenRequest, caller: Caller, method: str, now: datetime, *, sandbox: bool
) -> Verification:
    """Claims. Raises InvalidField, MaskUnknownPath, SandboxPin."""
    if not request.claimed_mask.paths and not request.predicates:
        raise InvalidField("claimed_mask", "must name at least one field, unless there are predicates")
    kinds = Counter(predicate.WhichOneof("claim") for predicate in request.predicates)
    if max(kinds.values(), default=0) > _PREDICATES_OF_A_KIND:
        raise InvalidField("predicates", f"must not be more than {_PREDICATES_OF_A_KIND} of one kind")
    if request.claimed.ByteSize() > _CLAIMED_BYTES:
        raise InvalidField("claimed", f"must not be larger than {_CLAIMED_BYTES // 1024} KiB")
    _require_few_items(request.claimed, "claimed.")
    mask = request.claimed_mask
    paths = require_top_level(mask, "claimed_mask") if mask.paths else ()
    normalise(request.claimed, "claimed.", legal_date(now), sandbox=sandbox)
    return Verification(
        caller=caller,
        method=method,
        access=access_from_wire(request.access),
        identity=identity_from_wire(request.identity, now, sandbox=sandbox),
        claims=tuple(Claimed(path, tuple(values_of(request.claimed, [path]))) for path in paths),
        predicates=tuple(_predicate(wire, f"predicates[{nth}]") for nth, wire in enumerate(request.predicates)),
    )


def verdicts_to_wire(verdicts: Verdicts) -> verification_pb2.VerifyCitizenResponse:
    """The answer."""
    return verification_pb2.VerifyCitizenResponse(
        outcome=evidence_pb2.Outcome.Name(verdicts.outcome.value),  # type: ignore[arg-type]
        fields=[
            verification_pb2.FieldVerdict(path=path, verdict=_verdict(verdict)) for path, verdict in verdicts.fields
        ],
        predicates=map(_verdict, verdicts.predicates),
        receipt=receipt_to_wire(verdicts.receipt),
    )


def _require_few_items(message: Message, prefix: str) -> None:
    for field, value in message.ListFields():
        if field.is_repeated and len(value) > _ITEMS_LIMIT:
            raise InvalidField(f"{prefix}{field.name}", f"must not be more than {_ITEMS_LIMIT}")
        if isinstance(value, Message):
            _require_few_items(value, f"{prefix}{field.name}.")


def _verdict(verdict: Verdict) -> "verification_pb2.Verdict.ValueType":
    return verification_pb2.Verdict.Value(f"VERDICT_{verdict.name}")


def _predicate(wire: verification_pb2.Predicate, field: str) -> Predicate:
    match wire.WhichOneof("claim"):
        case "age_at_least":
            if not 1 <= wire.age_at_least <= _OLDEST:
                raise InvalidField(f"{field}.age_at_least", f"must lie between 1 and {_OLDEST}")
            return AgeAtLeast(wire.age_at_least)
        case "alive":
            return Alive(wire.alive)
        case "resides_in":
            return _resides_in(wire.resides_in, f"{field}.resides_in")
        case "has_nationality":
            if not _COUNTRY.fullmatch(wire.has_nationality):
                raise InvalidField(f"{field}.has_nationality", "must be a country code of two capital letters")
            return HasNationality(wire.has_nationality)
        case _:
            raise InvalidField(field, "must claim something")


def _resides_in(wire: place_pb2.AdminPlace, field: str) -> ResidesIn:
    if wire.unit_list_version not in places.LIST_VERSIONS:
        raise InvalidField(f"{field}.unit_list_version", f"must be one of {', '.join(places.LIST_VERSIONS)}")
    if wire.unit_code not in places.units_of(wire.unit_list_version):
        raise InvalidField(f"{field}.unit_code", "must be a unit of the list that unit_list_version names")
    if wire.country_code not in ("", HOME_COUNTRY):
        raise InvalidField(f"{field}.country_code", "must be empty: units are those of Viet Nam")
    return ResidesIn(wire.unit_code, wire.unit_list_version)
