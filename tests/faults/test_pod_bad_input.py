"""What a pod is given wrong: a real `npd serve` says what is at fault and what to do, and never opens its mTLS port.

The test itself holds that port: a room that tried to open it would end, and say so.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from sqlalchemy import make_url

from npd_pki.identity import Kind
from npd_pki.keys import generate_ed25519_key, save_private_key, save_public_key
from services.local.postgres import EmbeddedPostgres
from services.mesh.core.schema import head
from services.mesh.migrate import migrate
from tests.mesh_fixture import ENVIRONMENT, Authority, wait_until
from tests.programs import program
from tests.releases import LATER, MESH, Releases

Variables: TypeAlias = dict[str, str]
SHARING = "services.sharing"
_SECONDS = 30.0


@dataclass
class Pod:
    """One `npd serve sharing` with the variables given; `before` is what runs it, as a command line."""

    variables: Mapping[str, str]
    log: Path
    before: Sequence[str] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the process."""
        command = [*self.before, sys.executable, "-m", "services", "serve", "sharing"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("NPD_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, env={**clean, **self.variables}, stdout=log, stderr=log)

    def stop(self) -> int:
        """End the process as the kubelet does, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_SECONDS)

    def kill(self) -> None:
        """End the process if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def refusal(self) -> tuple[int, str]:
        """The exit code with which the process ended by itself, and the message that was its last line or lines."""
        assert self._process is not None
        code = self._process.wait(_SECONDS)
        message = self.said[self.said.index("sharing cannot serve: ") :]
        assert "Traceback" not in message
        return code, message

    @property
    def said(self) -> str:
        """All that it wrote to standard output and standard error."""
        return self.log.read_text()

    def not_ready(self) -> dict[str, str]:
        """What /readyz says is wrong; nothing while nobody answers there."""
        host, _, port = self.variables["NPD_HEALTH_LISTEN"].rpartition(":")
        connection = HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            told: Any = json.loads(answer.read())
            assert (answer.status == 200) is told["ready"]
            return dict(told["not_ready"])
        except (OSError, HTTPException):
            return {}
        finally:
            connection.close()

    def waiting(self, condition: str) -> str:
        """Wait until /readyz names the condition as well as the port that is not open; returns what it says of it."""
        wait_until(lambda: condition in self.not_ready(), _SECONDS)
        told = self.not_ready()
        assert told["start"] == "the port is not open"
        return told[condition]


@pytest.fixture
def held_port() -> Iterator[socket.socket]:
    """The mTLS port, which nobody else can open as long as the test holds it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held


@pytest.fixture
def variables(tmp_path: Path, postgres: EmbeddedPostgres, authority: Authority, held_port: socket.socket) -> Variables:
    """The settings of a sharing room that could serve, on a database of its own that has its tables."""
    database = f"pod_{secrets.token_hex(4)}"
    postgres.ensure_database(database)
    migrate(postgres.url(database), (MESH, SHARING))
    (tmp_path / "database.url").write_text(postgres.url(database))
    (tmp_path / "pseudonym.key").write_text(secrets.token_hex(32))
    save_private_key(tmp_path / "checkpoint.key", generate_ed25519_key())
    save_public_key(tmp_path / "policy.pub", generate_ed25519_key().public_key())
    (tmp_path / "policy").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        health_port = free.getsockname()[1]
    return {
        "NPD_ENVIRONMENT": ENVIRONMENT,
        "NPD_LISTEN": f"127.0.0.1:{held_port.getsockname()[1]}",
        "NPD_HEALTH_LISTEN": f"127.0.0.1:{health_port}",
        "NPD_TLS_DIRECTORY": str(authority.tls(Kind.MESH, "sharing")),
        "NPD_DATABASE_URL_FILE": str(tmp_path / "database.url"),
        "NPD_CHECKPOINT_KEY_FILE": str(tmp_path / "checkpoint.key"),
        "NPD_PSEUDONYM_KEY_FILE": str(tmp_path / "pseudonym.key"),
        "NPD_POLICY_PUBLIC_KEY_FILE": str(tmp_path / "policy.pub"),
        "NPD_POLICY_DIRECTORY": str(tmp_path / "policy"),
        "NPD_REGISTRY_ADDRESS": "localhost:1",
        "NPD_DRAIN_DELAY": "PT0S",
    }


Start: TypeAlias = Callable[..., Pod]


@pytest.fixture
def start(variables: Variables, tmp_path: Path) -> Iterator[Start]:
    """Starts a pod with the variables as they are then; `before` is what runs its command."""
    pods: list[Pod] = []

    def started(*before: str) -> Pod:
        pods.append(Pod(dict(variables), tmp_path / f"{len(pods)}.log", before))
        pods[-1].start()
        return pods[-1]

    yield started
    for pod in pods:
        pod.kill()


def store_url(variables: Variables) -> Path:
    """The file with the database's URL."""
    return Path(variables["NPD_DATABASE_URL_FILE"])


def with_query(variables: Variables, **query: str) -> str:
    """Give the database's URL other parameters; returns its password."""
    url = make_url(store_url(variables).read_text())
    store_url(variables).write_text(url.set(query=query).render_as_string(hide_password=False))
    assert isinstance(url.password, str)
    return url.password


def without_password(variables: Variables) -> str:
    """Take the password out of the database's URL and return it."""
    url = make_url(store_url(variables).read_text())
    assert isinstance(url.password, str)
    store_url(variables).write_text(store_url(variables).read_text().replace(f":{url.password}@", "@"))
    return url.password


def test_a_port_that_cannot_be_opened_is_named(start: Start, variables: Variables) -> None:
    """As every test below would see, if its room came so far as to open it."""
    pod = start()
    code, message = pod.refusal()
    assert code == 1
    assert "NPD_LISTEN: the port cannot be opened" in message
    variables["NPD_HEALTH_LISTEN"] = variables["NPD_LISTEN"]
    code, message = start().refusal()
    assert code == 1
    assert "NPD_HEALTH_LISTEN: the port cannot be opened" in message


SECRETS = [
    "NPD_DATABASE_URL_FILE",
    "NPD_DATABASE_PASSWORD_FILE",
    "NPD_CHECKPOINT_KEY_FILE",
    "NPD_PSEUDONYM_KEY_FILE",
    "NPD_POLICY_PUBLIC_KEY_FILE",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_missing_secret_is_named_with_its_setting(start: Start, variables: Variables, name: str) -> None:
    variables[name] = f"{variables['NPD_POLICY_DIRECTORY']}/absent"
    if name == "NPD_DATABASE_PASSWORD_FILE":
        without_password(variables)
    code, message = start().refusal()
    assert code == 2
    assert f"{name}: {variables[name]}: No such file or directory; it must hold a secret" in message


@pytest.mark.parametrize("name", ["tls.key", "tls.crt", "ca.crt"])
def test_a_missing_tls_file_is_named_with_its_setting(
    start: Start, variables: Variables, tmp_path: Path, name: str
) -> None:
    files = Path(variables["NPD_TLS_DIRECTORY"])
    variables["NPD_TLS_DIRECTORY"] = str(tmp_path / "tls")
    (tmp_path / "tls").mkdir()
    for other in {"tls.key", "tls.crt", "ca.crt"} - {name}:
        (tmp_path / "tls" / other).write_bytes((files / other).read_bytes())
        (tmp_path / "tls" / other).chmod(0o600)
    code, message = start().refusal()
    assert code == 1
    assert f"NPD_TLS_DIRECTORY: {tmp_path / 'tls' / name} cannot be read (No such file or directory)" in message


def test_missing_roots_are_named_with_their_setting(start: Start, variables: Variables, tmp_path: Path) -> None:
    variables["NPD_ROOTS_FILE"] = str(tmp_path / "roots" / "ca.crt")
    code, message = start().refusal()
    assert code == 1
    assert f"NPD_ROOTS_FILE: {variables['NPD_ROOTS_FILE']} cannot be read (No such file or directory)" in message


# Root without the capability to pass over permissions, as in a container that dropped all.
_LIKE_OTHERS = ("--bounding-set=-dac_override,-dac_read_search",)


@pytest.mark.parametrize("name", ["NPD_DATABASE_URL_FILE", "NPD_CHECKPOINT_KEY_FILE"])
def test_an_unreadable_secret_is_named_with_its_setting(start: Start, variables: Variables, name: str) -> None:
    Path(variables[name]).chmod(0)
    code, message = start(*([program("setpriv"), *_LIKE_OTHERS] if os.geteuid() == 0 else [])).refusal()
    assert code == 2
    assert f"{name}: {variables[name]}: Permission denied; it must hold a secret that this process may read" in message


def test_a_malformed_url_is_refused_without_being_told(start: Start, variables: Variables) -> None:
    store_url(variables).write_text("postgresql+psycopg://npd:hush@-hush@localhost/npd")
    pod = start()
    code, message = pod.refusal()
    assert code == 2
    assert message.startswith("sharing cannot serve: NPD_DATABASE_URL_FILE: its URL has more than one @")
    assert "hush" not in pod.said


def test_a_password_in_two_places_is_refused(start: Start, variables: Variables, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush-hush\n")
    variables["NPD_DATABASE_PASSWORD_FILE"] = str(tmp_path / "password")
    pod = start()
    code, message = pod.refusal()
    assert code == 2
    assert "NPD_DATABASE_URL_FILE: its URL holds a password, and NPD_DATABASE_PASSWORD_FILE too" in message
    assert str(make_url(store_url(variables).read_text()).password) not in pod.said


def test_an_unknown_setting_is_named(start: Start, variables: Variables) -> None:
    variables["NPD_LISTN"] = "127.0.0.1:7000"
    code, message = start().refusal()
    assert (code, message) == (2, "sharing cannot serve: NPD_LISTN is not a setting of this room; remove it\n")


def test_another_rooms_certificate_is_named(start: Start, variables: Variables, authority: Authority) -> None:
    variables["NPD_TLS_DIRECTORY"] = str(authority.tls(Kind.MESH, "registry"))
    code, message = start().refusal()
    assert code == 1
    assert f"NPD_TLS_DIRECTORY: {variables['NPD_TLS_DIRECTORY']}/tls.crt names " in message
    assert f"spiffe://mesh.{ENVIRONMENT}/registry, this room is spiffe://mesh.{ENVIRONMENT}/sharing" in message


def test_a_read_only_disk_is_named(start: Start, variables: Variables) -> None:
    """The directory is there, as it is in a pod whose volume is missing; a file cannot be written."""
    place = variables["NPD_POLICY_DIRECTORY"]
    unshare = [program("unshare"), "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    pod = start(*unshare, "sh", "-c", 'mount -t tmpfs -o ro none "$0" && exec "$@"', place)
    code, message = pod.refusal()
    assert code == 2
    assert f"NPD_POLICY_DIRECTORY: {place}: Read-only file system; it must be a directory in which" in message


# Schemas


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Releases:
    """Makes other releases of the mesh's tables."""
    return Releases(tmp_path / "releases", monkeypatch)


@pytest.fixture
def empty_store(variables: Variables, postgres: EmbeddedPostgres) -> str:
    """The URL of a database without tables, which the variables lead to."""
    database = f"pod_{secrets.token_hex(4)}"
    postgres.ensure_database(database)
    store_url(variables).write_text(postgres.url(database))
    return postgres.url(database)


def npd_migrate(variables: Variables) -> subprocess.CompletedProcess[str]:
    """`npd migrate sharing`, as a Job runs it."""
    command = [sys.executable, "-m", "services", "migrate", "sharing"]
    only = {name: value for name, value in os.environ.items() if not name.startswith("NPD_")}
    environment = {**only, "NPD_DATABASE_URL_FILE": variables["NPD_DATABASE_URL_FILE"]}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.usefixtures("empty_store")
def test_a_store_without_tables_is_told_how_to_get_them(start: Start) -> None:
    code, message = start().refusal()
    assert code == 1
    assert (
        f"the schema of services.mesh is at nothing, the code needs {head(MESH)}: run `npd migrate sharing`" in message
    )


def test_an_old_schema_is_told_how_to_be_migrated(
    start: Start, variables: Variables, empty_store: str, releases: Releases
) -> None:
    migrate(empty_store, (releases.make("past", up_to="0002"), SHARING))
    code, message = start().refusal()
    assert code == 1
    assert f"the schema of services.mesh is at 0002, the code needs {head(MESH)}: run `npd migrate sharing`" in message
    assert npd_migrate(variables).returncode == 0
    assert "NPD_LISTEN: the port cannot be opened" in start().refusal()[1], "now it comes so far"


def test_a_schema_that_no_longer_serves_this_release_is_refused(
    start: Start, variables: Variables, empty_store: str, releases: Releases
) -> None:
    migrate(empty_store, (releases.make("later", declaring="9000"), SHARING))
    code, message = start().refusal()
    assert code == 1
    assert f"is at {LATER} and serves code from 9000 on, this release has {head(MESH)}. Deploy release" in message
    refused = npd_migrate(variables)
    assert refused.returncode == 1
    assert "Deploy release" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_newer_schema_that_serves_this_release_is_served(
    start: Start, variables: Variables, empty_store: str, releases: Releases
) -> None:
    """So a release can be rolled out, and rolled back: the Job of the older one finds nothing to do."""
    migrate(empty_store, (releases.make("next", declaring=head(MESH)), SHARING))
    done = npd_migrate(variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "newer than this release (services.mesh); nothing to do" in done.stdout
    assert "NPD_LISTEN: the port cannot be opened" in start().refusal()[1], "it comes so far"


def test_the_database_of_another_room_is_refused(start: Start, variables: Variables, empty_store: str) -> None:
    migrate(empty_store, (MESH, "services.identity"))
    code, message = start().refusal()
    assert code == 1
    assert "NPD_DATABASE_URL_FILE leads to the database of identity, which is not that of sharing" in message
    refused = npd_migrate(variables)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "database of identity" in refused.stderr


# What can cure itself: the room waits, not ready, and says why


@contextmanager
def over_tcp(path: str, port: int) -> Iterator[int]:
    """A TCP port that leads to PostgreSQL's Unix socket. PostgreSQL offers no TLS there."""
    with ThreadPoolExecutor(16) as pool, ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near = stack.enter_context(listener.accept()[0])
                    far = stack.enter_context(socket.socket(socket.AF_UNIX))
                    far.connect(f"{path}/.s.PGSQL.{port}")
                    for one in (near, far):
                        stack.callback(_shut, one)
                    pool.submit(pump, near, far)
                    pool.submit(pump, far, near)

        pool.submit(accept)
        stack.callback(_shut, listener)
        yield listener.getsockname()[1]


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def tcp_port(variables: Variables) -> Iterator[int]:
    """The port of the database by TCP."""
    query = make_url(store_url(variables).read_text()).query
    with over_tcp(str(query["host"]), int(str(query["port"]))) as port:
        yield port


def waits_and_serves_when_cured(pod: Pod, held_port: socket.socket, reason: str, cure: Callable[[], object]) -> str:
    """The pod waits, not ready, for a reason that it names once; when that is cured, it opens its port."""
    told = pod.waiting("store")
    assert re.search(reason, told), told
    held_port.close()
    with socket.socket() as caller:
        assert caller.connect_ex(held_port_address(pod)) != 0
    cure()
    wait_until(lambda: '"event": "serving"' in pod.said, _SECONDS)
    assert set(pod.not_ready()) == {"policy"}, "which only the registry can give"
    with socket.socket() as caller:
        assert caller.connect_ex(held_port_address(pod)) == 0
    assert pod.said.count("the store cannot be used") == 2, "found, and cured"
    assert pod.stop() == 0
    return told


def held_port_address(pod: Pod) -> tuple[str, int]:
    """Where the pod is to open its mTLS port."""
    host, _, port = pod.variables["NPD_LISTEN"].rpartition(":")
    return host, int(port)


def test_a_wrong_password_is_waited_out(
    start: Start, variables: Variables, tmp_path: Path, held_port: socket.socket
) -> None:
    """And the right one is taken without a restart."""
    password = without_password(variables)
    place = tmp_path / "password"
    place.write_text("hush-hush")
    variables["NPD_DATABASE_PASSWORD_FILE"] = str(place)
    pod = start()
    told = waits_and_serves_when_cured(
        pod, held_port, "password authentication failed for user", lambda: place.write_text(password)
    )
    assert told.endswith("check that it runs, and NPD_DATABASE_URL_FILE and NPD_DATABASE_PASSWORD_FILE")
    assert "hush-hush" not in pod.said
    assert password not in pod.said


def test_a_database_that_does_not_exist_is_waited_for(
    start: Start, variables: Variables, held_port: socket.socket, postgres: EmbeddedPostgres
) -> None:
    database = f"pod_{secrets.token_hex(4)}"
    postgres.ensure_database(database)
    migrate(postgres.url(database), (MESH, SHARING))
    store_url(variables).write_text(postgres.url(database))
    with postgres._connection() as connection:
        connection.execute(f"ALTER DATABASE {database} RENAME TO {database}_away")

    def bring_back() -> None:
        with postgres._connection() as connection:
            connection.execute(f"ALTER DATABASE {database}_away RENAME TO {database}")

    waits_and_serves_when_cured(start(), held_port, f'database "{database}" does not exist', bring_back)


def test_a_store_that_has_no_tls_is_not_used_without(start: Start, variables: Variables, tcp_port: int) -> None:
    query = {"host": "127.0.0.1", "port": str(tcp_port), "sslmode": "require"}
    password = with_query(variables, **query)
    pod = start()
    assert re.search("server does not support SSL, but SSL was required", pod.waiting("store"))
    assert password not in pod.said
    assert pod.stop() == 0


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"host": "nowhere.invalid"}, "nowhere.invalid"),
        ({"host": "127.0.0.1", "port": "1"}, "Connection refused"),
        ({"host": "127.0.0.1", "port": "1", "sslmode": "sometimes"}, "sslmode"),
    ],
    ids=["a name that nobody has", "a port where nobody listens", "a parameter's value that does not exist"],
)
def test_a_store_that_cannot_be_reached_is_told_with_the_reason(
    start: Start, variables: Variables, query: Mapping[str, str], reason: str
) -> None:
    password = with_query(variables, **query)
    pod = start()
    told = pod.waiting("store")
    assert reason in told
    assert "NPD_DATABASE_URL_FILE" in told
    assert password not in pod.said
    assert pod.stop() == 0, "it can be ended while it waits"


# Clocks


@pytest.fixture
def ahead(variables: Variables, tmp_path: Path) -> Callable[[int], None]:
    """Sets how many seconds the clock of the pods is ahead, while they run too.

    libfaketime (0.9.10) breaks time.sleep, which in a room only the thread that writes the log does.
    """
    place = tmp_path / "clock"
    library = subprocess.run(
        [program("faketime"), "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True
    )
    variables |= {
        "LD_PRELOAD": library.stdout.strip(),
        "FAKETIME_TIMESTAMP_FILE": str(place),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }

    def put(seconds: int) -> None:
        place.with_suffix(".new").write_text(f"{seconds:+d}")
        place.with_suffix(".new").replace(place)

    put(0)
    return put


def test_a_clock_that_is_far_off_is_waited_for_and_found_later_too(
    start: Start, ahead: Callable[[int], None], held_port: socket.socket
) -> None:
    def is_told(pod: Pod, seconds: int) -> bool:
        told = pod.not_ready().get("clock", "")
        found = re.fullmatch(
            r"the clock of this machine differs from the store's by (\d+) s, over the limit of 300 s; "
            "check its time synchronisation",
            told,
        )
        return found is not None and abs(int(found[1]) - seconds) <= 2

    ahead(412)
    pod = start()
    pod.waiting("clock")
    assert is_told(pod, 412)
    assert "store" not in pod.not_ready()
    held_port.close()
    with socket.socket() as caller:
        assert caller.connect_ex(held_port_address(pod)) != 0
    ahead(2)
    wait_until(lambda: set(pod.not_ready()) == {"policy"}, _SECONDS)
    with socket.socket() as caller:
        assert caller.connect_ex(held_port_address(pod)) == 0
    ahead(-500)
    wait_until(lambda: is_told(pod, 500), _SECONDS)
    ahead(0)
    wait_until(lambda: set(pod.not_ready()) == {"policy"}, _SECONDS)
    assert pod.stop() == 0


@pytest.mark.parametrize(
    ("days", "problem"),
    [
        (4000, r"expired on .*If that moment is still to come, set this computer's clock, which says 20\d\d-"),
        (-4000, r"valid only from .*computer's clock says 20\d\d-.*Set the clock if it is slow"),
    ],
    ids=["ahead", "behind"],
)
def test_a_clock_that_is_years_off_is_named_with_the_certificate(
    start: Start, ahead: Callable[[int], None], days: int, problem: str
) -> None:
    ahead(days * 86400)
    code, message = start().refusal()
    assert code == 1
    assert message.startswith("sharing cannot serve: NPD_TLS_DIRECTORY: ")
    assert re.search(problem, message), message
