"""Policy updates: which are taken, which are refused, and what a room knows after a restart."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import REGISTRY

from npd.registry.v1 import agency_pb2, policy_pb2
from services.mesh.core.rights import State
from services.mesh.wire import policy_files
from services.mesh.wire.policy import CONTEXT, PolicyKeeper, SignedUpdate, UpdateGap, UpdateRefused, open_keeper

ENV = "test.npd.example"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
START = datetime(2026, 3, 14, 8, tzinfo=UTC)


def operator(name: str, *, removed: bool = False) -> policy_pb2.PolicyEntry:
    return policy_pb2.PolicyEntry(key=f"operator/{name}", removed=removed, operator=policy_pb2.Operator(name=name))


def system(state: "agency_pb2.SystemState.ValueType") -> policy_pb2.PolicyEntry:
    return policy_pb2.PolicyEntry(
        key="system/tax/core", system=agency_pb2.System(agency_id="tax", system_id="core", state=state)
    )


def update(
    base: int, revision: int, *entries: policy_pb2.PolicyEntry, environment: str = ENV, minute: int = 0
) -> SignedUpdate:
    stated = policy_pb2.PolicyUpdate(environment=environment, base_revision=base, revision=revision, entries=entries)
    stated.issue_time.FromDatetime(START + timedelta(minutes=minute))
    return signed(stated.SerializeToString())


def signed(stated: bytes) -> SignedUpdate:
    return SignedUpdate(stated, KEY.sign(CONTEXT + stated))


def keeper(directory: Path) -> PolicyKeeper:
    return open_keeper(ENV, KEY.public_key(), lambda: (), directory)


def refused_so_far() -> float:
    return REGISTRY.get_sample_value("npd_policy_updates_refused_total") or 0.0


def known(room: PolicyKeeper) -> tuple[int, set[str]]:
    return room.current.revision, set(room.current.operators)


def known_after_restart(directory: Path) -> tuple[int, set[str]]:
    return known(keeper(directory))


@pytest.fixture
def held(tmp_path: Path) -> PolicyKeeper:
    """Holds revision 5, by a snapshot."""
    started = keeper(tmp_path)
    started.take(update(0, 5, operator("lan"), operator("mai")))
    return started


def test_a_room_without_policy_grants_nothing(tmp_path: Path) -> None:
    started = keeper(tmp_path)
    assert known(started) == (0, set())
    assert started.age(START) > timedelta(days=365).total_seconds()


def test_a_snapshot_and_a_delta_are_taken(held: PolicyKeeper) -> None:
    assert known(held) == (5, {"lan", "mai"})
    held.take(update(5, 6, operator("lan", removed=True), operator("hoa"), minute=1))
    assert known(held) == (6, {"mai", "hoa"})
    assert held.age(START + timedelta(minutes=3)) == 120


def test_a_whole_snapshot_replaces_everything(held: PolicyKeeper) -> None:
    held.take(update(0, 9, operator("hoa")))
    assert known(held) == (9, {"hoa"})


def test_a_sign_of_life_changes_nothing_but_the_age(held: PolicyKeeper) -> None:
    changes: list[int] = []
    held.on_change(lambda: changes.append(held.current.revision))
    held.take(update(5, 5, minute=4))
    assert (known(held), held.age(START + timedelta(minutes=4)), changes) == ((5, {"lan", "mai"}), 0, [])
    held.take(update(5, 5, minute=2))
    assert held.age(START + timedelta(minutes=4)) == 0, "a repeated older one takes no freshness away"


def test_listeners_hear_of_every_change_once_it_counts(held: PolicyKeeper) -> None:
    heard: list[int] = []
    held.on_change(lambda: heard.append(held.current.revision))
    held.take(update(5, 6, operator("hoa")))
    held.take(update(0, 8, operator("hoa")))
    assert heard == [6, 8]


# What is refused


def assert_refused(held: PolicyKeeper, forged: SignedUpdate, kind: type[UpdateRefused] = UpdateRefused) -> None:
    before, counted = held.current, refused_so_far()
    with pytest.raises(UpdateRefused) as refused:
        held.take(forged)
    assert type(refused.value) is kind
    assert held.current is before
    assert refused_so_far() == counted + 1


def test_an_update_of_another_key_is_refused(held: PolicyKeeper) -> None:
    good = update(5, 6, operator("eve"))
    forged = Ed25519PrivateKey.generate().sign(CONTEXT + good.update)
    assert_refused(held, SignedUpdate(good.update, forged))
    assert_refused(held, SignedUpdate(good.update, b""))
    assert_refused(held, SignedUpdate(good.update, KEY.sign(good.update)))  # signed in no context, or in another
    assert_refused(held, SignedUpdate(good.update, KEY.sign(b"npd-agreement-v1\n" + good.update)))


def test_an_altered_update_is_refused(held: PolicyKeeper) -> None:
    good, other = update(5, 6, operator("lan", removed=True)), update(5, 6, operator("eve"))
    assert_refused(held, SignedUpdate(other.update, good.signature))


def test_an_update_for_another_environment_is_refused(held: PolicyKeeper) -> None:
    assert_refused(held, update(5, 6, operator("eve"), environment="prod.npd.example"))
    assert_refused(held, update(0, 6, operator("eve"), environment=""))


@pytest.mark.parametrize("base", [1, 4, 6, 7])
def test_an_update_that_does_not_follow_on_is_a_gap(held: PolicyKeeper, base: int) -> None:
    assert_refused(held, update(base, 8, operator("eve")), UpdateGap)


@pytest.mark.parametrize("base", [0, 5])
def test_no_update_leads_back(held: PolicyKeeper, base: int) -> None:
    assert_refused(held, update(base, 4, operator("eve")))


def test_bytes_that_are_no_update_are_refused_even_signed(held: PolicyKeeper) -> None:
    assert_refused(held, signed(b"\xff\xff\xff"))


def test_an_entry_that_cannot_be_read_refuses_the_update_whole_and_is_not_kept(
    held: PolicyKeeper, tmp_path: Path
) -> None:
    nowhere = policy_pb2.Provision(provision_id="D70/2024.9")
    nowhere.start_date.year, nowhere.start_date.month, nowhere.start_date.day = 2024, 2, 30
    unreadable = policy_pb2.PolicyEntry(key="provision/D70/2024.9", provision=nowhere)
    assert_refused(held, update(5, 6, operator("lan", removed=True), unreadable))
    assert known_after_restart(tmp_path) == (5, {"lan", "mai"})


# What a restart knows


def test_a_restart_knows_snapshot_deltas_and_the_last_sign_of_life(held: PolicyKeeper, tmp_path: Path) -> None:
    held.take(update(5, 5, minute=1))
    held.take(update(5, 6, operator("hoa"), minute=2))
    held.take(update(6, 7, operator("lan", removed=True), minute=3))
    held.take(update(7, 7, minute=4))
    restarted = keeper(tmp_path)
    assert restarted.current == held.current
    assert (known(restarted), restarted.age(START + timedelta(minutes=4))) == ((7, {"mai", "hoa"}), 0)


def test_a_snapshot_on_disk_replaces_everything_before_it(held: PolicyKeeper, tmp_path: Path) -> None:
    held.take(update(5, 6, operator("hoa")))
    held.take(update(6, 6))
    held.take(update(0, 9, operator("minh")))
    held.take(update(9, 10, operator("thu")))
    assert known_after_restart(tmp_path) == (10, {"minh", "thu"})


def test_policy_of_another_registry_key_is_not_started_from(held: PolicyKeeper, tmp_path: Path) -> None:
    other = Ed25519PrivateKey.generate().public_key()
    started = open_keeper(ENV, other, lambda: (), tmp_path)
    assert known(started) == (0, set())


def test_a_refused_update_is_not_on_disk(held: PolicyKeeper, tmp_path: Path) -> None:
    for wrong in (update(4, 8, operator("eve")), update(0, 4), update(5, 6, operator("eve"), environment="x")):
        with pytest.raises(UpdateRefused):
            held.take(wrong)
    assert known_after_restart(tmp_path) == (5, {"lan", "mai"})


def test_a_delta_torn_anywhere_is_cut_off_and_the_next_one_follows(held: PolicyKeeper, tmp_path: Path) -> None:
    deltas = tmp_path / "deltas.binpb"
    held.take(update(5, 6, operator("hoa")))
    whole = deltas.read_bytes()
    held.take(update(6, 7, operator("lan", removed=True)))
    both = deltas.read_bytes()
    for size in range(len(whole), len(both)):
        deltas.write_bytes(both[:size])
        restarted = keeper(tmp_path)
        assert known(restarted) == (6, {"lan", "mai", "hoa"})
        restarted.take(update(6, 8, operator("mai", removed=True)))
        assert known_after_restart(tmp_path) == (8, {"lan", "hoa"})


@pytest.mark.parametrize("tail", [b"\0" * 64, b"\0\0\0\x03\xff\xff\xff", b"\xff" * 40])
def test_rubbish_behind_a_delta_is_cut_off(held: PolicyKeeper, tmp_path: Path, tail: bytes) -> None:
    held.take(update(5, 6, operator("hoa")))
    with (tmp_path / "deltas.binpb").open("ab") as file:
        file.write(tail)
    restarted = keeper(tmp_path)
    restarted.take(update(6, 7, operator("thu")))
    assert known_after_restart(tmp_path) == (7, {"lan", "mai", "hoa", "thu"})


def test_a_crash_while_a_snapshot_replaces_deltas_loses_nothing(held: PolicyKeeper, tmp_path: Path) -> None:
    held.take(update(5, 6, operator("lan", removed=True)))
    held.take(update(6, 6, minute=1))
    replaced = {name: (tmp_path / name).read_bytes() for name in ("deltas.binpb", "sign-of-life.binpb")}
    held.take(update(0, 9, operator("hoa")))
    for name, content in replaced.items():
        (tmp_path / name).write_bytes(content)  # the crash came before they were removed
    restarted = keeper(tmp_path)
    assert known(restarted) == (9, {"hoa"})
    restarted.take(update(9, 10, operator("thu")))
    assert known_after_restart(tmp_path) == (10, {"hoa", "thu"})


def test_the_snapshot_stands_before_what_it_replaces_goes(
    held: PolicyKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.take(update(5, 6, operator("lan", removed=True)))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            held.take(update(0, 9, operator("hoa")))
    assert known_after_restart(tmp_path) == (9, {"hoa"})


def test_policy_that_cannot_be_kept_counts_all_the_same(
    held: PolicyKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", full)
        held.take(update(5, 6, operator("lan", removed=True)))
    assert known(held) == (6, {"mai"}), "a revocation does not wait for the disk"
    assert known_after_restart(tmp_path) == (5, {"lan", "mai"})
    held.take(update(0, 7, operator("hoa")))
    held.take(update(7, 8, operator("thu")))
    assert known_after_restart(tmp_path) == (8, {"hoa", "thu"}), "nothing torn stands before what is kept again"


def test_a_whole_snapshot_is_asked_for_when_the_deltas_are_long(
    held: PolicyKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert held.revision_to_ask_for() == 5
    held.take(update(5, 6, operator("hoa")))
    assert held.revision_to_ask_for() == 6
    monkeypatch.setattr(policy_files, "_LONG", 10)
    assert held.revision_to_ask_for() == 0
    held.take(update(0, 6, operator("hoa")))
    assert held.revision_to_ask_for() == 6


def test_a_suspension_survives_a_restart(held: PolicyKeeper, tmp_path: Path) -> None:
    held.take(update(5, 6, system(agency_pb2.SYSTEM_STATE_ACTIVE)))
    held.take(update(6, 7, system(agency_pb2.SYSTEM_STATE_SUSPENDED)))
    assert keeper(tmp_path).current.systems["tax", "core"].state is State.SUSPENDED


def revoked(serial_number: str) -> policy_pb2.PolicyEntry:
    certificate = policy_pb2.RevokedCertificate(issuer_key_id="aa", serial_number=serial_number)
    certificate.revoke_time.FromDatetime(START)
    return policy_pb2.PolicyEntry(key=f"revoked/{serial_number}", revoked_certificate=certificate)


def authority(state: "policy_pb2.AuthorityState.ValueType") -> policy_pb2.PolicyEntry:
    named = policy_pb2.CertificateAuthority(key_id="aa", host="agency.test", state=state)
    named.state_time.FromDatetime(START)
    return policy_pb2.PolicyEntry(key="authority/aa", authority=named)


def test_a_registry_that_was_restored_and_forgot_revocations_un_revokes_nothing(held: PolicyKeeper) -> None:
    held.take(update(5, 6, revoked("1f"), authority(policy_pb2.AUTHORITY_STATE_REVOKED)))
    for revision in (1005, 1006):
        held.take(update(0, revision, authority(policy_pb2.AUTHORITY_STATE_ACTIVE), operator("lan")))
        policy = held.current
        assert policy.revocation_of("aa", "1f") is not None
        assert policy.revocation_of("aa", "2f") is None
        assert (judged := policy.authority("aa")) is not None
        assert judged.is_revoked
        assert policy.revoked == {}, "what the registry tells now is told apart: the issuer tells it the rest again"
        assert not policy.authorities["aa"].is_revoked
    held.take(update(0, 1007, revoked("1f"), authority(policy_pb2.AUTHORITY_STATE_REVOKED)))
    assert (dict(held.current.forgotten), dict(held.current.given_up)) == ({}, {})
    assert held.current.revocation_of("aa", "1f") is not None


def test_what_a_restored_registry_forgot_is_revoked_after_a_restart_too(held: PolicyKeeper, tmp_path: Path) -> None:
    held.take(update(5, 6, revoked("1f")))
    held.take(update(6, 7, authority(policy_pb2.AUTHORITY_STATE_REVOKED)))
    held.take(update(0, 1005, operator("lan")))
    held.take(update(1005, 1006, revoked("2f")))
    held.take(update(0, 2005, operator("hoa")))
    held.take(update(0, 2006, operator("hoa"), operator("thu")))
    started = keeper(tmp_path)
    assert known(started) == (2006, {"hoa", "thu"})
    assert started.current == held.current
    assert {name for _, name in started.current.forgotten} == {"1f", "2f"}
    assert started.current.given_up.keys() == {"aa"}
    held.take(update(0, 2007, revoked("1f"), revoked("2f"), authority(policy_pb2.AUTHORITY_STATE_REVOKED)))
    started = keeper(tmp_path)
    assert (dict(started.current.forgotten), dict(started.current.given_up)) == ({}, {})
    assert len(list(tmp_path.iterdir())) == 1, "what is told again need not be kept twice"


def test_a_crash_before_a_forgetful_snapshot_is_kept_leaves_what_was_kept(
    held: PolicyKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.take(update(5, 6, revoked("1f")))
    before, replaced = held.current, policy_files.PolicyFiles._replace

    def dies(files: policy_files.PolicyFiles, name: str, data: bytes) -> None:
        if name == "snapshot.binpb":
            raise OSError(28, "No space left on device")
        replaced(files, name, data)

    with monkeypatch.context() as disk:
        disk.setattr(policy_files.PolicyFiles, "_replace", dies)
        held.take(update(0, 1005, operator("lan")))
    assert keeper(tmp_path).current == before


def test_a_host_whose_authority_was_revoked_does_not_fall_open_when_the_registry_forgets_it(held: PolicyKeeper) -> None:
    held.take(update(5, 6, authority(policy_pb2.AUTHORITY_STATE_REVOKED)))
    held.take(update(0, 1005, operator("lan")))
    assert held.current.authorities == {}
    assert held.current.governed_hosts == {"agency.test"}
