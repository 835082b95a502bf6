"""Whether a room could serve: settings, certificate, keys, database, schema, methods. Serves and changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from npd_client.credentials import CredentialsError
from services.mesh.core import config, schema
from services.mesh.core.address import StoreAddress
from services.mesh.core.caller import CallerKind, SpiffeId
from services.mesh.core.config import RoomSettings, SettingsInvalid
from services.mesh.core.db import Database, itself, open_engine
from services.mesh.core.methods import Methods
from services.mesh.wire.credentials import ServerCredentials
from services.mesh.wire.room import House, Room
from services.mesh.wire.server import HEALTH_METHODS, MethodsIncomplete, require_complete
from services.mesh.wire.serving import OWN_METHODS
from services.mesh.wire.store_check import StoreCheck


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what is wrong with it, empty if nothing, and a fact worth knowing."""

    subject: str
    problem: str = ""
    fact: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found about a room, and who may call what, as far as that could be told."""

    room: str
    findings: tuple[Finding, ...]
    methods: Methods

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.problem for finding in self.findings)


def check(room: Room) -> Findings:
    """Look at everything that must be right before a room can serve; what depends on a wrong thing is not looked at."""
    try:
        settings = config.load(room.settings)
    except SettingsInvalid as error:
        return Findings(room.name, (Finding("settings", str(error)),), {})
    certificate, database = _certificate(room, settings), _database(room, settings)
    keys: Finding = Finding("keys", "not looked at: the certificate comes first")
    methods: Methods = {}
    if not certificate.problem:
        keys, methods = _house(room, settings)
    return Findings(room.name, (Finding("settings"), certificate, keys, *database), methods)


def _certificate(room: Room, settings: RoomSettings) -> Finding:
    identity = str(SpiffeId(CallerKind.ROOM, settings.environment, (room.name,)))
    try:
        ServerCredentials(settings.tls_directory, identity, roots_file=settings.roots_file)
    except CredentialsError as error:
        return Finding("certificate", f"{settings.tls_names}: {error}")
    return Finding("certificate", fact=identity)


def _database(room: Room, settings: RoomSettings) -> tuple[Finding, ...]:
    try:
        address = StoreAddress.of(settings.database_url(), settings.database_password_file)
    except SettingsInvalid as error:
        return (Finding("database", str(error)),)
    engine = open_engine(address, connections=1)
    store = StoreCheck(Database(engine, itself), settings)
    try:
        problem, clock_problem = store.find(
            lambda connection: schema.require_current(connection, room.schema_packages, room.name)
        )
    except schema.SchemaUnfit as error:
        return (Finding("database"), Finding("schema", str(error)))
    finally:
        engine.dispose()
    if problem or clock_problem:
        return (Finding("database", problem), Finding("clock", clock_problem))
    heads = ", ".join(f"{package} {schema.head(package)}" for package in room.schema_packages)
    return (Finding("database"), Finding("schema", fact=heads))


def _house(room: Room, settings: RoomSettings) -> tuple[Finding, Methods]:
    try:
        house = House(room, settings)
    except (SettingsInvalid, OSError) as error:
        return Finding("keys", str(error)), {}
    try:
        composition = room.compose(house)
        methods = {**composition.methods, **OWN_METHODS}
        require_complete(composition.served, {**composition.methods, **HEALTH_METHODS})
    except (SettingsInvalid, MethodsIncomplete, OSError) as error:
        return Finding("keys", str(error)), {}
    finally:
        house.close()
    age = house.keeper.age(datetime.now(UTC))
    held = f"policy revision {house.keeper.current.revision}"
    fact = f"{held}, confirmed {age:.0f} s ago" if house.keeper.current.revision else "no policy yet"
    return Finding("keys", fact=fact), methods


def facts(found: Findings, *, with_methods: bool) -> Mapping[str, Any]:
    """The findings for a script."""
    listed = [{"subject": one.subject, "problem": one.problem, "fact": one.fact} for one in found.findings]
    answer: dict[str, Any] = {"room": found.room, "sound": found.is_sound, "findings": listed}
    if with_methods:
        answer["methods"] = {method: str(rule) for method, rule in sorted(found.methods.items())}
    return answer


def show(found: Findings, *, with_methods: bool) -> None:
    """The findings for the human eye."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for one in found.findings:
        lines = one.problem.splitlines() or [one.fact]
        console.print(f"{'WRONG' if one.problem else 'ok':6}{one.subject:12}{lines[0]}".rstrip())
        for line in lines[1:]:
            console.print(f"{'':18}{line}")
    if with_methods:
        table = Table("method", "who may call", title=f"Methods of {found.room}", title_justify="left")
        for method, rule in sorted(found.methods.items()):
            table.add_row(method, str(rule))
        Console(markup=False, highlight=False).print(table)
