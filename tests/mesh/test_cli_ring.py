"""What operators do with `npd` about chains and set-aside messages, in every room that endpoints.json names."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from npd.common.v1.evidence_pb2 import OUTCOME_DONE
from npd_pki.identity import Kind
from services.mesh.core.chain import Act, Causation, Chain
from services.mesh.core.outbox import Fate, Message, Outbox
from services.mesh.core.rights import Access
from services.registry.app import ROOM as REGISTRY
from tests.mesh.test_cli_operators import Answer, run
from tests.mesh_fixture import Authority, Running, Stage

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Npd = Callable[..., Answer]


@pytest.fixture(scope="module")
def registry(stage: Stage) -> Running:
    return stage.start(REGISTRY, operators=["lan"])


@pytest.fixture
def npd(registry: Running, authority: Authority, tmp_path: Path) -> Npd:
    """Runs a command as an operator; by default every room of the mesh answers."""

    def as_operator(*words: str, operator: str = "lan", **away: str) -> Answer:
        endpoints = tmp_path / "endpoints.json"
        endpoints.write_text(json.dumps({"registry": registry.address, **away}))
        directory = authority.tls(Kind.OPERATOR, operator)
        return run(*words, "-d", str(directory), "--endpoints", str(endpoints))

    return as_operator


@pytest.fixture
def chain(registry: Running) -> UUID:
    """A death that was registered, and what it led to."""
    access = Access("agreement", "HT/2026/1", "o-1")
    act_id = uuid4()
    death = Act(act_id, act_id, None, "civil_status.register_death", "spiffe://agency.test/hn/civil", access, NOW)
    close = Act.caused("residence.close_residence", "spiffe://mesh.test/residence", death.causation, NOW)
    with registry.house.engine.begin() as connection:
        Chain(connection).add(death)
        Chain(connection).add(close)
    return act_id


def set_aside(registry: Running) -> UUID:
    """A message that its receiver refused."""
    message = Message(uuid4(), "sharing", "contribution", uuid4(), b"", Causation(uuid4(), uuid4()))
    with registry.house.engine.begin() as connection:
        outbox = Outbox(connection)
        outbox.put(message)
        number = connection.execute(text("SELECT max(outbox_id) FROM outbox")).scalar_one()
        outbox.set_aside(number, Fate("PERSON_UNKNOWN", "pin"), datetime.now(UTC))
    return message.message_id


def test_a_chain_is_shown_with_its_links_and_clocks(npd: Npd, chain: UUID) -> None:
    answered = npd("chain", "show", str(chain))
    assert answered.returncode == 0, answered.stderr
    lines = answered.stdout.splitlines()
    (death,) = [line for line in lines if "civil_status.register_death" in line]
    (close,) = [line for line in lines if "residence.close_residence" in line]
    assert lines.index(death) < lines.index(close)
    assert close.index("residence.close") > death.index("civil_status.register"), "indented under its cause"
    for part in ("hn/civil", "o-1", "HT/2026/1", "15:00:00"):
        assert part in death
    assert "MET: Residence of the deceased is closed (D58/2026.4.7)" in answered.stdout


def test_a_chain_as_json(npd: Npd, chain: UUID) -> None:
    told = json.loads(npd("chain", "show", str(chain).upper(), "--json").stdout)
    assert told["correlation_id"] == str(chain)
    assert [(one["room"], one["depth"], one["act"]) for one in told["links"]] == [
        ("registry", 0, "civil_status.register_death"),
        ("registry", 1, "residence.close_residence"),
    ]
    assert [(one["code"], one["state"]) for one in told["clocks"]] == [("RESIDENCE_CLOSED_AFTER_DEATH", "MET")]
    assert told["missing"] == []


@pytest.mark.parametrize("as_json", [False, True])
def test_a_room_that_does_not_answer_is_named_and_the_rest_is_shown(npd: Npd, chain: UUID, as_json: bool) -> None:
    answered = npd("chain", "show", str(chain), *(["--json"] if as_json else []), residence="localhost:1")
    assert answered.returncode == 3
    assert "civil_status.register_death" in answered.stdout
    if as_json:
        assert [one["room"] for one in json.loads(answered.stdout)["missing"]] == ["residence"]
    else:
        assert "residence did not answer" in answered.stdout


def test_a_chain_that_no_room_knows_exits_with_1(npd: Npd) -> None:
    unknown = str(uuid4())
    answered = npd("chain", "show", unknown)
    assert answered.returncode == 1
    assert unknown in answered.stderr
    answered = npd("chain", "show", unknown, residence="localhost:1")
    assert answered.returncode == 3, "that room may know it"
    assert answered.stdout.startswith(f"No room that answered knows a chain {unknown}.")


def test_when_no_room_answers_the_reason_is_said(npd: Npd, chain: UUID) -> None:
    away = npd("chain", "show", str(chain), registry="localhost:1")
    assert away.returncode == 3
    assert away.stderr.startswith("UNREACHABLE")
    stranger = npd("chain", "show", str(chain), operator="stranger")
    assert stranger.returncode == 1
    assert "OPERATOR_UNKNOWN" in stranger.stderr


def test_what_is_set_aside_is_listed_and_tried_again(npd: Npd, registry: Running) -> None:
    assert "Nothing is set aside in registry" in npd("set-aside", "list").stdout
    first, second = set_aside(registry), set_aside(registry)
    shown = npd("set-aside", "list")
    assert shown.returncode == 0
    for part in (str(first), str(second), "contribution to sharing", "PERSON_UNKNOWN pin"):
        assert part in shown.stdout
    told = json.loads(npd("set-aside", "list", "registry", "--json").stdout)
    assert [(one["room"], one["message_id"]) for one in told["messages"]] == [
        ("registry", str(first)),
        ("registry", str(second)),
    ]
    assert npd("set-aside", "retry", "registry", str(first)).stdout.strip() == "registry tries 1 again"
    entry = registry.entries()[-1]
    assert entry.method.endswith("/RetrySetAside")
    assert (entry.outcome, entry.object) == (OUTCOME_DONE, "1 messages")
    assert json.loads(npd("set-aside", "retry", "registry", "--all", "--json").stdout)["retried_count"] == 1
    assert "Nothing is set aside" in npd("set-aside", "list", "registry").stdout


def test_a_list_names_the_room_that_did_not_answer(npd: Npd, registry: Running) -> None:
    answered = npd("set-aside", "list", residence="localhost:1")
    assert answered.returncode == 3
    assert "residence did not answer" in answered.stdout
    told = json.loads(npd("set-aside", "list", "--json", residence="localhost:1").stdout)
    assert [(one["room"], bool(one["reason"])) for one in told["missing"]] == [("residence", True)]


def test_what_is_not_set_aside_cannot_be_tried_again(npd: Npd, registry: Running) -> None:
    answered = npd("set-aside", "retry", "registry", str(uuid4()))
    assert answered.returncode == 1
    assert "MESSAGE_UNKNOWN" in answered.stderr
    assert registry.entries()[-1].reason == "MESSAGE_UNKNOWN"


def test_a_room_without_an_address_is_a_mistake_of_the_caller(npd: Npd) -> None:
    for words in (("list", "nowhere"), ("retry", "nowhere", "--all")):
        answered = npd("set-aside", *words)
        assert answered.returncode == 2
        assert "those that have are: registry" in answered.stderr


def test_nothing_is_redelivered_to_a_room_that_does_not_exist(npd: Npd) -> None:
    words = ("redeliver", "registry", "--since", "2026-01-01T00:00:00Z", "--peer")
    refused = npd(*words, "sharing", sharing="localhost:1")
    assert (refused.returncode, "keeps none" in refused.stderr) == (1, True), "too long ago"
    mistyped = npd(*words, "sharnig", sharing="localhost:1")
    assert mistyped.returncode not in (0, 1)
    assert "No room sharnig" in mistyped.stderr
    assert "registry, sharing" in mistyped.stderr
