"""The supervisor of the local mesh under faults: children that die, hang, ignore signals; a parent that is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.local.errors import ChildNotReady, ChildUnknown
from services.local.supervisor import BackOff, ChildSpec, ChildState, ChildStatus, Supervisor

REPOSITORY = Path(__file__).parents[2]
SERVER = """
import http.server, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""
DRIVER = """
import sys, threading
from pathlib import Path
from services.local.supervisor import ChildSpec, Supervisor, orderly_exit
here = Path.cwd()
stubborn = "trap '' TERM; sleep 60 & touch stubborn; while :; do sleep 1; done"
specs = [
    ChildSpec("meek", ("sh", "-c", "touch meek; exec sleep 60"), (here / "meek").exists, here / "meek.log"),
    ChildSpec("stubborn", ("sh", "-c", stubborn), (here / "stubborn").exists, here / "stubborn.log", grace=0.5),
]
with orderly_exit(), Supervisor(specs) as supervisor:
    supervisor.start()
    print("ready", flush=True)
    threading.Event().wait(60)
"""


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes_under(directory: Path) -> set[int]:
    """Live processes that work in a directory; a zombie works nowhere."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(directory):
                found.add(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Children work in tmp_path; after each test none of them, nor a watcher, is left."""
    monkeypatch.chdir(tmp_path)
    yield
    assert until(lambda: processes_under(tmp_path) <= {os.getpid()})


def shell(name: str, script: str, *, grace: float = 5.0, before: Callable[[], None] | None = None) -> ChildSpec:
    """A child in shell that is ready when it has made a file of its name."""
    marker = Path.cwd() / name

    def prepare() -> None:
        marker.unlink(missing_ok=True)
        if before is not None:
            before()

    log = Path.cwd() / f"{name}.log"
    return ChildSpec(name, ("sh", "-c", script), marker.exists, log, grace=grace, before=prepare)


def lines(name: str) -> list[str]:
    path = Path.cwd() / name
    return path.read_text().splitlines() if path.exists() else []


def test_children_start_in_order_and_stop_in_reverse() -> None:
    seen: list[ChildStatus] = []
    script = "trap 'echo {0} >> stopped; exit' TERM; test -e {1} && touch {0}; while :; do sleep 0.05; done"
    with Supervisor([shell("a", script.format("a", ".")), shell("b", script.format("b", "a"))]) as supervisor:
        supervisor.start(progress=seen.append)
        assert [(each.name, each.state, each.restarts) for each in supervisor.statuses()] == [
            ("a", ChildState.READY, 0),
            ("b", ChildState.READY, 0),
        ]
        assert {each.pid for each in supervisor.statuses()} < processes_under(Path.cwd())
    assert lines("stopped") == ["b", "a"]
    assert [(each.name, each.state) for each in seen] == [
        ("a", ChildState.STARTING),
        ("a", ChildState.READY),
        ("b", ChildState.STARTING),
        ("b", ChildState.READY),
        ("b", ChildState.STOPPED),
        ("a", ChildState.STOPPED),
    ]
    assert {each.pid for each in supervisor.statuses()} == {None}


def test_readiness_is_asked_over_http_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/readyz"
    argv = (sys.executable, "-c", SERVER, str(port))
    with Supervisor([ChildSpec("room", argv, address, Path.cwd() / "room.log")]) as supervisor:
        supervisor.start()
        assert "GET /readyz" in (Path.cwd() / "room.log").read_text()
    wrong = ChildSpec("room", argv, address.replace("readyz", "nothing"), Path.cwd() / "room.log")
    with Supervisor([wrong]) as supervisor, pytest.raises(ChildNotReady, match=r"did not become ready in 0\.5 s"):
        supervisor.start(seconds=0.5)


def test_a_child_knows_only_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NPD_SECRET", "PGPASSWORD", "HTTPS_PROXY", "GRPC_TRACE"):
        monkeypatch.setenv(name, "inherited")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    script = "import json, os; json.dump(dict(os.environ), open('env.part', 'w')); os.rename('env.part', 'env')"
    done = Path.cwd() / "env"
    spec = ChildSpec(
        "room",
        (sys.executable, "-c", f"{script}; import time; time.sleep(60)"),
        done.exists,
        Path.cwd() / "log",
        env={"NPD_ROOM": "registry"},
    )
    with Supervisor([spec]) as supervisor:
        supervisor.start()
    found = json.loads(done.read_text())
    assert found.items() >= {"NPD_ROOM": "registry", "PYTHONHASHSEED": "7", "PATH": os.environ["PATH"]}.items()
    assert not {name for name, value in found.items() if value == "inherited"}


