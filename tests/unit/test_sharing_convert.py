"""Requests and answers of lookups and of usage between wire and domain."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import access_pb2, evidence_pb2, person_pb2
from npd.sharing.v1 import lookup_pb2
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.errors import InvalidField, MaskEmpty, MaskUnknownPath, PageTokenInvalid
from services.mesh.core.evidence.entry import Outcome, Receipt
from services.mesh.core.evidence.log import StoredEntry
from services.mesh.core.person import text
from services.mesh.core.person.dates import PartialDate
from services.mesh.core.person.pin import SandboxPin
from services.mesh.core.person.stated import StatedIdentity
from services.mesh.core.rights import Access, Agency
from services.mesh.wire.access import access_from_wire
from services.mesh.wire.person import identity_from_wire
from services.sharing.lookup.convert import disclosure_to_wire, lookup_from_wire
from services.sharing.lookup.domain import Disclosure, Provenance
from services.sharing.usage import convert as usage
from services.sharing.usage.domain import Usage

NOW = datetime(2026, 3, 14, 17, 30, tzinfo=UTC)  # already the 15th in Viet Nam
ID = "6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21"
CALLER = Caller("spiffe://agency.test/tax/core", CallerKind.AGENCY, "tax/core", "tax", "core")
RECEIPT = Receipt("mesh.test/sharing", b"h" * 32)
ACCESS = access_pb2.AccessContext(agreement_id=ID, case_reference="HS-2026/17", officer_id="o-1")


def identity(**changes: Any) -> person_pb2.StatedIdentity:
    stated: dict[str, Any] = {
        "pin": "079303012345",
        "full_name": "Trần Thị Hòa",
        "birth_date": Date(year=1990, month=5),
    }
    return person_pb2.StatedIdentity(**(stated | changes))


def refused_field(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(InvalidField) as refused:
        call(*arguments, **named)
    [violation] = refused.value.violations
    return violation.field


# The ground


def test_a_ground_is_read() -> None:
    assert access_from_wire(ACCESS) == Access(ID, "HS-2026/17", "o-1")
    loud = access_pb2.AccessContext(agreement_id=ID.upper(), case_reference="a.b_c/d:e-f", officer_id="!~")
    assert access_from_wire(loud).agreement_id == ID


@pytest.mark.parametrize("reference", ["ab", "x" * 65, "hồ sơ", "a b", "a\nb", "079303012345", "HS-079303012345/2"])
def test_a_case_reference_is_one_and_never_a_pin(reference: str) -> None:
    wire = access_pb2.AccessContext(agreement_id=ID, case_reference=reference, officer_id="o-1")
    assert refused_field(access_from_wire, wire) == "access.case_reference"


@pytest.mark.parametrize("reference", ["07930301234", "0793030123456", "079303-012345"])
def test_other_numbers_are_good_references(reference: str) -> None:
    wire = access_pb2.AccessContext(agreement_id=ID, case_reference=reference, officer_id="o-1")
    assert access_from_wire(wire).case_reference == reference


@pytest.mark.parametrize("officer", ["", "x" * 65, "o 1", "ô", "o\x7f", "079303012345", "pin:079303012345"])
def test_an_officers_id_is_visible_and_never_a_pin(officer: str) -> None:
    wire = access_pb2.AccessContext(agreement_id=ID, case_reference="HS-1", officer_id=officer)
    assert refused_field(access_from_wire, wire) == "access.officer_id"


@pytest.mark.parametrize("agreement", ["", "a-1", ID[:-1], ID + "0", ID.replace("6", "g")])
def test_an_agreement_is_named_by_a_uuid(agreement: str) -> None:
    wire = access_pb2.AccessContext(agreement_id=agreement, case_reference="HS-1", officer_id="o-1")
    assert refused_field(access_from_wire, wire) == "access.agreement_id"


# The stated identity


def test_an_identity_is_read_as_it_is_matched_by() -> None:
    stated = identity_from_wire(identity(full_name="  TRẦN THỊ HOÀ "), NOW, sandbox=False)
    assert stated == StatedIdentity("079303012345", text.name_key("Trần Thị Hòa"), PartialDate(1990, 5))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"pin": "79303012345"}, "identity.pin"),
        ({"full_name": "x" * 201}, "identity.full_name"),
        ({"full_name": " \u200b\u00a0"}, "identity.full_name"),
        ({"birth_date": Date(month=5, day=1)}, "identity.birth_date"),
        ({"birth_date": Date(year=1990, day=1)}, "identity.birth_date"),
        ({"birth_date": Date(year=2026, month=3, day=16)}, "identity.birth_date"),
    ],
)
def test_an_impossible_identity_is_refused_by_its_field(changes: dict[str, Any], field: str) -> None:
    assert refused_field(identity_from_wire, identity(**changes), NOW, sandbox=True) == field


def test_today_is_the_legal_day() -> None:
    born_today = identity(birth_date=Date(year=2026, month=3, day=15))
    assert identity_from_wire(born_today, NOW, sandbox=False).birth_date == PartialDate(2026, 3, 15)
    with pytest.raises(InvalidField):
        identity_from_wire(born_today, NOW - timedelta(hours=1), sandbox=False)


def test_a_synthetic_pin_is_for_a_sandbox() -> None:
    synthetic = identity(pin="979303012345")
    assert identity_from_wire(synthetic, NOW, sandbox=True).pin == "979303012345"
    with pytest.raises(SandboxPin):
        identity_from_wire(synthetic, NOW, sandbox=False)


# Lookups


def request(*paths: str) -> lookup_pb2.GetCitizenRequest:
    return lookup_pb2.GetCitizenRequest(access=ACCESS, identity=identity(), read_mask=FieldMask(paths=paths))


def test_a_question_is_read() -> None:
    wire = request("sex", "father.name", "sex")
    wire.include_provenance = True
    question = lookup_from_wire(wire, CALLER, "/m", NOW, sandbox=False)
    assert (question.caller, question.method, question.access) == (CALLER, "/m", Access(ID, "HS-2026/17", "o-1"))
    assert (question.paths, question.include_provenance) == (("sex", "father.name"), True)


def test_a_question_names_fields_that_exist() -> None:
    with pytest.raises(MaskEmpty):
        lookup_from_wire(request(), CALLER, "/m", NOW, sandbox=False)
    for path in ("zodiac", "sex.", "other_names.full"):
        with pytest.raises(MaskUnknownPath):
            lookup_from_wire(request(path), CALLER, "/m", NOW, sandbox=False)


def test_no_match_shows_nothing_but_its_receipt() -> None:
    wire = disclosure_to_wire(Disclosure(Outcome.NO_MATCH, RECEIPT))
    assert {field.name for field, _ in wire.ListFields()} == {"outcome", "receipt"}
    assert wire.outcome == evidence_pb2.OUTCOME_NO_MATCH


def test_a_disclosure_shows_citizen_disputes_and_provenance() -> None:
    citizen = person_pb2.Person(sex=person_pb2.SEX_FEMALE)
    provenance = Provenance("sex", "", "identity", NOW - timedelta(days=1), NOW)
    wire = disclosure_to_wire(Disclosure(Outcome.DISCLOSED, RECEIPT, citizen, ("sex",), (provenance,)))
    assert (wire.outcome, wire.citizen, list(wire.disputed_paths)) == (evidence_pb2.OUTCOME_DISCLOSED, citizen, ["sex"])
    [origin] = wire.provenance
    assert (origin.path, origin.source, origin.record_time.ToDatetime(UTC)) == ("sex", "identity", NOW)
    assert (wire.receipt.log_origin, wire.receipt.leaf_hash) == ("mesh.test/sharing", b"h" * 32)


# Usage


def test_a_use_names_the_agency_as_it_is_registered_now() -> None:
    entry = evidence_pb2.LogEntry(agency_id="tax", method="/m", paths=["sex"])
    uses = tuple(StoredEntry(position, b"l" * 32, entry.SerializeToString()) for position in (9, 4))
    wire = usage.usage_to_wire(Usage(Outcome.DISCLOSED, RECEIPT, uses, next_before=4), {"tax": Agency("Tax office")})
    assert [(record.agency_name, record.entry) for record in wire.records] == [("Tax office", entry)] * 2
    assert wire.records[0].receipt.leaf_hash == b"l" * 32
    assert usage.before_from_wire(wire.next_page_token) == 4
    assert usage.usage_to_wire(Usage(Outcome.DISCLOSED, RECEIPT, uses), {}).records[0].agency_name == ""


def test_the_last_page_has_no_token_and_no_token_is_the_first_page() -> None:
    assert usage.usage_to_wire(Usage(Outcome.NO_MATCH, RECEIPT), {}).next_page_token == ""
    assert usage.before_from_wire("") is None


@settings(deadline=None)
@given(st.integers(0, 10**18 - 1))
def test_a_page_token_comes_back_as_it_was_given(position: int) -> None:
    token = usage.usage_to_wire(Usage(Outcome.DISCLOSED, RECEIPT, next_before=position), {}).next_page_token
    assert usage.before_from_wire(token) == position


@pytest.mark.parametrize("token", ["x", "!!", "bm90IGEgbnVtYmVy", "Nw", "é", "4pyT", "٧"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(PageTokenInvalid) as refused:
        usage.before_from_wire(token)
    assert refused.value.violations[0].field == "page_token"


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (200, 200)])
def test_a_page_has_a_size(asked: int, size: int) -> None:
    assert usage.page_size_from_wire(asked) == size


@pytest.mark.parametrize("asked", [-1, 201])
def test_an_impossible_size_is_refused(asked: int) -> None:
    assert refused_field(usage.page_size_from_wire, asked) == "page_size"
