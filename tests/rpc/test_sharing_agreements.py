"""Nothing leaves without an agreement that is the caller's, signed by both sides, in force, and wide enough."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message

from npd.common.v1.access_pb2 import AccessMode
from npd.common.v1.person_pb2 import Person
from npd.registry.v1 import agency_pb2, agreement_pb2
from npd.registry.v1.policy_pb2 import PolicyEntry, PolicyUpdate, Purpose
from npd.sharing.v1.change_pb2 import PullChangesRequest, WatchChangesRequest
from npd.sharing.v1.lookup_pb2 import GetCitizenRequest
from npd.sharing.v1.usage_pb2 import FindUsageRequest
from npd_client.errors import Refusal
from npd_pki.identity import Kind
from services.mesh.core.clock import legal_date
from services.mesh.wire.policy import CONTEXT, SignedUpdate
from tests.mesh_fixture import ENVIRONMENT, Desk, Stage, new_id, today, wire_date
from tests.rpc.test_sharing_callers import CHANGES, DISCLOSED, LOOKUP, Party, Scene, bare, stated


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> Scene:
    return Scene(stage, desk)


@pytest.fixture(scope="module")
def tax(scene: Scene) -> Party:
    return scene.system("tax/core", {LOOKUP: ["sex", "religion"]})


@pytest.fixture(scope="module")
def person(scene: Scene) -> Person:
    return scene.citizen()


def refuse(scene: Scene, party: Party, person: Person, reason: str, *paths: str) -> Refusal:
    """The refusal of a lookup on the ground of the agreement; it names the agreement."""
    refusal = scene.refuse(party, party.lookup.GetCitizen, party.asks(person, *paths), reason)
    assert refusal.code.name == "PERMISSION_DENIED"
    return refusal


def require_disclosed(scene: Scene, party: Party, person: Person, *paths: str) -> None:
    """A lookup that is answered, and recorded as such."""
    with scene.recording() as entries:
        assert party.get_citizen(person, *paths).outcome == DISCLOSED
    expected = party.entry(GetCitizenRequest, DISCLOSED, LOOKUP, *(paths or ["sex"]))
    assert [bare(entry) for entry in entries] == [expected]


@contextmanager
def told(scene: Scene, meanwhile: PolicyEntry, afterwards: PolicyEntry) -> Iterator[None]:
    """While the block runs, the sharing room is told, under the registry's key, what its store does not hold."""
    tell_policy(scene, meanwhile)
    try:
        yield
    finally:
        tell_policy(scene, afterwards)


def tell_policy(scene: Scene, entry: PolicyEntry) -> None:
    keeper = scene.sharing.house.keeper
    revision = keeper.current.revision
    update = PolicyUpdate(environment=ENVIRONMENT, base_revision=revision, revision=revision, entries=[entry])
    update.issue_time.FromDatetime(datetime.now(UTC))
    stated = update.SerializeToString()
    keeper.take(SignedUpdate(stated, scene.stage.policy_key.sign(CONTEXT + stated)))


def agreement_of(scene: Scene, party: Party) -> agreement_pb2.Agreement:
    """The agreement as the registry keeps it."""
    request = agreement_pb2.ListAgreementsRequest(agency_id=party.agency_id, page_size=100)
    agreements = scene.desk.agreements.ListAgreements(request).agreements
    terms = agreement_pb2.AgreementTerms
    return next(one for one in agreements if terms.FromString(one.terms).agreement_id == party.access.agreement_id)


def test_agreement_of_another_system_is_refused(scene: Scene, tax: Party, person: Person) -> None:
    customs = scene.system("tax/customs", {LOOKUP: ["sex"]})
    require_disclosed(scene, customs, person)
    borrowed = Party(scene.sharing, Kind.AGENCY, "tax/customs", tax.access.agreement_id)
    refusal = refuse(scene, borrowed, person, "AGREEMENT_FOREIGN")
    assert refusal.metadata == {"agreement": tax.access.agreement_id}


def test_agreement_that_nobody_knows_is_refused(scene: Scene, tax: Party, person: Person) -> None:
    stranger = Party(scene.sharing, Kind.AGENCY, "tax/core", new_id())
    refusal = refuse(scene, stranger, person, "AGREEMENT_UNKNOWN")
    assert refusal.metadata == {"agreement": stranger.access.agreement_id}


def test_agreement_ends_with_its_last_day(scene: Scene, person: Person) -> None:
    last_day = legal_date(scene.clock.now())
    short = scene.system("short/core", {LOOKUP: ["sex"]}, start=last_day, end=last_day)
    require_disclosed(scene, short, person)
    scene.clock.go_on(timedelta(days=1))
    refusal = refuse(scene, short, person, "AGREEMENT_EXPIRED")
    assert refusal.metadata == {"agreement": short.access.agreement_id, "end_date": last_day.isoformat()}