def test_a_killed_child_is_started_again() -> None:
    with Supervisor([shell("room", "touch room; exec sleep 60")]) as supervisor:
        supervisor.start()
        killed = supervisor.kill("room")
        supervisor.wait_ready("room")
        (status,) = supervisor.statuses()
        assert status.state is ChildState.READY
        assert status.restarts == 1
        assert status.pid not in {None, killed}
        with pytest.raises(ChildUnknown, match="room"):
            supervisor.kill("rom")


def test_a_child_that_is_stopped_stays_away_until_it_is_begun_again_and_the_others_live_on() -> None:
    with Supervisor([shell("a", "touch a; exec sleep 60"), shell("b", "touch b; exec sleep 60")]) as supervisor:
        supervisor.start()
        kept, former = (each.pid for each in supervisor.statuses())
        supervisor.stop("b")
        assert [each.state for each in supervisor.statuses()] == [ChildState.READY, ChildState.STOPPED]
        supervisor.begin_again("b")
        supervisor.wait_ready("b")
        one, other = supervisor.statuses()
        assert one.pid == kept
        assert (other.pid != former, other.restarts) == (True, 0)
        with pytest.raises(ChildUnknown):
            supervisor.stop("c")


def test_a_child_that_keeps_dying_is_started_ever_more_slowly() -> None:
    with Supervisor([shell("room", "touch room; date +%s.%N >> starts; sleep 0.1")]) as supervisor:
        supervisor.start()
        assert until(lambda: len(lines("starts")) >= 4)
    first, second, third, fourth = map(float, lines("starts")[:4])
    assert second - first >= 0.2
    assert third - second >= 0.4
    assert fourth - third >= 0.8


def test_pauses_double_up_to_five_seconds_and_a_healthy_life_forgets_them() -> None:
    back_off = BackOff()
    assert [back_off.pause(0.0) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert back_off.pause(29.9) == 5.0
    assert [back_off.pause(30.0), back_off.pause(0.0)] == [0.2, 0.4]


def test_a_child_that_dies_at_its_start_shows_the_end_of_its_log() -> None:
    Path("room.log").write_text("a line of yesterday\n")
    specs = [shell("database", "touch database; exec sleep 60"), shell("room", "seq 100 130; echo no port >&2; exit 3")]
    supervisor = Supervisor(specs)
    with pytest.raises(ChildNotReady) as refused:
        supervisor.start()
    assert "room ended with exit code 3" in str(refused.value)
    assert str(refused.value).splitlines()[1:] == [*map(str, range(117, 131)), "no port"]
    assert [each.state for each in supervisor.statuses()] == [ChildState.STOPPED, ChildState.FAILED]


def test_a_child_that_never_gets_ready_shows_the_end_of_its_log_too() -> None:
    with pytest.raises(ChildNotReady, match=r"(?s)did not become ready in 0\.5 s.*waiting for godot"):
        Supervisor([shell("room", "echo waiting for godot; exec sleep 60")]).start(seconds=0.5)


def test_a_program_that_does_not_exist_and_a_failed_preparation_are_told() -> None:
    missing = ChildSpec("room", ("no-such-program",), lambda: False, Path.cwd() / "room.log")
    with pytest.raises(ChildNotReady, match=r"(?s)exit code 127.*no-such-program"):
        Supervisor([missing]).start()

    def fail() -> None:
        raise ValueError("the disk is full")

    with pytest.raises(ChildNotReady, match="the disk is full"):
        Supervisor([shell("room", "touch room; exec sleep 60", before=fail)]).start()


def test_a_child_that_ignores_its_stop_signal_is_killed_with_its_children() -> None:
    script = "trap '' TERM; sleep 60 & echo $! > grandchild; touch room; while :; do sleep 0.1; done"
    supervisor = Supervisor([shell("room", script, grace=0.3)])
    supervisor.start()
    grandchild = int(lines("grandchild")[0])
    assert grandchild in processes_under(Path.cwd())
    supervisor.stop_all()
    supervisor.stop_all()
    assert until(lambda: processes_under(Path.cwd()) == {os.getpid()})


def test_stopping_ends_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BackOff, "pause", lambda *_: 3600.0)
    supervisor = Supervisor([shell("room", "touch room; exec sleep 60")])
    seen: list[ChildState] = []
    supervisor.start(progress=lambda status: seen.append(status.state))
    supervisor.kill("room")
    assert until(lambda: ChildState.PAUSING in seen)
    supervisor.stop_all()
    assert supervisor.statuses()[0].state is ChildState.STOPPED


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_no_child_outlives_its_parent(tmp_path: Path, number: signal.Signals, code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    parent = subprocess.Popen(
        [sys.executable, "-c", DRIVER], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        assert len(processes_under(tmp_path)) >= 6  # ourselves, the parent, two children and their watchers
        parent.send_signal(number)
        parent.wait(20)
    finally:
        parent.kill()
        parent.communicate()
    assert parent.returncode in {code, -number}  # Python lets SIGINT end it, after unwinding
    assert until(lambda: processes_under(tmp_path) == {os.getpid()})
