"""Settings of a room: environment variables with the prefix NPD_. Unknown names are refused; secrets are files."""

import os
import re
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "NPD_"
_CLIENT_PREFIX = "NPD_CLIENT_"  # those of the command npd-client, which may stand beside
_ADDRESS = r".:\d{1,5}$"
# What Kubernetes sets for each Service of a namespace: a Service npd-sharing gives NPD_SHARING_SERVICE_HOST and others.
_OF_A_SERVICE = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)")


class SettingsInvalid(Exception):
    """Settings are missing, malformed or unknown; says which and how they must look."""


class RoomSettings(BaseSettings):
    """What every room is told. A room adds its own by a subclass in its app.py."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    environment: str = Field(description="environment of the identities, such as npd.gov.vn")
    listen: str = Field(pattern=_ADDRESS, description="host:port of the mTLS port, such as 0.0.0.0:7000")
    health_listen: str = Field(pattern=_ADDRESS, description="host:port of the plain port of probes and metrics")
    tls_directory: Path = Field(description="directory with tls.crt, tls.key, ca.crt of this room")
    roots_file: Path | None = Field(
        default=None, description="file with the roots to trust, if it is not ca.crt in NPD_TLS_DIRECTORY"
    )
    database_url_file: Path = Field(description="file with postgresql+psycopg://role:password@host/database")
    database_password_file: Path | None = Field(
        default=None, description="file with the database's password, read at each connection; then none in the URL"
    )
    checkpoint_key_file: Path = Field(description="Ed25519 key (PEM) that signs this room's checkpoints")
    pseudonym_key_file: Path = Field(description="key (64 hex digits) under which the log names subjects")
    pseudonym_key_id: str = Field(default="k1", description="id of that key")
    policy_public_key_file: Path = Field(description="the registry's public policy key (PEM)")
    policy_directory: Path = Field(description="directory where the room keeps the policy it received")
    registry_address: str = Field(default="", description="host:port of the registry; empty in the registry itself")

    database_connections: int = Field(default=16, ge=4, le=500)
    unary_workers: int = Field(default=48, ge=2, le=1000, description="calls worked on at once")
    stream_slots: int = Field(default=256, ge=1, le=5000, description="streams open at once")
    rights_max_age: timedelta = Field(default=timedelta(hours=24), description="older rights refuse agencies")
    revocations_max_age: timedelta = Field(
        default=timedelta(minutes=15), description="older revocations refuse agencies"
    )
    answers_kept: timedelta = Field(
        default=timedelta(days=30), description="how long a repeat of a request gets its first answer"
    )
    delivered_kept: timedelta = Field(
        default=timedelta(days=7),
        ge=timedelta(0),
        description="how long messages that a room has are kept, to tell it again after a restore; 0: not at all",
    )
    approval_life: timedelta = Field(
        default=timedelta(hours=72),
        gt=timedelta(0),
        validate_default=True,
        description="until when a request that needs a second person waits",
    )
    policy_stale_after: timedelta = Field(default=timedelta(seconds=10), description="older policy is reported")
    clock_skew_limit: timedelta = Field(
        default=timedelta(minutes=5),
        gt=timedelta(0),
        description="a room whose clock differs more from its store's is not ready",
    )
    watch_lifetime: timedelta = Field(default=timedelta(minutes=4), description="a Watch closes itself after it")
    max_connection_age: timedelta = Field(default=timedelta(minutes=5))
    drain_delay: timedelta = Field(default=timedelta(seconds=0), description="between NOT_SERVING and the stop")
    stop_grace: timedelta = Field(default=timedelta(seconds=10), description="for calls in flight at the stop")
    credentials_poll: timedelta = Field(default=timedelta(seconds=2), description="how often files are looked at")
    failpoint_file: Path | None = Field(
        default=None, description="for fault tests: where this process dies, by name; leave it unset"
    )
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    @field_validator("approval_life")
    @classmethod
    def _no_longer_than_answers(cls, life: timedelta, others: ValidationInfo) -> timedelta:
        """What was approved once is done once: while its approval lives, the answer to it must be kept."""
        if life > others.data.get("answers_kept", life):
            raise ValueError("must not be longer than NPD_ANSWERS_KEPT")
        return life

    def database_url(self) -> str:
        """The database URL, from its file. Raises SettingsInvalid."""
        return self.secret("database_url_file")

    def secret(self, setting: str) -> str:
        """The text of the file that a setting names. Raises SettingsInvalid."""
        return read_secret(getattr(self, setting), setting)

    def fault(self, setting: str, problem: str) -> SettingsInvalid:
        """What is wrong with the file or directory that a setting names, as an error to raise."""
        return SettingsInvalid(f"{name_of(setting)}: {getattr(self, setting)}: {problem}")

    @property
    def tls_names(self) -> str:
        """The variables that name the files of TLS."""
        return " and ".join(name_of(one) for one in ("tls_directory", "roots_file") if getattr(self, one))

    def require_writable(self, setting: str) -> None:
        """Make the directory that a setting names if it is missing; raises SettingsInvalid unless files can be written.

        A directory on a read-only disk exists, and would fail only when the first file is written.
        """
        directory: Path = getattr(self, setting)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory) as probe:
                probe.write(b"x")
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            raise self.fault(
                setting, f"{error.strerror}; it must be a directory in which this process may write"
            ) from None


class SourceSettings(RoomSettings):
    """What a source room is told besides: a room that keeps facts of its own and tells the record of them."""

    sharing_address: str = Field(description="host:port of the room sharing")
    changes_address: str = Field(
        default="", description="where sharing's feed of changes is followed, if not at NPD_SHARING_ADDRESS"
    )
    sandbox: bool = Field(default=False, description="whether PINs of the synthetic range exist here")
    backlog_limit: int = Field(
        default=1_000_000, ge=1, description="acts are refused while so many messages wait to be handed on"
    )


S = TypeVar("S", bound=RoomSettings)


def load(shape: type[S]) -> S:
    """Settings from the environment. Raises SettingsInvalid, naming every variable at fault and what it means."""
    known = {PREFIX + name.upper(): field for name, field in shape.model_fields.items()}
    ours = (name for name in os.environ if name.startswith(PREFIX) and not name.startswith(_CLIENT_PREFIX))
    unknown = sorted(name for name in ours if name not in known)
    faults = [f"{name} is not a setting of this room; remove it" for name in unknown]
    if any(_OF_A_SERVICE.search(name) for name in unknown):
        faults.append("(Kubernetes names its Services so: set enableServiceLinks: false in the pod)")
    try:
        settings = shape()  # type: ignore[call-arg]  # filled from the environment
    except ValidationError as error:
        for fault in error.errors(include_input=False):
            name = PREFIX + str(fault["loc"][0]).upper()
            meaning = known[name].description if name in known else None
            faults.append(f"{name}: {fault['msg']}" + (f" ({meaning})" if meaning else ""))
        raise SettingsInvalid("\n".join(faults)) from None
    if faults:
        raise SettingsInvalid("\n".join(faults))
    return settings


def name_of(setting: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + setting.upper()


def read_secret(path: Path, setting: str) -> str:
    """The text of a secret's file, which a setting names, without the newline at its end. Raises SettingsInvalid."""
    fault = ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        fault = str(error.strerror)
    except UnicodeDecodeError:
        fault = "not text"
    raise SettingsInvalid(f"{name_of(setting)}: {path}: {fault}; it must hold a secret that this process may read")


def read_password(path: Path) -> str:
    """The database's password, from the file that its setting names. Raises SettingsInvalid."""
    password = read_secret(path, "database_password_file")
    if not password or not password.isprintable():
        raise SettingsInvalid(f"{name_of('database_password_file')}: {path}: it must hold the password, one line")
    return password
