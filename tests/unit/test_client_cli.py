"""The command `npd-client`: what it asks, prints and exits with; the client behind it is a fake."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.type.date_pb2 import Date
from typer.testing import CliRunner, Result

import npd_client.cli
from npd.common.v1 import access_pb2, error_reason_pb2, evidence_pb2, lane_pb2, person_pb2, place_pb2
from npd.registry.v1 import agency_pb2, rights_pb2
from npd.sharing.v1 import change_pb2, lookup_pb2, usage_pb2, verification_pb2
from npd_client import Refusal, Unreachable, merkle
from npd_client.checkpoint import Checkpoint
from npd_client.cli import options
from npd_client.cli.app import app
from npd_client.client import read_endpoints
from npd_client.credentials import CertificateExpired
from npd_client.note import VerifierKey

PIN, NAME, BIRTH = "001190000017", "Nguyễn Thị [Hoa]", "1990-05-17"
GROUND = ["-a", "agreement-1", "-c", "HS-2026/17", "-o", "officer-1"]
IDENTITY = ["--pin", PIN, "--name", NAME, "--birth-date", BIRTH]
RECEIPT = evidence_pb2.Receipt(log_origin="sharing.npd.test", leaf_hash=bytes(range(32)))
DISCLOSED = lookup_pb2.GetCitizenResponse(
    outcome=evidence_pb2.OUTCOME_DISCLOSED,
    citizen=person_pb2.Person(
        full_name=person_pb2.PersonName(full=NAME),
        birth_date=Date(year=1990),
        marital_status=person_pb2.MARITAL_STATUS_SINGLE,
    ),
    disputed_paths=["marital_status"],
    receipt=RECEIPT,
)


class FakeClient:
    """Answers with what the test put into `answer`, or raises it; keeps the arguments."""

    answer: Any = None
    called: tuple[Any, ...] = ()
    addresses: Any = None
    renews: bool = False
    acknowledged: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, addresses: Any, directory: Path, *, renew: bool) -> None:
        FakeClient.addresses, FakeClient.renews = addresses, renew

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _answer(self, *args: Any, **kwargs: Any) -> Any:
        FakeClient.called = (*args, kwargs)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    who_am_i = describe_rights = get_citizen = verify_citizen = find_usage = inclusion_proof = _answer

    def acknowledge(self, *args: Any, **kwargs: Any) -> None:
        FakeClient.acknowledged.append((*args, kwargs))

    def watch_changes(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from self._answer(*args, **kwargs)

    def pull_changes(self, access: Any, cursor: Any, lane: Any) -> change_pb2.PullChangesResponse:
        done = cursor.position if cursor else 0
        return change_pb2.PullChangesResponse(
            changes=[change_pb2.Change(position=done + 1)],
            next_cursor=change_pb2.Cursor(incarnation=1, position=done + 1),
            head=change_pb2.Cursor(incarnation=1, position=2),
        )


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setattr(options, "Client", FakeClient)
    monkeypatch.chdir(tmp_path)
    for name in ("DIRECTORY", "ENDPOINTS", "AGREEMENT", "OFFICER"):
        monkeypatch.delenv(f"NPD_CLIENT_{name}", raising=False)
    (tmp_path / ".npd").mkdir()
    (tmp_path / ".npd" / "endpoints.json").write_text('{"sharing": "localhost:7005", "registry": "localhost:7001"}')

    def call(*arguments: str, answer: Any = None, stdin: str = "") -> Result:
        FakeClient.answer, FakeClient.called = answer, ()
        FakeClient.acknowledged.clear()
        return CliRunner().invoke(app, arguments, input=stdin)

    return call


def test_a_lookup_prints_what_was_released(run: Run) -> None:
    result = run("lookup", "-d", ".", *GROUND, *IDENTITY, "-f", "full_name,birth_date", "-f", "sex", answer=DISCLOSED)
    assert result.exit_code == 0, result.output
    access, *citizen, options_given = FakeClient.called
    assert (access.agreement_id, access.case_reference, access.officer_id) == ("agreement-1", "HS-2026/17", "officer-1")
    assert citizen == [PIN, NAME, BIRTH]
    assert options_given["fields"] == ["full_name", "birth_date", "sex"]
    assert FakeClient.addresses == {"sharing": "localhost:7005", "registry": "localhost:7001"}
    assert NAME in result.stdout, "brackets in a value are no markup"
    assert "1990" in result.stdout
    assert "marital_status (disputed)" in result.stdout
    assert RECEIPT.leaf_hash.hex() in result.stdout


def test_json_is_the_answer_in_proto_json(run: Run) -> None:
    result = run("lookup", "-d", ".", *GROUND, *IDENTITY, "-f", "sex", "--json", answer=DISCLOSED)
    assert json.loads(result.stdout)["citizen"]["full_name"]["full"] == NAME


def test_what_no_option_gives_is_read_from_the_standard_input(run: Run) -> None:
    arguments = ["lookup", "-d", ".", *GROUND, "-f", "sex"]
    assert run(*arguments, answer=DISCLOSED, stdin=f"{PIN}\n{NAME}\n{BIRTH}\n").exit_code == 0
    assert FakeClient.called[1:4] == (PIN, NAME, BIRTH)
    assert run(*arguments, "--pin", PIN, answer=DISCLOSED, stdin=f"{NAME}\n{BIRTH}\n").exit_code == 0
    assert FakeClient.called[1:4] == (PIN, NAME, BIRTH)
    cut = run(*arguments, stdin=f"{PIN}\n")
    assert (cut.exit_code, FakeClient.called) == (2, ())
    assert "Full name" in cut.stderr


def test_no_match_is_an_answer_with_its_own_exit_code(run: Run) -> None:
    answer = lookup_pb2.GetCitizenResponse(outcome=evidence_pb2.OUTCOME_NO_MATCH, receipt=RECEIPT)
    result = run("lookup", "-d", ".", *GROUND, *IDENTITY, "-f", "sex", answer=answer)
    assert (result.exit_code, result.stderr) == (4, "")
    assert "NO_MATCH" in result.stdout
    assert PIN not in result.output
    usage = usage_pb2.FindUsageResponse(outcome=evidence_pb2.OUTCOME_NO_MATCH)
    assert run("usage", "-d", ".", *GROUND, *IDENTITY, answer=usage).exit_code == 4


def refusal() -> Refusal:
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        reason="FIELD_NOT_GRANTED",
        metadata={"field": "phone"},
        messages={"vi": "Trường phone không được cấp.", "en": "The field phone is not granted."},
        request_id="r-1",
    )


def test_a_refusal_says_reason_sentence_and_next_step(run: Run) -> None:
    arguments = ["lookup", "-d", ".", *GROUND, *IDENTITY, "-f", "phone"]
    english = run(*arguments, answer=refusal())
    assert (english.exit_code, english.stdout) == (1, "")
    assert english.stderr.startswith(
        "REFUSED: FIELD_NOT_GRANTED (PERMISSION_DENIED)\nThe field phone is not granted.\n"
    )
    assert "npd-client rights" in english.stderr
    assert "r-1" in english.stderr
    vietnamese = run(*arguments, "--lang", "vi", answer=refusal())
    assert "Trường phone không được cấp." in vietnamese.stderr
    machine = run(*arguments, "--json", answer=refusal())
    assert (machine.exit_code, json.loads(machine.stderr)["reason"]) == (1, "FIELD_NOT_GRANTED")


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (Unreachable(grpc.StatusCode.UNAVAILABLE, messages={"en": "Nothing listens."}), 3, "Nothing listens."),
        (CertificateExpired("Your certificate expired on 2026-01-01."), 3, "expired on"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_is_no_refusal_has_another_exit_code(run: Run, error: BaseException, exit_code: int, said: str) -> None:
    result = run("whoami", "-d", ".", answer=error)
    assert result.exit_code == exit_code
    assert said in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["whoami"], "NPD_CLIENT_DIRECTORY"),
        (["whoami", "-d", ".", "--endpoints", "absent.json"], "absent.json"),
        (["prove", "abc", "--out", "x", "-d", "."], "leaf hash"),
        (["watch", "-d", ".", *GROUND, "--cursor", "17"], "INCARNATION:POSITION"),
        (["lookup", "-d", ".", *GROUND], "--field"),
    ],
)
def test_wrong_use_is_explained(run: Run, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_directory_that_does_not_exist_is_named(run: Run) -> None:
    result = run("whoami", "-d", "absent")
    assert result.exit_code == 3
    assert "absent" in result.stderr


def test_whoami_and_rights_print_tables(run: Run) -> None:
    me = rights_pb2.WhoAmIResponse(identity="spiffe://agency.npd.test/tax/core", state=agency_pb2.SYSTEM_STATE_ACTIVE)
    result = run("whoami", "--directory", ".", answer=me)
    assert "spiffe://agency.npd.test/tax/core" in result.stdout
    assert "ACTIVE" in result.stdout
    rights = rights_pb2.DescribeRightsResponse(
        agreements=[
            rights_pb2.AgreementRights(
                agreement_id="agreement-1",
                end_date=Date(year=2027, month=1, day=31),
                refusal=error_reason_pb2.ERROR_REASON_AGREEMENT_SUSPENDED,
                modes=[rights_pb2.ModeRights(mode=access_pb2.ACCESS_MODE_LOOKUP, paths=["full_name", "sex"])],
            )
        ]
    )
    result = run("rights", "--directory", ".", answer=rights)
    for text in ("agreement-1", "2027-01-31", "LOOKUP", "full_name, sex", "AGREEMENT_SUSPENDED"):
        assert text in result.stdout


def test_usage_shows_who_asked_and_the_next_page(run: Run) -> None:
    answer = usage_pb2.FindUsageResponse(
        outcome=evidence_pb2.OUTCOME_DISCLOSED,
        records=[usage_pb2.UsageRecord(agency_name="Tax", entry=evidence_pb2.LogEntry(paths=["sex"]), receipt=RECEIPT)],
        next_page_token="t-2",
    )
    result = run("usage", "-d", ".", *GROUND, *IDENTITY, answer=answer)
    assert result.exit_code == 0
    for text in ("Tax", "sex", "--page-token t-2"):
        assert text in result.stdout


def message(position: int) -> change_pb2.WatchChangesResponse:
    change = change_pb2.Change(position=position, pin=PIN, changed_paths=["phone", "email"], source="moh/medical")
    change.citizen.phone = "+8424"
    return change_pb2.WatchChangesResponse(changes=[change], cursor=change_pb2.Cursor(incarnation=1, position=position))


def test_watch_keeps_its_place_in_a_file(run: Run, tmp_path: Path) -> None:
    arguments = ["watch", "-d", ".", *GROUND, "--cursor-file", "place"]
    result = run(*arguments, answer=[message(5), message(6)])
    assert result.exit_code == 0
    assert "phone: +8424" in result.stdout
    assert "email: (no value any more)" in result.stdout
    assert (tmp_path / "place").read_text() == "1:6\n"
    run(*arguments, answer=[])
    assert FakeClient.called[1] == change_pb2.Cursor(incarnation=1, position=6)


def test_only_a_command_that_lasts_renews_its_certificate(run: Run) -> None:
    run("watch", "-d", ".", *GROUND, answer=[])
    assert FakeClient.renews
    run("rights", "-d", ".", answer=rights_pb2.DescribeRightsResponse())
    assert not FakeClient.renews


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["enrol"], 2, "NPD_CLIENT_DIRECTORY"),
        (["enrol", "-d", "new"], 2, "--ca"),
        (["enrol", "-d", "new", "--ca", "ca.crt"], 2, "Token"),
        (["enrol", "-d", "new", "--ca", "absent.crt", "--token-file", "token"], 2, "token"),
        (["enrol", "--resume", "-d", "."], 3, "No enrolment"),
        (["renew", "-d", "."], 2, "names no issuer"),
        (["renew", "--expired", "-d", "."], 2, "names no door"),
        (["status", "-d", "absent"], 3, "tls.key"),
        (["doctor", "-d", ".", "nowhere"], 2, "HOST:PORT"),
    ],
)
def test_wrong_use_of_the_commands_about_certificates_is_explained(
    run: Run, tmp_path: Path, arguments: list[str], exit_code: int, said: str
) -> None:
    (tmp_path / "ca.crt").write_text("")
    result = run(*arguments)
    assert (result.exit_code, said in result.stderr) == (exit_code, True), result.output
    assert not (tmp_path / "new").exists()


def test_watch_from_the_oldest_pulls_up_to_the_head_first(run: Run) -> None:
    result = run(
        "watch", "-d", ".", *GROUND, "--from-oldest", "--json", "--limit", "3", answer=[message(3), message(4)]
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["changes"][0]["position"] for line in lines] == ["1", "2", "3"]
    assert FakeClient.called[1].position == 2


VERDICTS = verification_pb2.VerifyCitizenResponse(
    outcome=evidence_pb2.OUTCOME_DISCLOSED,
    fields=[verification_pb2.FieldVerdict(path="marital_status", verdict=verification_pb2.VERDICT_CONTRADICTED)],
    predicates=[verification_pb2.VERDICT_CONFIRMED],
    receipt=RECEIPT,
)


def test_claims_are_sent_as_values_and_verdicts_printed(run: Run) -> None:
    claims = [
        "marital_status=single",
        "birth_date=1990-05",
        "full_name=Lê An",
        "phone=",
        "permanent_residence.place.unit_code=01",
        "nationalities=VN, FR",
        "id_cards.document_number=1",
        "id_cards.issue_date=2020",
    ]
    given = [part for claim in claims for part in ("--claim", claim)]
    result = run("verify", "-d", ".", *GROUND, *IDENTITY, *given, "--age-at-least", "18", answer=VERDICTS)
    assert result.exit_code == 0, result.output
    _, *citizen, claimed, more = FakeClient.called
    assert citizen == [PIN, NAME, BIRTH]
    place = place_pb2.AdminPlace(unit_code="01")
    assert claimed == person_pb2.Person(
        marital_status=person_pb2.MARITAL_STATUS_SINGLE,
        birth_date=Date(year=1990, month=5),
        full_name=person_pb2.PersonName(full="Lê An"),
        permanent_residence=place_pb2.Address(place=place),
        nationalities=["VN", "FR"],
        id_cards=[person_pb2.IdentityCard(document_number="1", issue_date=Date(year=2020))],
    )
    assert more["fields"] == [
        "marital_status",
        "birth_date",
        "full_name",
        "phone",
        "permanent_residence",
        "nationalities",
        "id_cards",
    ]
    assert more["predicates"] == [verification_pb2.Predicate(age_at_least=18)]
    for expected in ("marital_status", "CONTRADICTED", "age_at_least=18", "CONFIRMED", RECEIPT.leaf_hash.hex()):
        assert expected in result.stdout


def test_claimed_value_that_no_option_gives_is_read_after_the_identity(run: Run) -> None:
    stdin = f"{PIN}\n{NAME}\n{BIRTH}\n+84000000001\n"
    assert run("verify", "-d", ".", *GROUND, "--claim", "phone", answer=VERDICTS, stdin=stdin).exit_code == 0
    assert FakeClient.called[4] == person_pb2.Person(phone="+84000000001")


def test_every_predicate_has_an_option(run: Run) -> None:
    given = ["--not-alive", "--resides-in", "01@2025-07-01", "--nationality", "VN"]
    run("verify", "-d", ".", *GROUND, *IDENTITY, *given, answer=VERDICTS)
    assert FakeClient.called[-1]["predicates"] == [
        verification_pb2.Predicate(alive=False),
        verification_pb2.Predicate(resides_in=place_pb2.AdminPlace(unit_code="01", unit_list_version="2025-07-01")),
        verification_pb2.Predicate(has_nationality="VN"),
    ]


@pytest.mark.parametrize(
    "claim",
    [
        "favourite_dish=phở",
        "phone.number=1",
        "permanent_residence=Hà Nội",
        "marital_status=POSITIVE",
        "blood_type=POSITIVE",
        "birth_date=yesterday",
    ],
)
def test_impossible_claim_is_a_usage_error_that_does_not_repeat_the_value(run: Run, claim: str) -> None:
    result = run("verify", "-d", ".", *GROUND, *IDENTITY, "--claim", claim, answer=VERDICTS)
    assert (result.exit_code, FakeClient.called) == (2, ())
    assert f"={claim.partition('=')[2]}" not in result.output


def test_a_place_without_its_list_is_a_usage_error(run: Run) -> None:
    result = run("verify", "-d", ".", *GROUND, *IDENTITY, "--resides-in", "01", answer=VERDICTS)
    assert (result.exit_code, FakeClient.called) == (2, ())


def test_claims_about_somebody_else_are_no_match(run: Run) -> None:
    answer = verification_pb2.VerifyCitizenResponse(outcome=evidence_pb2.OUTCOME_NO_MATCH)
    result = run("verify", "-d", ".", *GROUND, *IDENTITY, "--alive", answer=answer)
    assert (result.exit_code, result.stdout.startswith("NO_MATCH")) == (4, True)


def test_a_watch_of_one_lane_acknowledges_what_it_printed(run: Run) -> None:
    messages = [
        change_pb2.WatchChangesResponse(cursor=change_pb2.Cursor(incarnation=1, position=place)) for place in (4, 7)
    ]
    result = run("watch", "-d", ".", *GROUND, "--lane", "vital", "--acknowledge", answer=messages)
    assert result.exit_code == 0, result.output
    assert FakeClient.called[-1]["lane"] == lane_pb2.LANE_VITAL
    assert [said[-1] for said in FakeClient.acknowledged] == [
        {"received": message.cursor, "applied": message.cursor, "lane": lane_pb2.LANE_VITAL} for message in messages
    ]
    run("watch", "-d", ".", *GROUND, answer=messages)
    assert (FakeClient.acknowledged, FakeClient.called[-1]["lane"]) == ([], lane_pb2.LANE_UNSPECIFIED)


def one_entry_log() -> tuple[VerifierKey, evidence_pb2.GetInclusionProofResponse, str]:
    entry = evidence_pb2.LogEntry(salt=b"s" * 16, purpose="tax").SerializeToString()
    private, leaf = Ed25519PrivateKey.generate(), merkle.leaf_hash(entry)
    checkpoint = Checkpoint("sharing.npd.test", 1, leaf).sign(private).decode()
    answer = evidence_pb2.GetInclusionProofResponse(entry=entry, index=0, checkpoint=checkpoint)
    return VerifierKey.of("sharing.npd.test", private), answer, leaf.hex()


def test_a_proof_is_fetched_and_verified_offline(run: Run, tmp_path: Path) -> None:
    key, answer, leaf = one_entry_log()
    (tmp_path / "sharing.vkey").write_text(f"{key}\n")
    fetched = run("prove", leaf, "--out", "a.tlog-proof", "--key", "sharing.vkey", "-d", ".", answer=answer)
    assert fetched.exit_code == 0, fetched.output
    assert FakeClient.called == (bytes.fromhex(leaf), {"room": "sharing"})
    checked = run("verify-proof", "a.tlog-proof", "--key", "sharing.vkey", "--leaf-hash", leaf)
    assert checked.exit_code == 0, checked.output
    assert checked.stdout.startswith("PROVEN")
    assert "tax" in checked.stdout
    machine = json.loads(run("verify-proof", "a.tlog-proof", "--key", "sharing.vkey", "--json").stdout)
    assert (machine["leaf_hash"], machine["entry"]["purpose"]) == (leaf, "tax")


def test_a_proof_that_does_not_hold_has_its_own_exit_code(run: Run, tmp_path: Path) -> None:
    _, answer, leaf = one_entry_log()
    stranger, _, _ = one_entry_log()
    (tmp_path / "other.vkey").write_text(str(stranger))
    run("prove", leaf, "--out", "a.tlog-proof", "-d", ".", answer=answer)
    refused = run("verify-proof", "a.tlog-proof", "--key", "other.vkey")
    assert (refused.exit_code, refused.stdout) == (5, "")
    assert "NOT PROVEN" in refused.stderr


def test_every_command_has_an_example_in_its_help(run: Run) -> None:
    answering = ("whoami", "rights", "lookup", "usage", "watch", "prove", "verify", "verify-proof")
    for command in (*answering, "enrol", "renew", "status", "doctor"):
        result = run(command, "--help")
        assert result.exit_code == 0
        assert f"Example: npd-client {command}" in result.stdout


def test_without_the_extra_a_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    for name in [name for name in sys.modules if name.startswith("npd_client.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as left:
        npd_client.cli.main()
    assert left.value.code == 2
    assert "pip install 'npd-client[cli]'" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "{", '{"sharing": 7005}'])
def test_a_file_that_holds_no_addresses_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "endpoints.json").write_text(content)
    with pytest.raises(LookupError, match=r"endpoints\.json"):
        read_endpoints(tmp_path / "endpoints.json")


def test_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    answers = iter([PIN, f" {NAME} ", BIRTH])
    monkeypatch.setattr("typer.prompt", lambda label, err: next(answers))
    assert options.ask_identity("", "", "") == (PIN, NAME, BIRTH)
