"""Entries of the log: what their bytes say, and what they never say."""

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from npd.common.v1 import access_pb2, evidence_pb2
from npd.sharing.v1 import contribution_pb2
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.evidence.entry import Entry, Outcome, PseudonymKey, Sealer
from services.mesh.core.rights import Access, Ground, Mode
from services.sharing.contribution.domain import Status

NOW = datetime(2026, 3, 14, 8, 30, 15, 123456, tzinfo=UTC)
KEY = PseudonymKey("k1", bytes(range(32)))
SUBJECT = UUID("6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21")
CALLER = Caller("spiffe://agency.test.npd.example/tax/core", CallerKind.AGENCY, "tax/core", "tax", "core")
GROUND = Ground(Access("a-1", "HS-2026/17", "o-1"), Mode.LOOKUP, "TAX", "D70/2024.9")
ENTRY = Entry(CALLER, "/npd/Get", Outcome.DISCLOSED, GROUND, SUBJECT, ("full_name", "sex"))


class Clock:
    """Stands still."""

    def now(self) -> datetime:
        return NOW


SEALER = Sealer("mesh.test.npd.example/sharing", KEY, Clock())


def read(entry: Entry) -> evidence_pb2.LogEntry:
    return evidence_pb2.LogEntry.FromString(SEALER.seal(entry).entry)


def test_an_entry_says_who_asked_for_what_on_which_ground() -> None:
    wire = read(ENTRY)
    assert wire.entry_time.ToDatetime(UTC) == NOW
    assert (wire.caller, wire.agency_id, wire.method) == (CALLER.identity, "tax", "/npd/Get")
    assert (wire.outcome, wire.mode) == (evidence_pb2.OUTCOME_DISCLOSED, access_pb2.ACCESS_MODE_LOOKUP)
    access = access_pb2.AccessContext(agreement_id="a-1", case_reference="HS-2026/17", officer_id="o-1")
    assert (wire.access, wire.purpose, wire.provision) == (access, "TAX", "D70/2024.9")
    assert (list(wire.paths), wire.count, wire.reason, wire.object) == (["full_name", "sex"], 1, "", "")


def test_an_entry_names_the_subject_by_a_pseudonym_alone() -> None:
    sealed = SEALER.seal(ENTRY)
    wire = evidence_pb2.LogEntry.FromString(sealed.entry)
    assert (wire.subject.key_id, wire.subject.pseudonym) == ("k1", sealed.pseudonym)
    assert sealed.pseudonym == SEALER.pseudonym(SUBJECT) == KEY.pseudonym(SUBJECT)
    for name in (SUBJECT.bytes, str(SUBJECT).encode(), SUBJECT.hex.encode()):
        assert name not in sealed.entry


def test_an_entry_without_ground_or_subject_has_neither() -> None:
    sealed = SEALER.seal(Entry(CALLER, "/npd/Get", Outcome.REFUSED, reason="AGREEMENT_EXPIRED", count=7))
    wire = evidence_pb2.LogEntry.FromString(sealed.entry)
    assert (wire.reason, wire.count, wire.mode) == ("AGREEMENT_EXPIRED", 7, access_pb2.ACCESS_MODE_UNSPECIFIED)
    assert not wire.HasField("access")
    assert not wire.HasField("subject")
    assert sealed.pseudonym is None


def test_a_refusal_names_the_ground_that_was_stated_and_nothing_confirmed() -> None:
    wire = read(Entry(CALLER, "/npd/Get", Outcome.REFUSED, stated=GROUND.access, reason="AGREEMENT_EXPIRED"))
    assert (wire.access.agreement_id, wire.access.officer_id) == ("a-1", "o-1")
    assert (wire.mode, wire.purpose, wire.provision) == (access_pb2.ACCESS_MODE_UNSPECIFIED, "", "")


def test_an_act_names_its_object() -> None:
    assert read(Entry(CALLER, "/npd/Suspend", Outcome.DONE, object="system tax/core")).object == "system tax/core"


def test_the_leaf_hash_is_that_of_the_bytes_as_stored() -> None:
    sealed = SEALER.seal(ENTRY)
    assert sealed.leaf_hash == sha256(b"\x00" + sealed.entry).digest()
    receipt = SEALER.receipt(sealed)
    assert (receipt.log_origin, receipt.leaf_hash) == ("mesh.test.npd.example/sharing", sealed.leaf_hash)


def test_nobody_can_guess_an_entry_from_its_hash() -> None:
    salts = {read(ENTRY).salt for _ in range(50)}
    assert (len(salts), {len(salt) for salt in salts}) == (50, {16})
    assert len({SEALER.seal(ENTRY).leaf_hash for _ in range(50)}) == 50


def test_pseudonyms_and_marks_depend_on_the_key_and_are_never_each_other() -> None:
    other = replace(KEY, key=bytes(32))
    assert KEY.pseudonym(SUBJECT) != other.pseudonym(SUBJECT)
    assert KEY.mark("079303012345") != other.mark("079303012345")
    assert KEY.mark("079303012345") != KEY.mark("079303012346")
    assert KEY.mark(SUBJECT.bytes.decode("latin-1")) != KEY.pseudonym(SUBJECT)
    assert len(KEY.mark("")) == len(KEY.pseudonym(SUBJECT)) == 32


def test_numbers_are_those_of_the_contract() -> None:
    stated = {"UNSPECIFIED": 0}
    outcomes = {outcome.name: outcome.value for outcome in Outcome}
    modes = {mode.name: mode.value for mode in Mode}
    statuses = {status.name: status.value for status in Status}
    assert {f"OUTCOME_{name}": n for name, n in (stated | outcomes).items()} == dict(evidence_pb2.Outcome.items())
    assert {f"ACCESS_MODE_{name}": n for name, n in (stated | modes).items()} == dict(access_pb2.AccessMode.items())
    wire = contribution_pb2.ContributionResult.Status
    assert {f"STATUS_{name}": n for name, n in (stated | statuses).items()} == dict(wire.items())
