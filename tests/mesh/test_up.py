"""`npd up`: what it leaves for clients in any language, what a second start keeps, and that nothing outlives it."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Queue
from uuid import uuid4

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sqlalchemy import create_engine, text

from npd.common.v1 import person_pb2
from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.evidence_pb2 import OUTCOME_DISCLOSED, OUTCOME_REFUSED, LogEntry
from npd.common.v1.person_pb2 import Person
from npd.registry.v1 import rights_pb2, rights_pb2_grpc
from npd.sharing.v1 import (
    change_pb2,
    change_pb2_grpc,
    contribution_pb2,
    contribution_pb2_grpc,
    lookup_pb2,
    lookup_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)
from npd_pki.credentials import Credentials, write_credentials
from npd_pki.keys import generate_p256_key
from npd_pki.profile import CLIENT_TLS
from npd_pki.validity import Validity
from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local.credentials import LocalAuthority, read_certificate
from services.local.errors import DirectoryUnusable
from services.local.layout import Layout
from services.local.mesh import LocalMesh, MeshSettings
from services.local.ports import PortBlock
from services.local.sample import OPERATORS, PORTAL, TAX
from services.local.sandbox import Sandbox, a_citizen

NEEDS_PROC = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="needs /proc to see the processes of a mesh"
)

FIRST_PORT = 17001
CITIZENS = 60
START_SECONDS = 60.0


@dataclass(frozen=True)
class Up:
    """A mesh that `npd up` keeps up in a process of its own."""

    directory: Path
    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, directory: Path) -> "Up":
        command = [sys.executable, "-m", "services", "up", "-d", str(directory)]
        command += ["--citizens", str(CITIZENS), "--port", str(FIRST_PORT)]
        with (directory.parent / f"{directory.name}.log").open("ab") as log:
            up = cls(directory, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        until(lambda: up.endpoints_file.exists() or up.process.poll() is not None, START_SECONDS)
        assert up.process.poll() is None, (directory.parent / f"{directory.name}.log").read_text()
        return up

    @property
    def endpoints_file(self) -> Path:
        return self.directory / "endpoints.json"

    def system(self, name: str) -> Path:
        return self.directory / "agencies" / name

    def channel(self, room: str, place: Path) -> grpc.Channel:
        """A channel to a room with the files of a system."""
        return grpc.secure_channel(json.loads(self.endpoints_file.read_text())[room], credentials_in(place))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def until(claim: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, f"did not come true within {seconds} s"
        time.sleep(0.05)


def processes_of(directory: Path) -> set[int]:
    """Processes that were told of the directory, by argument or variable; a zombie has neither."""
    found, mark = set(), os.fsencode(str(directory) + "/")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if mark in told and int(process.name) != os.getpid():
            found.add(int(process.name))
    return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    started = Up.start(tmp_path_factory.mktemp("up") / ".npd")
    yield started
    assert started.stop() == 0
    assert not started.endpoints_file.exists()


def credentials_in(place: Path) -> grpc.ChannelCredentials:
    """What any gRPC library makes of the files of a system."""
    return grpc.ssl_channel_credentials(*((place / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")))


@pytest.fixture
def tax(up: Up) -> Iterator[grpc.Channel]:
    with up.channel("sharing", up.system(TAX.title)) as channel:
        yield channel


def ground(up: Up, sample: str, case: str, officer: str) -> AccessContext:
    """The ground of a request; the mesh itself tells a system its agreement."""
    with up.channel("registry", up.system(sample)) as channel:
        rights = rights_pb2_grpc.RightsServiceStub(channel).DescribeRights(rights_pb2.DescribeRightsRequest())
    [agreement] = rights.agreements
    return AccessContext(agreement_id=agreement.agreement_id, case_reference=case, officer_id=officer)


def lookup_of(access: AccessContext, *paths: str) -> lookup_pb2.GetCitizenRequest:
    person = a_citizen().person
    return lookup_pb2.GetCitizenRequest(
        access=access,
        identity=person_pb2.StatedIdentity(
            pin=person.pin, full_name=person.full_name.full, birth_date=person.birth_date
        ),
        read_mask=FieldMask(paths=paths),
    )


def usage_of(up: Up, case: str) -> list[usage_pb2.UsageRecord]:
    """What the citizen's own view tells of a case."""
    person = a_citizen().person
    identity = person_pb2.StatedIdentity(pin=person.pin, full_name=person.full_name.full, birth_date=person.birth_date)
    request = usage_pb2.FindUsageRequest(
        access=ground(up, PORTAL.title, "CN-1", PORTAL.officers[0]), identity=identity, page_size=200
    )
    with up.channel("sharing", up.system(PORTAL.title)) as channel:
        records = usage_pb2_grpc.UsageServiceStub(channel).FindUsage(request).records
    return [record for record in records if record.entry.access.case_reference == case]