def test_agreement_begins_with_its_first_day(scene: Scene, person: Person) -> None:
    first_day = legal_date(scene.clock.now()) + timedelta(days=1)
    early = scene.system("early/core", {LOOKUP: ["sex"]}, start=first_day, end=first_day + timedelta(days=9))
    refusal = refuse(scene, early, person, "AGREEMENT_NOT_YET_VALID")
    assert refusal.metadata == {"agreement": early.access.agreement_id, "start_date": first_day.isoformat()}
    scene.clock.go_on(timedelta(days=1))
    require_disclosed(scene, early, person)


def test_suspended_agreement_discloses_nothing_until_it_is_resumed(scene: Scene, person: Person) -> None:
    bank = scene.system("bank/core", {LOOKUP: ["sex"]}, purpose="CUSTOMER_IDENTIFICATION")
    named = {"request_id": new_id(), "agreement_id": bank.access.agreement_id}
    scene.desk.agreements.SuspendAgreement(agreement_pb2.SuspendAgreementRequest(**named, cause="Audit."))
    scene.stage.settle()
    refusal = refuse(scene, bank, person, "AGREEMENT_SUSPENDED")
    assert refusal.metadata == {"agreement": bank.access.agreement_id, "cause": "Audit."}
    scene.desk.agreements.ResumeAgreement(agreement_pb2.ResumeAgreementRequest(**named))
    scene.stage.settle()
    require_disclosed(scene, bank, person)


@pytest.mark.parametrize(
    ("signer", "missing"), [("agency", "the operator's side"), ("operator", "the agency's side"), ("", "the agency's")]
)
def test_agreement_that_both_sides_have_not_signed_is_refused(
    scene: Scene, person: Person, signer: str, missing: str
) -> None:
    name = f"half/{signer or 'none'}"
    scene.register(name)
    draft = scene.desk.draw_up(scene.desk.terms(name, "STATE_MANAGEMENT", "D70/2024.9", {LOOKUP: ["sex"]}))
    scene.stage.settle()
    if signer:
        scene.desk.sign(Kind(signer), "lan" if signer == "operator" else name, draft)
        scene.stage.settle()
    agreement_id = agreement_pb2.AgreementTerms.FromString(draft.terms).agreement_id
    party = Party(scene.sharing, Kind.AGENCY, name, agreement_id)
    refusal = refuse(scene, party, person, "AGREEMENT_SIGNATURE_INVALID")
    assert refusal.metadata["agreement"] == agreement_id
    assert refusal.metadata["defect"].startswith(missing)


def test_agreement_that_the_registry_alone_has_widened_is_refused(scene: Scene, tax: Party, person: Person) -> None:
    signed = agreement_of(scene, tax)
    terms = agreement_pb2.AgreementTerms.FromString(signed.terms)
    terms.grants[0].fields.paths.append("hometown")
    altered = agreement_pb2.Agreement()
    altered.CopyFrom(signed)
    altered.terms = terms.SerializeToString()
    with told(scene, PolicyEntry(agreement=altered), PolicyEntry(agreement=signed)):
        for path in ("hometown", "sex"):
            refusal = refuse(scene, tax, person, "AGREEMENT_SIGNATURE_INVALID", path)
            assert refusal.metadata["agreement"] == tax.access.agreement_id
    require_disclosed(scene, tax, person)


def test_signature_with_one_bit_turned_is_refused(scene: Scene, tax: Party, person: Person) -> None:
    signed = agreement_of(scene, tax)
    altered = agreement_pb2.Agreement()
    altered.CopyFrom(signed)
    raw = bytearray(signed.operator_signature.signature)
    raw[-1] ^= 1
    altered.operator_signature.signature = bytes(raw)
    with told(scene, PolicyEntry(agreement=altered), PolicyEntry(agreement=signed)):
        refuse(scene, tax, person, "AGREEMENT_SIGNATURE_INVALID")
    require_disclosed(scene, tax, person)


@pytest.mark.parametrize("method", ["PullChanges", "WatchChanges", "FindUsage"])
def test_mode_that_is_not_granted_is_refused(scene: Scene, tax: Party, person: Person, method: str) -> None:
    calls: dict[str, tuple[Callable[..., Any], Message]] = {
        "PullChanges": (tax.changes.PullChanges, PullChangesRequest(access=tax.access)),
        "WatchChanges": (tax.changes.WatchChanges, WatchChangesRequest(access=tax.access)),
        "FindUsage": (tax.usage.FindUsage, FindUsageRequest(access=tax.access, identity=stated(person))),
    }
    refusal = scene.refuse(tax, *calls[method], "MODE_NOT_GRANTED")
    mode = "USAGE" if method == "FindUsage" else "CHANGES"
    assert refusal.metadata == {"agreement": tax.access.agreement_id, "mode": mode}


