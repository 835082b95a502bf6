"""Cards are requested, issued, cancelled, checked and shown; the record is told of the one in force."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from google.type.date_pb2 import Date

from npd.common.v1.person_pb2 import SEX_MALE, DeathOrMissing, DeathOrMissingKind, IdentityCard, Person, PersonName
from npd.identity.v1 import card_pb2, number_pb2
from npd.sharing.v1.contribution_pb2 import ContributionItem
from services.mesh.core.person.dates import PartialDate
from services.mesh.wire.person import partial_to_wire
from tests.mesh_fixture import Desk, Stage, new_id, wait_until, wire_date
from tests.rpc.test_identity_callers import (
    CARDS,
    DISCLOSED,
    DONE,
    ITSELF,
    LOOKUP,
    LOST,
    NO_MATCH,
    REGISTER,
    SEX_REDETERMINED,
    VERIFY,
    IdentityScene,
    Party,
    Seen,
    event_time,
    stated,
)
from tests.rpc.test_sharing_callers import refusal_or

REQUESTED, ISSUED = card_pb2.CARD_STATE_REQUESTED, card_pb2.CARD_STATE_ISSUED
CANCELLED = card_pb2.CARD_STATE_CANCELLED
REPLACED = card_pb2.CARD_CANCELLATION_REPLACED
DECEASED = card_pb2.CARD_CANCELLATION_HOLDER_DECEASED
SUCCEEDED = card_pb2.CARD_CANCELLATION_NUMBER_SUCCEEDED
_serials = count(1)


@pytest.fixture(scope="module")
def scene(stage: Stage, desk: Desk) -> IdentityScene:
    return IdentityScene(stage, desk)


@pytest.fixture(scope="module")
def office(scene: IdentityScene) -> Party:
    return scene.agency("mps/cards", {REGISTER: ["id_cards", "pin"], LOOKUP: ["id_cards"], VERIFY: ["id_cards"]})


def asking(office: Party, person: Person, **other: Any) -> card_pb2.RequestCardRequest:
    """A RequestCardRequest."""
    return card_pb2.RequestCardRequest(request_id=new_id(), access=office.access, identity=stated(person, **other))


def issuing(scene: IdentityScene, office: Party, card_id: str, **other: Any) -> card_pb2.IssueCardRequest:
    """An IssueCardRequest of today, valid for ten years."""
    today = scene.today
    told = {
        "document_number": f"AB{next(_serials):06}",
        "issue_date": Date(year=today.year, month=today.month, day=today.day),
        "issuing_office": "Cục Cảnh sát",
        "expiry_date": Date(year=today.year + 10, month=5, day=17),
        **other,
    }
    return card_pb2.IssueCardRequest(request_id=new_id(), access=office.access, card_id=card_id, **told)


def cancelling(office: Party, document_number: str, reason: Any = LOST) -> card_pb2.CancelCardRequest:
    """A CancelCardRequest."""
    return card_pb2.CancelCardRequest(
        request_id=new_id(), access=office.access, document_number=document_number, reason=reason
    )


def issue(scene: IdentityScene, office: Party, person: Person, **other: Any) -> card_pb2.Card:
    """A card, requested and issued."""
    requested = office.cards.RequestCard(asking(office, person)).card
    return office.cards.IssueCard(issuing(scene, office, requested.card_id, **other)).card


def is_valid(office: Party, person: Person, document_number: str, **other: Any) -> bool:
    """What a check of a card says."""
    request = card_pb2.CheckCardRequest(
        access=office.access, identity=stated(person, **other), document_number=document_number
    )
    return office.cards.CheckCard(request).valid


def shown(office: Party, person: Person) -> list[card_pb2.Card]:
    """A person's cards as an officer sees them."""
    return list(office.cards.GetCards(card_pb2.GetCardsRequest(access=office.access, identity=stated(person))).cards)


def require_told(seen: Seen, subject_id: UUID, *sets: list[IdentityCard]) -> list[ContributionItem]:
    """What the record was told, in order: each a set of cards, none taking back all that was told."""
    assert [(item.subject_id, list(item.person.id_cards), list(item.update_mask.paths)) for item in seen.told] == [
        (str(subject_id), cards, ["id_cards"]) for cards in sets
    ]
    assert len({item.event_id for item in seen.told}) == len(seen.told)
    return seen.told