def entries_of(up: Up) -> list[LogEntry]:
    """What sharing has recorded so far, whether or not it has a position yet."""
    engine = create_engine((up.directory / "rooms" / "sharing" / "database.url").read_text().strip())
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT entry FROM log UNION ALL SELECT entry FROM log_pending")).all()
    engine.dispose()
    return [LogEntry.FromString(row.entry) for row in rows]


def variables_of(up: Up, room: str) -> dict[str, str]:
    """The environment of a room's process."""
    argument = b"services\0serve\0" + room.encode() + b"\0"
    for pid in processes_of(up.directory):
        place = Path("/proc") / str(pid)
        if (place / "cmdline").read_bytes().endswith(argument) and (place / "comm").read_text().strip() != "sh":
            pairs = (place / "environ").read_text().split("\0")
            return dict(pair.split("=", 1) for pair in pairs if pair)
    pytest.fail(f"there is no process of {room}")


def test_endpoints_name_every_room(up: Up) -> None:
    endpoints = json.loads(up.endpoints_file.read_text())
    assert set(endpoints) == {room.name for room in discover()} | {"door"}
    assert all(address.startswith("localhost:") for address in endpoints.values())


def test_keys_passwords_and_the_directory_are_for_their_owner_alone(up: Up) -> None:
    assert stat.S_IMODE(up.directory.stat().st_mode) == 0o700
    secret = [*up.directory.rglob("*.key"), *up.directory.rglob("database.url")]
    secret += list((up.directory / "postgres.passwords").iterdir())
    assert len(secret) > 20
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}


def test_the_issuer_has_the_keys_of_its_authorities_encrypted_and_no_other_ones(up: Up) -> None:
    places = Layout(up.directory).issuer
    assert {place.name for place in places.authorities.iterdir()} == {"agency", "operator"}
    for kind in ("root", "mesh", "agency", "operator"):
        key = (up.directory / "pki" / kind / "ca.key").read_bytes()
        assert b"ENCRYPTED PRIVATE KEY" in key.splitlines()[0]
        copies = [path for path in (up.directory / "rooms").rglob("*") if path.is_file() and path.read_bytes() == key]
        assert copies == ([places.authorities / kind / "ca.key"] if kind in ("agency", "operator") else [])


def test_every_sample_system_and_operator_has_its_files(up: Up) -> None:
    parties = [up.system(name) for name in ("moh/medical", "tax/core", "hanoi/one-stop", "portal/national")]
    parties += [up.directory / "operators" / name for name in OPERATORS]
    for party in parties:
        for place in (party, party / "signing"):
            assert {"tls.crt", "tls.key", "ca.crt"} <= {path.name for path in place.iterdir()}


def test_a_plain_client_gets_a_citizen_and_the_citizen_sees_it(up: Up, tax: grpc.Channel) -> None:
    access = ground(up, TAX.title, "PLAIN-1", TAX.officers[0])
    answer = lookup_pb2_grpc.LookupServiceStub(tax).GetCitizen(lookup_of(access, "full_name", "sex"), timeout=10)
    assert answer.outcome == OUTCOME_DISCLOSED
    assert {field.name for field, _ in answer.citizen.ListFields()} == {"full_name", "sex"}
    [seen] = usage_of(up, "PLAIN-1")
    assert list(seen.entry.paths) == ["full_name", "sex"]
    assert seen.receipt.leaf_hash == answer.receipt.leaf_hash


def test_a_plain_client_is_refused_an_ungranted_field_with_error_info(up: Up, tax: grpc.Channel) -> None:
    access = ground(up, TAX.title, "PLAIN-2", TAX.officers[0])
    with pytest.raises(grpc.RpcError) as raised:
        lookup_pb2_grpc.LookupServiceStub(tax).GetCitizen(lookup_of(access, "blood_type"), timeout=10)
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
    details = rpc_status.from_call(raised.value).details
    info = error_details_pb2.ErrorInfo()
    assert [detail.Unpack(info) for detail in details].count(True) == 1
    assert info.reason == "FIELD_NOT_GRANTED"
    assert info.metadata["field"] == "blood_type"
    refused = [entry for entry in entries_of(up) if entry.outcome == OUTCOME_REFUSED]
    [recorded] = [entry for entry in refused if entry.caller.endswith("/tax/core")]
    assert (recorded.method, recorded.reason) == ("/npd.sharing.v1.LookupService/GetCitizen", "FIELD_NOT_GRANTED")