def test_mode_to_contribute_is_granted_by_itself(scene: Scene, tax: Party, person: Person) -> None:
    request = tax.tells(scene.news(person, Person(sex=person.sex), "sex"))
    refusal = scene.refuse(tax, tax.contribution.Contribute, request, "MODE_NOT_GRANTED")
    assert refusal.metadata == {"agreement": tax.access.agreement_id, "mode": "CONTRIBUTE"}
    assert scene.rows("SELECT 1 FROM contributions WHERE source = 'tax/core'") == []


def test_follower_alone_looks_nobody_up(scene: Scene, person: Person) -> None:
    follower = scene.system("feed/core", {CHANGES: ["sex"]})
    refusal = refuse(scene, follower, person, "MODE_NOT_GRANTED")
    assert refusal.metadata["mode"] == AccessMode.Name(LOOKUP).removeprefix("ACCESS_MODE_")


@pytest.mark.parametrize("path", ["hometown", "hometown.unit_code", "id_cards"])
def test_field_outside_the_grant_refuses_the_call_and_is_named_with_the_rule(
    scene: Scene, tax: Party, person: Person, path: str
) -> None:
    refusal = refuse(scene, tax, person, "FIELD_NOT_GRANTED", "sex", path)
    assert refusal.metadata == {
        "agreement": tax.access.agreement_id,
        "mode": "LOOKUP",
        "field": path,
        "rule": f"agreement {tax.access.agreement_id} grants LOOKUP of religion, sex",
    }
    assert path in refusal.sentence("en")
    assert path in refusal.sentence("vi")


def test_field_that_the_purpose_no_longer_allows_is_refused_by_the_purpose(
    scene: Scene, tax: Party, person: Person
) -> None:
    purpose = scene.sharing.house.keeper.current.purposes["STATE_MANAGEMENT"]
    narrower = replace(purpose, paths=purpose.paths - {"religion"})
    entries = [
        PolicyEntry(
            purpose=Purpose(
                code=one.code,
                title=one.title,
                provision=one.provision,
                paths=one.paths,
                start_date=wire_date(one.validity.start),
            )
        )
        for one in (narrower, purpose)
    ]
    with told(scene, *entries):
        refusal = refuse(scene, tax, person, "FIELD_OUTSIDE_PURPOSE", "sex", "religion.code")
        require_disclosed(scene, tax, person, "sex")
    assert refusal.metadata == {
        "purpose": "STATE_MANAGEMENT",
        "field": "religion.code",
        "rule": f"purpose STATE_MANAGEMENT by {purpose.provision}",
    }


def test_purpose_that_the_law_has_ended_grants_nothing(scene: Scene, tax: Party, person: Person) -> None:
    purpose = scene.sharing.house.keeper.current.purposes["STATE_MANAGEMENT"]
    facts = Purpose(code=purpose.code, title=purpose.title, provision=purpose.provision, paths=purpose.paths)
    facts.start_date.CopyFrom(wire_date(purpose.validity.start))
    ended = Purpose()
    ended.CopyFrom(facts)
    ended.end_date.CopyFrom(wire_date(today() - timedelta(days=1)))
    with told(scene, PolicyEntry(purpose=ended), PolicyEntry(purpose=facts)):
        refusal = scene.refuse(tax, tax.lookup.GetCitizen, tax.asks(person), "PURPOSE_UNKNOWN")
    assert refusal.metadata == {"purpose": "STATE_MANAGEMENT"}


def test_officer_who_is_not_on_the_roster_is_refused(scene: Scene, tax: Party, person: Person) -> None:
    request = tax.asks(person)
    request.access.officer_id = "o-99"
    refusal = scene.refuse(tax, tax.lookup.GetCitizen, request, "OFFICER_NOT_ON_ROSTER")
    assert (refusal.code.name, refusal.metadata) == ("PERMISSION_DENIED", {"officer": "o-99"})


def test_officer_of_another_agency_is_refused(scene: Scene, tax: Party, person: Person) -> None:
    scene.register("moj/core")
    scene.desk.agencies.AddOfficers(
        agency_pb2.AddOfficersRequest(request_id=new_id(), agency_id="moj", officer_ids=["moj-1"])
    )
    scene.stage.settle()
    request = tax.asks(person)
    request.access.officer_id = "moj-1"
    scene.refuse(tax, tax.lookup.GetCitizen, request, "OFFICER_NOT_ON_ROSTER")


def test_officer_who_left_the_roster_is_refused(scene: Scene, person: Person) -> None:
    left = scene.system("left/core", {LOOKUP: ["sex"]})
    require_disclosed(scene, left, person)
    scene.desk.agencies.RemoveOfficers(
        agency_pb2.RemoveOfficersRequest(request_id=new_id(), agency_id="left", officer_ids=["o-1"])
    )
    scene.stage.settle()
    assert refuse(scene, left, person, "OFFICER_NOT_ON_ROSTER").metadata == {"officer": "o-1"}