def test_a_card_is_requested_issued_and_in_force(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    with scene.recording() as seen:
        requested = office.cards.RequestCard(asking(office, person))
    assert (requested.card.state, requested.card.HasField("document")) == (REQUESTED, False)
    assert not seen.told, "a request is no card"
    assert [(link.name, link.actor) for link in scene.links(requested.act_id)] == [
        ("identity.request_card", office.identity)
    ]
    (entry,) = seen.entries
    assert (entry.method, entry.outcome, entry.access, entry.object, list(entry.paths)) == (
        f"{CARDS}/RequestCard", DONE, office.access, f"card {requested.card.card_id}", ["id_cards"],
    )  # fmt: skip

    request = issuing(scene, office, requested.card.card_id)
    with scene.recording() as seen:
        issued = office.cards.IssueCard(request)
    document = IdentityCard(
        document_number=request.document_number,
        issue_date=request.issue_date,
        issuing_office=request.issuing_office,
        expiry_date=request.expiry_date,
    )
    assert (issued.card.card_id, issued.card.state, issued.card.document) == (requested.card.card_id, ISSUED, document)
    (item,) = require_told(seen, subject_id, [document])
    assert (event_time(item), item.access.origin) == (scene.clock.now(), office.identity)
    assert [(link.name, link.causation_id) for link in scene.links(issued.act_id)] == [("identity.issue_card", None)]
    assert [(one.method, one.object) for one in seen.entries] == [(f"{CARDS}/IssueCard", entry.object)]
    assert request.document_number.encode() not in seen.entries[0].SerializeToString()
    assert is_valid(office, person, request.document_number)


def test_a_card_replaces_the_one_in_force_and_the_record_keeps_one(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    first = issue(scene, office, person)
    scene.clock.go_on(timedelta(minutes=1))
    with scene.recording() as seen:
        second = issue(scene, office, person)
    require_told(seen, subject_id, [], [second.document])
    assert [(card.card_id, card.state, card.cancellation) for card in shown(office, person)] == [
        (second.card_id, ISSUED, 0),
        (first.card_id, CANCELLED, REPLACED),
    ]
    assert not is_valid(office, person, first.document.document_number)
    assert [entry.object for entry in seen.entries] == [
        f"card {second.card_id}", f"card {first.card_id}", f"card {second.card_id}",
    ]  # fmt: skip


def test_a_cancelled_card_is_taken_back_from_the_record(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    card = issue(scene, office, person)
    with scene.recording() as seen:
        cancelled = office.cards.CancelCard(cancelling(office, card.document.document_number))
    assert (cancelled.card.state, cancelled.card.cancellation, cancelled.card.document) == (
        CANCELLED, LOST, card.document,
    )  # fmt: skip
    require_told(seen, subject_id, [])
    assert [link.name for link in scene.links(cancelled.act_id)] == ["identity.cancel_card"]
    assert [(entry.method, entry.object) for entry in seen.entries] == [(f"{CARDS}/CancelCard", f"card {card.card_id}")]
    again = cancelling(office, card.document.document_number)
    refusal = scene.refuse(office.cards.CancelCard, again, "STATE_NOT_ALLOWED")
    assert refusal.metadata == {"object": f"card {card.card_id}", "state": "CANCELLED"}
    assert not is_valid(office, person, card.document.document_number)


def test_repeats_get_the_first_answer_and_change_nothing(scene: IdentityScene, office: Party) -> None:
    _, person = scene.citizen()
    ask = asking(office, person)
    requested = office.cards.RequestCard(ask)
    request = issuing(scene, office, requested.card.card_id)
    issued = office.cards.IssueCard(request)
    cancel = cancelling(office, request.document_number)
    cancelled = office.cards.CancelCard(cancel)
    with scene.recording() as seen:
        assert office.cards.RequestCard(ask) == requested
        assert office.cards.IssueCard(request) == issued
        assert office.cards.CancelCard(cancel) == cancelled
    assert seen.is_nothing
    request.issuing_office = "Huế"
    scene.refuse(office.cards.IssueCard, request, "REQUEST_ID_REUSED")
    neighbour = scene.agency("hue/cards", {REGISTER: ["id_cards"]})
    ask.access.CopyFrom(neighbour.access)
    assert neighbour.cards.RequestCard(ask).card.card_id != requested.card.card_id, "another's id means nothing"


def test_a_request_that_may_not_be_is_refused(scene: IdentityScene, office: Party) -> None:
    (subject_id, dead), (_, person) = scene.citizen(), scene.citizen()
    scene.die(subject_id, dead)
    call = office.cards.RequestCard
    scene.refuse(call, asking(office, person, pin="901190999999"), "PERSON_UNKNOWN")
    scene.refuse(call, asking(office, person, full_name="Lê Ân"), "IDENTITY_MISMATCH")
    scene.refuse(call, asking(office, dead), "PERSON_DECEASED")
    office.cards.RequestCard(asking(office, person))
    scene.refuse(call, asking(office, person), "CARD_ALREADY_REQUESTED")


def test_requests_at_once_make_one(scene: IdentityScene, office: Party) -> None:
    _, person = scene.citizen()
    requests = [asking(office, person) for _ in range(6)]
    with ThreadPoolExecutor(6) as callers:
        answers = list(callers.map(lambda one: refusal_or(office.cards.RequestCard, one), requests))
    reasons = [answer.reason for answer in answers if not isinstance(answer, card_pb2.RequestCardResponse)]
    assert reasons == ["CARD_ALREADY_REQUESTED"] * 5
    assert [card.state for card in shown(office, person)] == [REQUESTED]


def test_an_issue_that_may_not_be_is_refused(scene: IdentityScene, office: Party) -> None:
    _, person = scene.citizen()
    used = issue(scene, office, person).document.document_number
    card_id = office.cards.RequestCard(asking(office, person)).card.card_id
    call, tomorrow = office.cards.IssueCard, scene.today + timedelta(days=1)
    ahead = Date(year=tomorrow.year, month=tomorrow.month, day=tomorrow.day)
    scene.refuse(call, issuing(scene, office, new_id()), "CARD_UNKNOWN")
    refusal = scene.refuse(call, issuing(scene, office, card_id, document_number=used), "ALREADY_REGISTERED")
    assert refusal.metadata == {"object": "document number"}
    scene.refuse(call, issuing(scene, office, card_id, issue_date=ahead), "EVENT_IN_FUTURE")
    unborn = partial_to_wire(PartialDate(1990, 5, 16))
    scene.refuse(call, issuing(scene, office, card_id, issue_date=unborn), "EVENT_BEFORE_BIRTH")
    office.cards.IssueCard(issuing(scene, office, card_id))
    refusal = scene.refuse(call, issuing(scene, office, card_id), "STATE_NOT_ALLOWED")
    assert refusal.metadata == {"object": f"card {card_id}", "state": "ISSUED"}
    scene.refuse(office.cards.CancelCard, cancelling(office, "ZZ999999"), "CARD_UNKNOWN")


def test_one_document_number_issued_twice_at_once_is_one_cards(scene: IdentityScene, office: Party) -> None:
    requests = []
    for _ in range(4):
        card_id = office.cards.RequestCard(asking(office, scene.citizen()[1])).card.card_id
        requests.append(issuing(scene, office, card_id, document_number="TWICE1"))
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda one: refusal_or(office.cards.IssueCard, one), requests))
    reasons = [answer.reason for answer in answers if not isinstance(answer, card_pb2.IssueCardResponse)]
    assert reasons == ["ALREADY_REGISTERED"] * 3


def test_a_check_says_yes_only_of_the_holders_card_in_force(scene: IdentityScene, office: Party) -> None:
    (subject_id, person), (_, other) = scene.citizen(), scene.citizen()
    number = issue(scene, office, person).document.document_number
    others = issue(scene, office, other).document.document_number
    with scene.recording() as seen:
        assert is_valid(office, person, number)
        assert not is_valid(office, person, others)
        assert not is_valid(office, person, "ZZ999999")
    assert [(use.subject_id, use.outcome, list(use.paths), use.method) for use in seen.uses] == [
        (str(subject_id), DISCLOSED, ["id_cards"], f"{CARDS}/CheckCard")
    ] * 3
    assert [(entry.outcome, list(entry.paths), entry.access) for entry in seen.entries] == [
        (DISCLOSED, ["id_cards"], office.access)
    ] * 3


def test_a_check_of_a_wrong_identity_says_no_and_is_recorded(scene: IdentityScene, office: Party) -> None:
    _, person = scene.citizen()
    number = issue(scene, office, person).document.document_number
    with scene.recording() as seen:
        assert not is_valid(office, person, number, full_name="Lê Ân")
        assert not is_valid(office, person, number, pin="901190999999")
    assert not seen.uses
    assert [(entry.outcome, entry.HasField("subject")) for entry in seen.entries] == [
        (NO_MATCH, True),
        (NO_MATCH, False),
    ]


def test_an_expired_card_is_not_valid(scene: IdentityScene, office: Party) -> None:
    _, person = scene.citizen()
    day = Date(year=scene.today.year, month=scene.today.month, day=scene.today.day)
    number = issue(scene, office, person, expiry_date=day).document.document_number
    assert is_valid(office, person, number), "to the end of its last day"
    scene.clock.go_on(timedelta(days=1))
    assert not is_valid(office, person, number)


def test_an_officer_is_shown_cards_and_it_is_a_use(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    issued = issue(scene, office, person)
    with scene.recording() as seen:
        answer = office.cards.GetCards(card_pb2.GetCardsRequest(access=office.access, identity=stated(person)))
    assert (answer.outcome, list(answer.cards)) == (DISCLOSED, [issued])
    assert [(use.subject_id, use.method) for use in seen.uses] == [(str(subject_id), f"{CARDS}/GetCards")]
    assert [(entry.outcome, entry.HasField("subject")) for entry in seen.entries] == [(DISCLOSED, True)]
    wrong = card_pb2.GetCardsRequest(access=office.access, identity=stated(person, birth_date=Date(year=1991)))
    with scene.recording() as seen:
        answer = office.cards.GetCards(wrong)
    assert (answer.outcome, list(answer.cards)) == (NO_MATCH, [])
    assert not seen.uses
    assert [entry.outcome for entry in seen.entries] == [NO_MATCH]


def test_a_death_cancels_the_card_and_drops_the_request(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    card = issue(scene, office, person)
    waiting = office.cards.RequestCard(asking(office, person)).card
    with scene.recording() as seen:
        change = scene.die(subject_id, person)
    require_told(seen, subject_id, [])
    assert {(one.card_id, one.state, one.cancellation) for one in shown(office, person)} == {
        (card.card_id, CANCELLED, DECEASED), (waiting.card_id, CANCELLED, DECEASED),
    }  # fmt: skip
    (link,) = scene.links(change.causation.correlation_id)
    assert (link.name, link.actor, link.causation_id) == ("identity.cancel_card", ITSELF, change.change_id)
    assert seen.told[0].causation.causation_id == str(link.act_id)
    assert {(entry.caller, entry.method, entry.object) for entry in seen.entries} == {
        (ITSELF, "identity.cancel_card", f"card {one.card_id}") for one in (card, waiting)
    }
    assert not is_valid(office, person, card.document.document_number)
    with scene.recording() as seen:
        scene.apply(change)
    assert seen.is_nothing, "the same change again finds its effect done"
    scene.refuse(office.cards.IssueCard, issuing(scene, office, waiting.card_id), "PERSON_DECEASED")

    with scene.recording() as seen:
        scene.tell(subject_id, Person(), "death_or_missing")
    assert seen.is_nothing, "a death annulled gives no card back"
    assert office.cards.RequestCard(asking(office, person)).card.state == REQUESTED
    scene.refuse(office.cards.IssueCard, issuing(scene, office, waiting.card_id), "STATE_NOT_ALLOWED")


def test_a_death_told_again_by_a_restored_feed_spares_the_card_issued_since(
    scene: IdentityScene, office: Party
) -> None:
    subject_id, person = scene.citizen()
    death, annulment = scene.die(subject_id, person), scene.tell(subject_id, Person(), "death_or_missing")
    number = issue(scene, office, person).document.document_number
    with scene.recording() as seen:
        scene.apply(death)
        scene.apply(annulment)
    assert seen.is_nothing
    assert is_valid(office, person, number)


def test_who_is_declared_missing_keeps_his_card(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    number = issue(scene, office, person).document.document_number
    missing = DeathOrMissing(kind=DeathOrMissingKind.DEATH_OR_MISSING_KIND_DECLARED_MISSING)
    with scene.recording() as seen:
        scene.tell(subject_id, Person(death_or_missing=missing), "death_or_missing")
    assert seen.is_nothing
    assert is_valid(office, person, number)


def test_the_death_of_somebody_without_a_card_changes_nothing(scene: IdentityScene) -> None:
    subject_id, person = scene.citizen()
    with scene.recording() as seen:
        change = scene.die(subject_id, person)
    assert seen.is_nothing
    assert scene.links(change.causation.correlation_id) == []


def test_a_succession_cancels_the_card_and_the_request_shows_the_new_number(
    scene: IdentityScene, office: Party
) -> None:
    subject_id, person = scene.citizen()
    card = issue(scene, office, person)
    waiting = office.cards.RequestCard(asking(office, person)).card
    request = number_pb2.SucceedPinRequest(
        request_id=new_id(), access=office.access, identity=stated(person), ground=SEX_REDETERMINED,
        birth=scene.facts(sex=SEX_MALE),
    )  # fmt: skip
    with scene.recording() as seen:
        new = office.numbers.SucceedPin(request)
    renewed = Person(pin=new.pin, full_name=person.full_name, birth_date=person.birth_date)
    succeeded, cancelled = sorted(scene.links(new.act_id), key=lambda link: link.name, reverse=True)
    assert (succeeded.name, cancelled.name, cancelled.actor, cancelled.causation_id) == (
        "identity.succeed_pin", "identity.cancel_card", ITSELF, succeeded.act_id,
    )  # fmt: skip
    assert [(list(item.update_mask.paths), item.person) for item in seen.told] == [
        (["pin"], Person(pin=new.pin)), (["id_cards"], Person()),
    ]  # fmt: skip
    assert {item.subject_id for item in seen.told} == {str(subject_id)}
    states = {one.card_id: (one.state, one.cancellation) for one in shown(office, renewed)}
    assert states == {card.card_id: (CANCELLED, SUCCEEDED), waiting.card_id: (REQUESTED, 0)}
    number = office.cards.IssueCard(issuing(scene, office, waiting.card_id)).card.document.document_number
    assert is_valid(office, renewed, number)
    assert not is_valid(office, person, number), "the card shows the number in force, not a former one"


def test_a_correction_from_the_feed_cancels_the_card_too(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    card = issue(scene, office, person)
    with scene.recording() as seen:
        change = scene.tell(subject_id, Person(sex=SEX_MALE), "sex")
    names = {link.name: link for link in scene.links(change.causation.correlation_id)}
    assert names["identity.cancel_card"].causation_id == names["identity.succeed_pin"].act_id
    assert [list(item.update_mask.paths) for item in seen.told] == [["pin"], ["id_cards"]]
    assert not is_valid(office, person, card.document.document_number)


def history_card(number: str, year: int) -> IdentityCard:
    """A card as the record has it from before this room; of its day of issue only the year is known."""
    return IdentityCard(document_number=number, issue_date=Date(year=year), issuing_office="Bộ Công an")


def test_cards_of_history_are_adopted_and_the_newest_is_in_force(scene: IdentityScene, office: Party) -> None:
    cards = [history_card("S-0000001", 2015), history_card("S-0000002", 2023), history_card("S-0000003", 2019)]
    with scene.recording() as seen:
        subject_id, person = scene.citizen(cards=cards)
    assert seen.is_nothing, "what the record has is told to nobody"
    states = {card.document.document_number: (card.state, card.cancellation) for card in shown(office, person)}
    assert states == {
        "S-0000001": (CANCELLED, REPLACED), "S-0000002": (ISSUED, 0), "S-0000003": (CANCELLED, REPLACED),
    }  # fmt: skip
    assert shown(office, person)[0].document == cards[1]
    assert [is_valid(office, person, card.document_number) for card in cards] == [False, True, False]
    with scene.recording() as seen:
        scene.tell(subject_id, person, "pin", "id_cards", source="identity")
    assert seen.is_nothing
    assert len(shown(office, person)) == 3, "the echo brings none a second time"
    with scene.recording() as seen:
        renewed = issue(scene, office, person)
    require_told(seen, subject_id, [], [renewed.document])


def test_an_echo_of_an_older_card_does_not_bring_it_back(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    card = issue(scene, office, person)
    office.cards.CancelCard(cancelling(office, card.document.document_number))
    scene.tell(subject_id, Person(id_cards=[card.document]), "id_cards", source="identity")
    assert [one.state for one in shown(office, person)] == [CANCELLED]


def test_a_card_of_history_whose_holder_is_dead_is_not_in_force(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen()
    scene.die(subject_id, person)
    scene.tell(subject_id, Person(id_cards=[history_card("S-0000009", 2020)]), "id_cards", source="identity")
    assert [(one.state, one.cancellation) for one in shown(office, person)] == [(CANCELLED, DECEASED)]


def test_a_death_that_history_tells_later_cancels_the_card(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen(cards=[history_card("S-0000010", 2020)])
    dead = Person(death_or_missing=DeathOrMissing(kind=DeathOrMissingKind.DEATH_OR_MISSING_KIND_DEAD))
    with scene.recording() as seen:
        change = scene.tell(subject_id, dead, "death_or_missing", source="identity")
    assert [(one.state, one.cancellation) for one in shown(office, person)] == [(CANCELLED, DECEASED)]
    require_told(seen, subject_id, [])
    assert [link.causation_id for link in scene.links(change.causation.correlation_id)] == [change.change_id]
    scene.refuse(office.cards.RequestCard, asking(office, person), "PERSON_DECEASED")


def test_no_card_is_issued_before_the_documents_of_history_are_known(stage: Stage, desk: Desk) -> None:
    scene = IdentityScene(stage, desk, knows_history=False)
    office = scene.agency("mps/early", {REGISTER: ["id_cards"]})
    _, person = scene.citizen()
    requested = office.cards.RequestCard(asking(office, person)).card
    request = issuing(scene, office, requested.card_id)
    scene.send_away(office.cards.IssueCard, request)
    assert scene.rows("SELECT 1 FROM document_numbers") == []
    scene.catch_up()
    assert office.cards.IssueCard(request).card.state == ISSUED, "the same request again is served"


def test_dates_of_which_no_card_can_be_are_refused(scene: IdentityScene, office: Party) -> None:
    _, person = scene.citizen()
    card_id = office.cards.RequestCard(asking(office, person)).card.card_id
    requested = scene.today
    scene.clock.go_on(timedelta(days=3))
    before, yesterday = (wire_date(requested - timedelta(days=1)), wire_date(scene.today - timedelta(days=1)))
    for dates, field in (
        ({"issue_date": before}, "issue_date"),
        ({"issue_date": wire_date(requested), "expiry_date": yesterday}, "expiry_date"),
    ):
        refusal = scene.refuse(office.cards.IssueCard, issuing(scene, office, card_id, **dates), "FIELD_INVALID")
        assert [violation.field for violation in refusal.violations] == [field]
    last = issuing(scene, office, card_id, issue_date=wire_date(requested), expiry_date=wire_date(scene.today))
    assert office.cards.IssueCard(last).card.state == ISSUED, "the day of the request and the last day are possible"


@pytest.mark.parametrize("act", ["request", "issue", "cancel", "succeed"])
def test_an_act_that_waited_for_another_is_later_than_it(scene: IdentityScene, office: Party, act: str) -> None:
    subject_id, person = scene.citizen()
    card = office.cards.RequestCard(asking(office, person)).card if act == "issue" else None
    number = issue(scene, office, person).document.document_number if act == "cancel" else ""
    succession = number_pb2.SucceedPinRequest(
        request_id=new_id(), access=office.access, identity=stated(person), ground=SEX_REDETERMINED,
        birth=scene.facts(sex=SEX_MALE),
    )  # fmt: skip
    call: Callable[[], Any] = {
        "request": lambda: office.cards.RequestCard(asking(office, person)),
        "issue": lambda: office.cards.IssueCard(issuing(scene, office, card.card_id if card else "")),
        "cancel": lambda: office.cards.CancelCard(cancelling(office, number)),
        "succeed": lambda: office.numbers.SucceedPin(succession),
    }[act]
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with scene.recording() as seen, ThreadPoolExecutor(1) as callers:
        with scene.database.transaction() as tx:  # another act holds the person
            tx.people.lock([subject_id])
            answer = callers.submit(call)
            wait_until(lambda: scene.rows(waiting))
            scene.clock.go_on(timedelta(seconds=10))
        done = answer.result(10)
    assert [link.time for link in scene.links(done.act_id)] == [scene.clock.now()]
    assert {event_time(item) for item in seen.told} <= {scene.clock.now()}
    if act != "succeed":
        assert done.card.state_time.ToDatetime(UTC) == scene.clock.now()


def test_cards_that_another_source_tells_are_not_this_rooms(scene: IdentityScene, office: Party) -> None:
    subject_id, person = scene.citizen(full_name=PersonName(full="Lê Văn Bình"))
    scene.tell(subject_id, Person(id_cards=[history_card("X-0000001", 2020)]), "id_cards", source="bank/core")
    assert shown(office, person) == []