def test_a_plain_client_receives_a_change_on_watch(up: Up, tax: grpc.Channel) -> None:
    access = ground(up, TAX.title, "PLAIN-3", "sync")
    news: Queue[change_pb2.WatchChangesResponse] = Queue()
    stream = change_pb2_grpc.ChangeServiceStub(tax).WatchChanges(
        change_pb2.WatchChangesRequest(access=access), timeout=60
    )
    reader = threading.Thread(target=_read, args=(stream, news), daemon=True)
    reader.start()
    assert not news.get(timeout=10).changes, "the first message is a sign of life"

    moved = Person(permanent_residence=a_citizen().person.permanent_residence)
    moved.permanent_residence.detail_text = f"Số {uuid4().int % 100} đường Lê Lợi"
    item = contribution_pb2.ContributionItem(
        event_id=str(uuid4()),
        pin=a_citizen().person.pin,
        person=moved,
        update_mask=FieldMask(paths=["permanent_residence"]),
    )
    item.event_time.FromDatetime(datetime.now(UTC))
    item.register_time.FromDatetime(datetime.now(UTC))
    with up.channel("sharing", up.directory / "rooms" / "identity") as identity:
        told = contribution_pb2_grpc.ContributionServiceStub(identity).Contribute(
            contribution_pb2.ContributeRequest(request_id=str(uuid4()), items=[item]), timeout=10
        )
    assert told.results[0].status == contribution_pb2.ContributionResult.STATUS_APPLIED

    [change] = news.get(timeout=10).changes
    stream.cancel()
    reader.join(10)
    assert list(change.changed_paths) == ["permanent_residence"]
    assert change.citizen == moved
    assert [list(seen.entry.paths) for seen in usage_of(up, "PLAIN-3")] == [["permanent_residence", "pin"]]


