"""Settings: read from the environment, and refused with what they mean."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import Field

from services.mesh.core.config import PREFIX, RoomSettings, SettingsInvalid, load, read_password, read_secret
from services.sharing.app import Settings as SharingSettings

NEEDED = {
    "NPD_ENVIRONMENT": "test.npd.example",
    "NPD_LISTEN": "localhost:0",
    "NPD_HEALTH_LISTEN": "127.0.0.1:0",
    "NPD_TLS_DIRECTORY": "/run/tls",
    "NPD_DATABASE_URL_FILE": "/run/database.url",
    "NPD_CHECKPOINT_KEY_FILE": "/run/checkpoint.key",
    "NPD_PSEUDONYM_KEY_FILE": "/run/pseudonym.key",
    "NPD_POLICY_PUBLIC_KEY_FILE": "/run/policy.pub",
    "NPD_POLICY_DIRECTORY": "/run/policy",
}


class Sandboxed(RoomSettings):
    """A room with one setting of its own."""

    sandbox: bool = Field(default=False, description="whether synthetic PINs exist here")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The settings that every room needs, and no other."""
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def faults(shape: type[RoomSettings] = RoomSettings) -> list[str]:
    with pytest.raises(SettingsInvalid) as refused:
        load(shape)
    return str(refused.value).splitlines()


def test_settings_are_read_and_the_rest_has_defaults(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("NPD_RIGHTS_MAX_AGE", "PT2H")
    settings = load(RoomSettings)
    assert (settings.environment, settings.tls_directory) == ("test.npd.example", Path("/run/tls"))
    assert (settings.rights_max_age, settings.revocations_max_age) == (timedelta(hours=2), timedelta(minutes=15))
    assert settings.registry_address == ""


@pytest.mark.parametrize(
    "told", [{"NPD_APPROVAL_LIFE": "P31D"}, {"NPD_ANSWERS_KEPT": "P2D"}, {"NPD_APPROVAL_LIFE": "P0D"}], ids=str
)
def test_an_approval_does_not_outlive_the_answer_to_what_it_allows(
    environment: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    for name, value in told.items():
        environment.setenv(name, value)
    (fault,) = faults()
    assert fault.startswith("NPD_APPROVAL_LIFE: ")
    environment.setenv("NPD_ANSWERS_KEPT", "P2D")
    environment.setenv("NPD_APPROVAL_LIFE", "P2D")
    assert load(RoomSettings).approval_life == timedelta(days=2)


def test_an_unknown_name_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("NPD_RIGHTS_MAX_AGES", "PT2H")
    environment.setenv("NPD_SANDBOX", "true")
    assert faults() == [
        "NPD_RIGHTS_MAX_AGES is not a setting of this room; remove it",
        "NPD_SANDBOX is not a setting of this room; remove it",
    ]


def test_a_rooms_own_setting_is_known_to_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("NPD_SANDBOX", "true")
    assert load(Sandboxed).sandbox is True
    assert load(SharingSettings).sandbox is True


def test_the_clients_settings_may_stand_beside(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("NPD_CLIENT_ADDRESS", "localhost:7000")
    load(RoomSettings)


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_setting_is_named_with_its_meaning(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(name)
    meaning = RoomSettings.model_fields[name.removeprefix(PREFIX).lower()].description
    assert meaning
    assert faults() == [f"{name}: Field required ({meaning})"]


def test_all_faults_are_told_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("NPD_LISTEN")
    environment.setenv("NPD_LISTENS", "localhost:1")
    environment.setenv("NPD_UNARY_WORKERS", "0")
    environment.setenv("NPD_LOG_LEVEL", "chatty")
    assert [fault.split(":")[0].split(" ")[0] for fault in faults()] == [
        "NPD_LISTENS",
        "NPD_LISTEN",
        "NPD_UNARY_WORKERS",
        "NPD_LOG_LEVEL",
    ]


def test_a_malformed_value_is_not_repeated(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("NPD_RIGHTS_MAX_AGE", "hunter2")
    [fault] = faults()
    assert fault.startswith("NPD_RIGHTS_MAX_AGE: ")
    assert "hunter2" not in fault


def test_settings_do_not_change(environment: pytest.MonkeyPatch) -> None:
    settings = load(RoomSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.listen = "elsewhere:1"


def test_a_secret_is_the_text_of_its_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "database.url"
    secret.write_text("postgresql+psycopg://npd:hunter2@localhost/npd\n")
    environment.setenv("NPD_DATABASE_URL_FILE", str(secret))
    assert load(RoomSettings).database_url() == "postgresql+psycopg://npd:hunter2@localhost/npd"


def test_a_secret_that_is_not_there_is_named_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"^NPD_POLICY_KEY_FILE: .*absent: No such file or directory; it must"):
        read_secret(tmp_path / "absent", "policy_key_file")
    with pytest.raises(SettingsInvalid, match="Is a directory"):
        read_secret(tmp_path, "policy_key_file")
    (tmp_path / "binary").write_bytes(b"hunter2\xff")
    with pytest.raises(SettingsInvalid, match="not text") as refused:
        read_secret(tmp_path / "binary", "policy_key_file")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "content", ["", "\n", "one\ntwo\n", "nul\0\n"], ids=["empty", "blank", "two lines", "zero byte"]
)
def test_a_password_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "password").write_text(content)
    with pytest.raises(SettingsInvalid, match=r"^NPD_DATABASE_PASSWORD_FILE: .* one line$"):
        read_password(tmp_path / "password")


@pytest.mark.parametrize("name", ["NPD_SHARING_SERVICE_HOST", "NPD_SHARING_PORT", "NPD_SHARING_PORT_7000_TCP_ADDR"])
def test_what_kubernetes_sets_for_a_service_is_explained(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(name, "tcp://10.0.0.1:7000")
    unknown, explained = faults()
    assert unknown == f"{name} is not a setting of this room; remove it"
    assert "enableServiceLinks: false" in explained


@pytest.mark.parametrize("name", ["NPD_LISTEN", "NPD_HEALTH_LISTEN"])
@pytest.mark.parametrize("value", ["7000", "localhost", "localhost:", ":7000", "localhost:seven"])
def test_a_port_to_open_names_host_and_port(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    [fault] = faults()
    assert fault.startswith(f"{name}: ")
    assert "host:port" in fault


def test_a_limit_of_clock_skew_is_above_zero(environment: pytest.MonkeyPatch) -> None:
    assert load(RoomSettings).clock_skew_limit == timedelta(minutes=5)
    environment.setenv("NPD_CLOCK_SKEW_LIMIT", "PT0S")
    [fault] = faults()
    assert fault.startswith("NPD_CLOCK_SKEW_LIMIT: ")
