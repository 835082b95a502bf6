"""The demonstration: what the mesh does, told in sixteen steps on a real database and real certificates.

Everybody calls as in real life: over mutual TLS, with npd-client, from the files that lie in the mesh's directory.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from uuid import uuid4

from rich.table import Table

from npd.common.v1.error_reason_pb2 import ErrorReason
from npd.common.v1.evidence_pb2 import OUTCOME_DISCLOSED, OUTCOME_NO_MATCH, Receipt
from npd.common.v1.person_pb2 import (
    BLOOD_TYPE_O_POSITIVE,
    MARITAL_STATUS_DIVORCED,
    MARITAL_STATUS_WIDOWED,
    Person,
    PersonName,
)
from npd.sharing.v1.contribution_pb2 import ContributionItem, ContributionResult
from npd.sharing.v1.usage_pb2 import UsageRecord
from npd.sharing.v1.verification_pb2 import VERDICT_CONFIRMED, Predicate, Verdict
from npd_client import receipts
from npd_client.errors import Refusal
from npd_client.merkle import EvidenceInvalid
from services.local import citizens, views
from services.local.cast import Cast
from services.local.certification import Certification
from services.local.credentials import read_certificate
from services.local.life import Life
from services.local.mesh import LocalMesh
from services.local.sample import MEDICAL, SYSTEMS, TAX
from services.local.sandbox import Sandbox, Stated, a_citizen, stated
from services.local.story import Story, Unexpected, expect, expect_refusal, until
from services.local.watching import Cut, Watch

CITIZENS = 1000

_FIELDS = ("full_name", "permanent_residence", "marital_status")
_CUT_SECONDS = 5.0
_CHANGE_SECONDS = 10.0
_KNOWN_SECONDS = 60.0


class Demo:
    """Sixteen steps on one mesh, which is not up yet. What an earlier step learnt, later ones build on."""

    def __init__(self, mesh: LocalMesh, story: Story) -> None:
        self._mesh, self._story = mesh, story
        self._sandbox = Sandbox(mesh)
        self._person = a_citizen()
        self._citizen = stated(self._person)
        self._open = ExitStack()
        self._receipt = Receipt()
        self._playing: Cast | None = None
        self._living: Life | None = None
        self._opened: Watch | None = None

    def tell(self) -> bool:
        """Tell the story; whether every step was as told. Leaves nothing open but the mesh."""
        steps = (
            ("The mesh is up", self._start),
            ("Agencies, systems and agreements", self._register),
            (f"{CITIZENS:,} synthetic citizens are contributed", self._contribute),
            ("Tax looks a citizen up, and gets what its agreement grants", self._look_up),
            ("The one-stop system verifies claims, and sees no value", self._verify),
            ("The medical database contributes a blood type, which it may, and a name, which it may not", self._feed),
            ("A birth is registered: the child has a number, and the record knows it", self._birth),
            (
                "A family moves: tax's Watch has the new address, and tax says that it applied it",
                self._move,
            ),
            ("A death is registered: what follows from it, room by room", self._death),
            (
                "A birth year is corrected: the number is succeeded by another, the old one still resolves",
                self._correct,
            ),
            ("Tax's system is suspended: its stream is cut, its next call refused; resumed, it works", self._suspend),
            ("A further installation of tax enrols at the issuer's door, with a one-time token", self._enrol),
            ("Tax's certificate is renewed while it calls: nobody notices", self._renew),
            ("Tax's certificate is revoked: cut and refused; enrolled anew, it works", self._revoke),
            ("The citizen sees through the portal who read what, when and why", self._usage),
            ("One disclosure is proved offline; the table of connected databases", self._prove),
        )
        with self._open:
            for title, act in steps:
                with self._story.step(title):
                    act()
        return not self._story.has_failed

    def _start(self) -> None:
        began = time.monotonic()
        with self._story.busy("starting the mesh") as tell:
            self._mesh.start(tell)
        seconds = time.monotonic() - began
        self._mesh.authority.ensure_system(TAX.agency, TAX.system)
        rooms = views.rooms(self._mesh, self._mesh.layout.system(TAX.agency, TAX.system).tls)
        self._story.show(rooms.table)
        expect("the TLS versions in use", rooms.tls_versions, {"TLSv1.3"})
        expect("rooms that speak TLS 1.2", rooms.speak_tls_1_2, [])
        self._story.say(
            f"PostgreSQL, {len(rooms.names)} rooms and their certificates in {seconds:.1f} s; none speaks TLS 1.2"
        )

    def _register(self) -> None:
        began = time.monotonic()
        with self._story.busy("registering") as tell:
            agreements = self._sandbox.register(tell)
        seconds = time.monotonic() - began
        self._playing = Cast(agreements, self._mesh.endpoints, self._mesh.layout)
        self._open.callback(self._playing.close)
        self._living = Life(self._mesh, self._story, self._playing, self._person)
        self._story.show(views.agreements(SYSTEMS, agreements))
        expect("agreements", len(agreements), len(SYSTEMS))
        self._story.say(f"registered, signed by both sides and in force in every room in {seconds:.1f} s")

    def _contribute(self) -> None:
        with self._story.counting("citizens", CITIZENS) as counted:
            contributed = self._sandbox.contribute(CITIZENS, counted)
        expect("citizens contributed", contributed.count, CITIZENS)
        self._story.say(
            f"{contributed.count:,} citizens in {contributed.seconds:.2f} s, {contributed.rate:,.0f} a second, each an "
            f"item of some {len(self._person.person.ListFields())} fields with a result of its own"
        )
        began, last = time.monotonic(), stated(citizens.population(CITIZENS).citizen(CITIZENS - 1))
        with self._story.busy("the source rooms learn of them"):
            until("the source rooms to know the last", lambda: self._rooms_know(last), seconds=_KNOWN_SECONDS)
        seconds = time.monotonic() - began
        self._story.say(f"{seconds:.1f} s later identity, residence and civil_status know them all, by the feed")

    def _look_up(self) -> None:
        tax, citizen = self._cast.tax, self._citizen
        began = time.monotonic()
        answer = tax.look_up(citizen, _FIELDS, case="HS-2026/17")
        milliseconds = (time.monotonic() - began) * 1000
        self._receipt = answer.receipt
        expect("the outcome", answer.outcome, OUTCOME_DISCLOSED)
        expect("the fields released", {field.name for field, _ in answer.citizen.ListFields()}, set(_FIELDS))
        self._story.show(views.record(answer.citizen))
        self._story.say(f"just the {len(_FIELDS)} fields asked for, in {milliseconds:.0f} ms over a new connection")

        refusal = expect_refusal(
            "FIELD_NOT_GRANTED", lambda: tax.look_up(citizen, ("full_name", "blood_type"), case="HS-2026/17")
        )
        expect("the field that the refusal names", refusal.metadata.get("field"), "blood_type")
        self._story.say(f"blood_type besides: refused, {refusal.reason}: {refusal.sentence()}")
        expect("whether the refusal names the rule", bool(refusal.metadata.get("rule")), True)

        wrong_day = "1901-01-01"
        stranger = tax.client.get_citizen(
            tax.ground("HS-2026/17"), citizen.pin, citizen.full_name, wrong_day, ("full_name",)
        )
        expect("the outcome for a wrong birth date", stranger.outcome, OUTCOME_NO_MATCH)
        expect("what was released", stranger.citizen, Person())
        self._story.say("another birth date: NO_MATCH, which does not say what differs")

        refusal = expect_refusal(
            "OFFICER_NOT_ON_ROSTER",
            lambda: tax.look_up(citizen, ("full_name",), case="HS-2026/17", officer="someone-else"),
        )
        self._story.say(f"an officer not on the roster: refused, {refusal.reason}")

        one_stop = self._cast.one_stop.look_up(citizen, ("full_name", "hometown"), case="1-CUA/88")
        expect("the outcome for the one-stop system", one_stop.outcome, OUTCOME_DISCLOSED)
        self._story.say("the one-stop system of Ha Noi, for another purpose, gets the hometown")

    def _feed(self) -> None:
        medical, pin = self._cast.medical, self._citizen.pin
        self._opened = self._watching()
        told = (
            Person(blood_type=BLOOD_TYPE_O_POSITIVE),
            Person(full_name=PersonName(family="Nguyễn", given="Khác", full="Nguyễn Khác")),
        )
        answer = medical.client.contribute([_item(person, pin) for person in told], medical.ground("XN-4711", "feed"))
        blood, name = answer.results
        expect("the blood type", ContributionResult.Status.Name(blood.status), "STATUS_APPLIED")
        expect("the name", ContributionResult.Status.Name(name.status), "STATUS_REJECTED")
        expect("why", ErrorReason.Name(name.reason), "ERROR_REASON_FIELD_NOT_WRITABLE")
        self._story.show(views.results(("blood_type", "full_name"), answer.results))
        own = self._cast.portal.look_up(self._citizen, ("full_name", "blood_type"), case="CN-1").citizen
        expect("the blood type in the record", own.blood_type, BLOOD_TYPE_O_POSITIVE)
        expect("the name in the record", own.full_name.full, self._citizen.full_name)
        self._story.say(
            f"{MEDICAL.title} is granted CONTRIBUTE of blood_type alone; the record has it, and the old name"
        )

    def _verify(self) -> None:
        one_stop, person = self._cast.one_stop, self._person.person
        divorced = person.marital_status == MARITAL_STATUS_DIVORCED
        another = MARITAL_STATUS_WIDOWED if divorced else MARITAL_STATUS_DIVORCED
        answer = one_stop.client.verify_citizen(
            one_stop.ground("1-CUA/89"),
            self._citizen.pin,
            self._citizen.full_name,
            self._citizen.birth_date,
            claimed=Person(permanent_residence=person.permanent_residence, marital_status=another),
            predicates=(Predicate(age_at_least=18), Predicate(alive=True)),
        )
        expect("the outcome", answer.outcome, OUTCOME_DISCLOSED)
        fields = {one.path: Verdict.Name(one.verdict).removeprefix("VERDICT_") for one in answer.fields}
        expect("the verdicts", fields, {"permanent_residence": "CONFIRMED", "marital_status": "CONTRADICTED"})
        expect("the predicates", list(answer.predicates), [VERDICT_CONFIRMED, VERDICT_CONFIRMED])
        self._story.say("the address: CONFIRMED; another marital status: CONTRADICTED; of age, and alive: CONFIRMED")

    def _birth(self) -> None:
        self._life.birth()

    def _move(self) -> None:
        self._life.move(self._watch)

    def _death(self) -> None:
        self._life.death()

    def _correct(self) -> None:
        self._life.correction()

    def _suspend(self) -> None:
        cause = "Unusual number of lookups; call the operator"
        with self._watch:
            self._watch.wait_open(_CHANGE_SECONDS)
            self._cut(lambda: self._cast.operator.suspend(TAX, cause), "SYSTEM_SUSPENDED")
        refusal = expect_refusal("SYSTEM_SUSPENDED", self._look_up_again)
        expect("the cause in the refusal", refusal.metadata.get("cause"), cause)
        self._story.say(f"its next call: refused, {refusal.sentence()}")
        began = time.monotonic()
        self._cast.operator.resume(TAX)
        until("tax to be served again", self._is_served, seconds=_CUT_SECONDS)
        self._story.say(f"resumed: served again after {(time.monotonic() - began) * 1000:.0f} ms")

    def _enrol(self) -> None:
        self._certification.enrolment()

    def _renew(self) -> None:
        self._certification.renewal()

    def _revoke(self) -> None:
        tax = self._cast.tax
        with self._watching() as watch:
            self._cut(lambda: self._cast.operator.revoke(read_certificate(tax.directory)), "CERTIFICATE_REVOKED", watch)
        refusal = expect_refusal("CERTIFICATE_REVOKED", self._look_up_again)
        self._story.say(f"its next call: refused, {refusal.sentence()}")
        began = time.monotonic()
        taken = self._certification.new_start()
        expect("the outcome with the new certificate", self._look_up_again(), OUTCOME_DISCLOSED)
        self._story.say(
            f"new certificate {taken.serial_number} in the same directory: the same client is served after "
            f"{(time.monotonic() - began) * 1000:.0f} ms, without a restart"
        )

    def _usage(self) -> None:
        portal, citizen = self._cast.portal, self._citizen
        answer = portal.client.find_usage(portal.ground("CN-2"), citizen.pin, citizen.full_name, citizen.birth_date)
        expect("the outcome", answer.outcome, OUTCOME_DISCLOSED)
        self._story.show(views.usage(answer.records))
        [first] = [record for record in answer.records if record.receipt.leaf_hash == self._receipt.leaf_hash]
        expect(
            "who asked first", (first.agency_name, first.entry.access.officer_id), (TAX.agency_name, TAX.officers[0])
        )
        expect("for which case", first.entry.access.case_reference, "HS-2026/17")
        expect("the fields", set(first.entry.paths), set(_FIELDS))
        expect("agencies that used the record", _agencies(answer.records), {"tax", "hanoi", "portal"})

    def _prove(self) -> None:
        layout, proof = self._mesh.layout, self._mesh.layout.directory / "disclosure.tlog-proof"
        receipts.prove(self._cast.tax.client, self._receipt, proof)
        key = receipts.read_verifier_key(layout.room("sharing").verifier_key)
        proven = receipts.open_proof(proof.read_bytes(), key, self._receipt)
        expect("the caller in the proven entry", proven.entry.caller.rpartition("//")[2].partition("/")[2], TAX.title)
        self._story.say(
            f"entry {proven.index} of {proven.checkpoint.size} in {proven.checkpoint.origin}: {proof.stat().st_size:,} "
            "bytes prove it to anybody who holds the log's key, without a network"
        )
        _expect_tampering_is_seen(proof.read_bytes(), lambda forged: receipts.open_proof(forged, key, self._receipt))
        self._story.say("the same proof with one bit of the entry changed: refused")
        heard = until("every system and room to be heard of", self._all_heard_of, seconds=10.0)
        self._story.show(heard)

    @property
    def _cast(self) -> Cast:
        if self._playing is None:
            raise Unexpected("nobody is registered, so nobody can call")
        return self._playing

    @property
    def _life(self) -> Life:
        if self._living is None:
            raise Unexpected("no office is registered, so nothing can be registered there")
        return self._living

    @property
    def _certification(self) -> Certification:
        return Certification(self._mesh, self._story, self._cast)

    @property
    def _watch(self) -> Watch:
        if self._opened is None:
            raise Unexpected("tax's Watch was never opened")
        return self._opened

    def _watching(self) -> Watch:
        """A Watch of tax from now on, with a client of its own."""
        tax = self._cast.tax
        watch = Watch(tax.new_client(), tax.ground("DONG-BO", "sync"))
        self._open.enter_context(watch)
        watch.wait_open(_CHANGE_SECONDS)
        return watch

    def _cut(self, act: Callable[[], None], reason: str, watch: Watch | None = None) -> Cut:
        began = time.monotonic()
        act()
        cut = (watch or self._watch).wait_cut(_CUT_SECONDS)
        expect("the reason of the cut", cut.refusal.reason, reason)
        self._story.say(f"its stream was cut {(cut.instant - began) * 1000:.0f} ms after the command, with {reason}")
        return cut

    def _look_up_again(self) -> object:
        return self._cast.tax.look_up(self._citizen, ("full_name",), case="HS-2026/18").outcome

    def _rooms_know(self, citizen: Stated) -> bool | None:
        cast, case = self._cast, "CN-0"
        answers = (
            cast.identity_office.cards(citizen, case=case).outcome,
            cast.residence_office.residence(citizen, case=case).outcome,
            cast.registrar.civil_status(citizen, case=case).outcome,
        )
        return set(answers) == {OUTCOME_DISCLOSED} or None

    def _is_served(self) -> bool | None:
        try:
            return self._look_up_again() == OUTCOME_DISCLOSED
        except Refusal:
            return None

    def _all_heard_of(self) -> Table | None:
        listed = self._cast.operator.connections()
        expected = {sample.title for sample in SYSTEMS} | set(self._mesh.endpoints)
        heard = {each.name for each in listed if each.last_contact_time.seconds}
        return views.connections(listed) if expected <= heard else None


def _item(person: Person, pin: str) -> ContributionItem:
    """An item that tells the fields set in `person`, as of now."""
    item = ContributionItem(event_id=str(uuid4()), pin=pin, person=person)
    item.update_mask.paths.extend(field.name for field, _ in person.ListFields())
    item.event_time.FromDatetime(datetime.now(UTC))
    item.register_time.FromDatetime(datetime.now(UTC))
    return item


def _agencies(records: Iterable[UsageRecord]) -> set[str]:
    """Agencies among those who used a record; the rooms of the mesh, which follow it, are none."""
    return {record.entry.agency_id for record in records} - {""}


def _expect_tampering_is_seen(proof: bytes, verify: Callable[[bytes], object]) -> None:
    """A proof whose entry differs in one character must not hold."""
    at = proof.index(b"extra ") + 40
    forged = proof[:at] + (b"B" if proof[at : at + 1] == b"A" else b"A") + proof[at + 1 :]
    try:
        verify(forged)
    except EvidenceInvalid:
        return
    raise Unexpected("expected that a changed entry is not proved, but it was")