def test_a_second_start_of_the_same_directory_is_refused_while_the_first_is_up(up: Up) -> None:
    command = [sys.executable, "-m", "services", "up", "-d", str(up.directory)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert "already serves it" in second.stderr
    assert "Traceback" not in second.stderr
    assert up.endpoints_file.exists()


def test_two_meshes_side_by_side_do_not_collide(up: Up, tmp_path: Path) -> None:
    settings = MeshSettings(first_port=FIRST_PORT)
    with LocalMesh(
        tmp_path / "other", discover(), prepare=prepare_store, operators=OPERATORS, settings=settings
    ) as other:
        agreements = Sandbox(other).register(lambda _: None)
        first = json.loads(up.endpoints_file.read_text())
        assert not set(first.values()) & set(other.endpoints.values())
        assert agreements[TAX.title] != ground(up, TAX.title, "TWO-1", "sync").agreement_id
        places = other.layout.system(TAX.agency, TAX.system).tls
        credentials = credentials_in(places)
        with grpc.secure_channel(first["registry"], credentials) as foreign, pytest.raises(grpc.RpcError) as raised:
            rights_pb2_grpc.RightsServiceStub(foreign).WhoAmI(rights_pb2.WhoAmIRequest(), timeout=10)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE, "each mesh trusts its own certificates alone"


@NEEDS_PROC
def test_each_room_is_told_its_own_settings_and_no_more(up: Up) -> None:
    told = {room.name: variables_of(up, room.name) for room in discover()}
    assert [room for room, names in told.items() if "NPD_POLICY_KEY_FILE" in names] == ["registry"]
    assert {room for room, names in told.items() if "NPD_SANDBOX" not in names} == {"registry", "issuer"}
    sources = {*told} - {"registry", "sharing", "issuer"}
    assert {room for room, names in told.items() if "NPD_SHARING_ADDRESS" in names} == sources
    assert [room for room, names in told.items() if "NPD_AUTHORITIES_PASSPHRASE_FILE" in names] == ["issuer"]
    assert [room for room, names in told.items() if "NPD_IDENTITY_ADDRESS" in names] == ["civil_status"]
    assert "NPD_REGISTRY_ADDRESS" not in told["registry"]
    for room, names in told.items():
        assert names["NPD_DATABASE_URL_FILE"] == str(up.directory / "rooms" / room / "database.url")
        assert not [name for name in names if name.startswith("PG")]


def test_a_taken_port_moves_the_whole_block_past_those_of_other_meshes() -> None:
    with socket.create_server(("127.0.0.1", 19003)), contextlib.closing(PortBlock.claim(19001, 6)) as first:
        assert first.first == 19101, "a port of the first block is taken"
        with contextlib.closing(PortBlock.claim(19001, 6)) as second:
            assert second.first == 19301, "what the first mesh has claimed for probes is taken, though nobody listens"
    with contextlib.closing(PortBlock.claim(19101, 6)) as again:
        assert again.first == 19101


def test_certificates_near_their_end_are_issued_anew_and_others_stay(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "mesh")
    layout.make()
    authority = LocalAuthority(layout, "sandbox.npd.local")
    place = layout.system("tax", "core").tls
    authority.ensure_system("tax", "core")
    fresh = read_certificate(place)
    authority.ensure_system("tax", "core")
    assert read_certificate(place).serial == fresh.serial

    key, now = generate_p256_key(), datetime.now(UTC)
    old = authority.hierarchy.agency.issue(
        CLIENT_TLS,
        "spiffe://agency.sandbox.npd.local/tax/core",
        key.public_key(),
        validity=Validity(now - timedelta(days=70), now + timedelta(days=20)),
    )
    write_credentials(place, Credentials(old, key, (authority.hierarchy.root.certificate,)))
    authority.ensure_system("tax", "core")
    renewed = read_certificate(place)
    assert renewed.serial != old.serial
    assert renewed.certificate.not_valid_after_utc > now + timedelta(days=80)

    with pytest.raises(DirectoryUnusable, match=r"sandbox\.npd\.local, not of other\.npd\.local"):
        LocalAuthority(layout, "other.npd.local").ensure_system("tax", "core")


def test_killed_database_and_room_come_back_and_know_what_they_knew(tmp_path: Path) -> None:
    settings = MeshSettings(first_port=FIRST_PORT)
    with LocalMesh(
        tmp_path / "mesh", discover(), prepare=prepare_store, operators=OPERATORS, settings=settings
    ) as mesh:
        sandbox = Sandbox(mesh)
        agreements = sandbox.register(lambda _: None)
        sandbox.contribute(CITIZENS, lambda _: None)
        access = AccessContext(agreement_id=agreements[TAX.title], case_reference="KILL-1", officer_id="cb.thu")
        for name in ("sharing", "postgres"):
            mesh.kill(name)
            mesh.wait_ready(name)
        places = mesh.layout.system(TAX.agency, TAX.system).tls
        credentials = credentials_in(places)
        with grpc.secure_channel(mesh.endpoints["sharing"], credentials) as channel:
            until(lambda: _is_served(channel, lookup_of(access, "full_name")))


@NEEDS_PROC
def test_nothing_outlives_a_killed_mesh_and_the_next_one_goes_on_with_it(tmp_path: Path) -> None:
    directory = tmp_path / "mesh"
    first = Up.start(directory)
    before, certificate = (
        ground(first, TAX.title, "AGAIN-1", "sync"),
        (first.system(TAX.title) / "tls.crt").read_bytes(),
    )
    assert len(processes_of(directory)) > 3
    first.process.kill()
    first.process.wait(10)
    until(lambda: not processes_of(directory))

    first.endpoints_file.unlink()
    second = Up.start(directory)
    try:
        assert ground(second, TAX.title, "AGAIN-1", "sync") == before
        assert (second.system(TAX.title) / "tls.crt").read_bytes() == certificate
        with second.channel("sharing", second.system(TAX.title)) as channel:
            until(lambda: _is_served(channel, lookup_of(before, "full_name")))
    finally:
        assert second.stop() == 0
    assert not processes_of(directory)


def _read(stream: grpc.Call, news: "Queue[change_pb2.WatchChangesResponse]") -> None:
    try:
        for message in stream:  # type: ignore[attr-defined]  # a stream
            news.put(message)
    except grpc.RpcError:
        pass  # cancelled


def _is_served(channel: grpc.Channel, request: lookup_pb2.GetCitizenRequest) -> bool:
    try:
        return lookup_pb2_grpc.LookupServiceStub(channel).GetCitizen(request, timeout=5).outcome == OUTCOME_DISCLOSED
    except grpc.RpcError:
        return False
