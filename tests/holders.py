"""Systems of a local mesh that call without pause and renew meanwhile, and the operator who rolls their CA over.

For fault tests and measurements alike. Every failed call is kept with its reason: there must be none.
"""

import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import grpc
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.evidence_pb2 import OUTCOME_DISCLOSED
from npd.issuer.v1 import authority_pb2, authority_pb2_grpc, certificate_pb2, certificate_pb2_grpc
from npd.registry.v1 import agency_pb2, agency_pb2_grpc, revocation_pb2, rights_pb2, rights_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_client.client import Client
from npd_client.credentials import AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE
from npd_client.errors import Refusal, Unreachable, refusal_of
from npd_client.pending import Pending
from npd_client.renewal import renew
from npd_pki.ca_store import load_hierarchy
from npd_pki.credentials import load_credentials
from npd_pki.files import PRIVATE, PUBLIC, PemFile, replace_files
from npd_pki.identity import Kind
from npd_pki.keys import private_key_pem
from npd_pki.passphrase import read_passphrase
from npd_pki.trust_bundle import certificates_pem
from services.local.cluster import binary
from services.local.layout import write_text
from services.local.mesh import LocalMesh
from services.local.sample import OPERATORS, TAX
from services.local.sandbox import a_citizen, stated
from tests.mesh_fixture import wait_until

UNLIMITED = {"NPD_AGENCY_LIMIT": "1000000"}
"""Setting of an issuer whose callers renew more often than agencies do."""

_numbers = count(1)
_RENEWING = 4
_TIMEOUT = 30.0
_ALL = 1000


@dataclass
class Told:
    """What callers were told: calls that were answered, and the refusals of those that were not."""

    answered: int = 0
    failed: list[Refusal] = field(default_factory=list)
    renewed: int = 0
    repeated: list[Refusal] = field(default_factory=list)
    """Of renewals that had to be sent again; no call fails for that."""

    @property
    def reasons(self) -> str:
        """The reasons of failed calls."""
        return ", ".join(sorted({str(one) for one in self.failed}))


class Crowd:
    """Systems that `register` made, and the sample's tax system: each with its credentials and open channels.

    As a context manager they call from its begin to its end: each system asks the registry who it is, tax looks a
    citizen up. `mesh` must be up, with the sample registered in it.
    """

    def __init__(self, mesh: LocalMesh, places: Sequence[Path], agreement_id: str, *, callers: int = 8) -> None:
        """Nobody calls yet."""
        self.mesh, self.told = mesh, Told()
        self._agreement_id = agreement_id
        self._callers = callers
        self._stopping, self._mutex = threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []
        tax = mesh.layout.system(TAX.agency, TAX.system).tls
        self.directories = [*places, tax]
        self._registries = {place: RotatingChannel(mesh.endpoints["registry"], place) for place in self.directories}
        self._issuers = {place: RotatingChannel(mesh.endpoints["issuer"], place) for place in self.directories}
        self._tax = Client({name: mesh.endpoints[name] for name in ("registry", "sharing")}, tax)

    def __enter__(self) -> Self:
        works: list[Callable[[], None]] = []
        for number in range(self._callers):
            works.append(
                self._look_up if number % 2 else self._asking(self.directories[number % len(self.directories)])
            )
        self._threads = [threading.Thread(target=self._repeat, args=[work], daemon=True) for work in works]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        self._tax.close()
        for channel in (*self._registries.values(), *self._issuers.values()):
            channel.close()

    def wait_more(self, calls: int = 200, seconds: float = 30.0) -> None:
        """Wait until so many more calls were answered."""
        wanted = self.told.answered + calls
        wait_until(lambda: self.told.answered >= wanted, seconds)

    def renew_all(self, times: int = 1, renewed: Callable[[int], object] = lambda _: None) -> None:
        """Renew the certificate of every system, so many times, while calls go on."""
        with ThreadPoolExecutor(_RENEWING) as pool:
            for _ in range(times):
                for _ in pool.map(self.renew_one, self.directories):
                    renewed(self.told.renewed)

    def renew_one(self, place: Path) -> None:
        """Renew one certificate; what gets no answer is sent again. Open channels take the new files at once."""

        def is_renewed() -> bool:
            try:
                renew(place, self._issuers[place])
            except Unreachable as refusal:
                self.told.repeated.append(refusal)
                return False
            return True

        wait_until(is_renewed, 60)
        with self._mutex:
            self.told.renewed += 1
        self._issuers[place].reload()
        self._registries[place].reload()
        if place == self.directories[-1]:
            self._tax.channel("sharing").reload()

    def issuer_of(self, place: Path) -> str:
        """The key id of the CA of a certificate in use."""
        return load_credentials(place).issued.issuer_key_id

    def _asking(self, place: Path) -> Callable[[], None]:
        stub = rights_pb2_grpc.RightsServiceStub(self._registries[place])

        def ask() -> None:
            try:
                stub.WhoAmI(rights_pb2.WhoAmIRequest(), timeout=_TIMEOUT)
            except grpc.RpcError as error:
                raise refusal_of(error) from error

        return ask

    def _look_up(self) -> None:
        citizen = stated(a_citizen())
        access = AccessContext(agreement_id=self._agreement_id, case_reference="HS-1", officer_id=TAX.officers[0])
        answer = self._tax.get_citizen(
            access, citizen.pin, citizen.full_name, citizen.birth_date, ["full_name"], timeout=_TIMEOUT
        )
        assert answer.outcome == OUTCOME_DISCLOSED

    def _repeat(self, call: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                call()
            except Refusal as refusal:
                self.told.failed.append(refusal)
                self._stopping.wait(0.05)
                continue
            with self._mutex:
                self.told.answered += 1


class PkiAdmin:
    """An operator who rolls CAs over. Methods raise grpc.RpcError."""

    def __init__(self, mesh: LocalMesh) -> None:
        self._mesh = mesh
        self._channel = RotatingChannel(mesh.endpoints["issuer"], mesh.layout.operator(OPERATORS[0]).tls)
        self.certificates = certificate_pb2_grpc.CertificateServiceStub(self._channel)
        self.authorities = authority_pb2_grpc.AuthorityServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def listed(self) -> dict[str, authority_pb2.Authority]:
        """The authorities by key id."""
        answer = self.authorities.ListAuthorities(authority_pb2.ListAuthoritiesRequest(), timeout=_TIMEOUT)
        return {one.key_id: one for one in answer.authorities}

    def new_authority(self, kind: Kind) -> str:
        """Certify a new CA by the root, and put its files into the issuer's directory; its key id, once it is seen."""
        layout = self._mesh.layout
        passphrase = read_passphrase(layout.pki_passphrase)
        made = load_hierarchy(layout.pki, passphrase).root.issue_issuing_ca(kind)
        place = layout.issuer.authorities / f"{kind}-{made.key_id[:8]}"
        place.mkdir()
        certificate = PemFile("ca.crt", certificates_pem([made.certificate]), PUBLIC)
        replace_files(place, [PemFile("ca.key", private_key_pem(made.key, passphrase), PRIVATE), certificate])
        wait_until(lambda: made.key_id in self.listed(), 30)
        return made.key_id

    def prepare(self, key_id: str) -> None:
        """PREPARED."""
        self.authorities.PrepareAuthority(
            authority_pb2.PrepareAuthorityRequest(request_id=str(uuid4()), key_id=key_id), timeout=_TIMEOUT
        )

    def activate(self, key_id: str) -> str:
        """ACTIVE, as soon as every room has acknowledged it; the key id of the one that is TAINTED by it."""
        answers: list[authority_pb2.ActivateAuthorityResponse] = []

        def is_active() -> bool:
            request = authority_pb2.ActivateAuthorityRequest(request_id=str(uuid4()), key_id=key_id)
            try:
                answers.append(self.authorities.ActivateAuthority(request, timeout=_TIMEOUT))
            except grpc.RpcError as error:
                if refusal_of(error).reason != "AUTHORITY_NOT_ACKNOWLEDGED":
                    raise
                return False
            return True

        wait_until(is_active, 60)
        return answers[0].former.key_id

    def retire(self, key_id: str) -> None:
        """RETIRED."""
        self.authorities.RetireAuthority(
            authority_pb2.RetireAuthorityRequest(request_id=str(uuid4()), key_id=key_id), timeout=_TIMEOUT
        )

    def revoke(self, name: tuple[str, str], reason: "revocation_pb2.RevocationReason.ValueType") -> None:
        """Revoke a certificate, named by its issuer's key id and its serial number."""
        issuer_key_id, serial_number = name
        self.certificates.RevokeCertificate(
            certificate_pb2.RevokeCertificateRequest(
                request_id=str(uuid4()), issuer_key_id=issuer_key_id, serial_number=serial_number, reason=reason
            ),
            timeout=_TIMEOUT,
        )

    def supersede_all_of(self, key_id: str) -> int:
        """Revoke all unexpired leaves of an authority; how many."""
        request = certificate_pb2.RevokeCertificatesRequest(
            request_id=str(uuid4()),
            reason=revocation_pb2.REVOCATION_REASON_SUPERSEDED,
            issuer_key_id=key_id,
            execute=True,
        )
        return self.certificates.RevokeCertificates(request, timeout=_TIMEOUT).certificate_count

    def state_of(self, name: tuple[str, str]) -> str:
        """The state of a certificate; empty if the issuer does not know it."""
        request = certificate_pb2.GetCertificateRequest(issuer_key_id=name[0], serial_number=name[1])
        try:
            found = self.certificates.GetCertificate(request, timeout=_TIMEOUT).certificate
        except grpc.RpcError as error:
            if refusal_of(error).reason == "CERTIFICATE_UNKNOWN":
                return ""
            raise
        return certificate_pb2.CertificateState.Name(found.state).removeprefix("CERTIFICATE_STATE_")

    def listed_in(self, state: "certificate_pb2.CertificateState.ValueType") -> list[certificate_pb2.Certificate]:
        """The first thousand certificates in a state."""
        request = certificate_pb2.ListCertificatesRequest(state=state, page_size=_ALL)
        return list(self.certificates.ListCertificates(request, timeout=_TIMEOUT).certificates)


def name_of(place: Path) -> tuple[str, str]:
    """What names the certificate in a directory: its issuer's key id and its serial number."""
    issued = load_credentials(place).issued
    return issued.issuer_key_id, f"{issued.serial:x}"


def register(mesh: LocalMesh, systems: int) -> list[Path]:
    """Register systems of a new agency, with their first certificates; their directories, once they may call.

    Those come from the local mesh's own CA: before it is rolled over.
    """
    agency_id = f"crowd-{next(_numbers)}"
    with RotatingChannel(mesh.endpoints["registry"], mesh.layout.operator(OPERATORS[0]).tls) as channel:
        agency = agency_pb2.Agency(agency_id=agency_id, name="Crowd")
        agency_pb2_grpc.AgencyServiceStub(channel).RegisterAgency(
            agency_pb2.RegisterAgencyRequest(request_id=str(uuid4()), agency=agency)
        )
        stub = agency_pb2_grpc.SystemServiceStub(channel)
        for number in range(systems):
            system = agency_pb2.System(agency_id=agency_id, system_id=f"s{number}", name=f"System {number}")
            stub.RegisterSystem(agency_pb2.RegisterSystemRequest(request_id=str(uuid4()), system=system))
    for number in range(systems):
        mesh.authority.ensure_system(agency_id, f"s{number}")
    places = [mesh.layout.system(agency_id, f"s{number}").tls for number in range(systems)]
    if places:
        with Client(mesh.endpoints["registry"], places[-1]) as client:
            wait_until(lambda: client.who_am_i().state == agency_pb2.SYSTEM_STATE_ACTIVE)
            mesh.wait_policy(client.describe_rights().policy_revision)
    return places


def further_certificate(mesh: LocalMesh, place: Path) -> Path:
    """A further certificate of tax, issued by the issuer, in a directory of its own."""
    place.mkdir()
    tax = mesh.layout.system(TAX.agency, TAX.system).tls
    asked = Pending.made("p256")
    with RotatingChannel(mesh.endpoints["issuer"], tax) as channel:
        answer = certificate_pb2_grpc.CertificateServiceStub(channel).RenewCertificate(
            certificate_pb2.RenewCertificateRequest(
                request_id=str(uuid4()), profile=certificate_pb2.CERTIFICATE_PROFILE_CLIENT_TLS, csr=asked.csr
            ),
            timeout=_TIMEOUT,
        )
    files = {
        CERTIFICATE_FILE: answer.certificate.certificate_chain,
        KEY_FILE: asked.private_key,
        AUTHORITIES_FILE: (tax / AUTHORITIES_FILE).read_bytes(),
    }
    for name, content in files.items():
        write_text(place / name, content.decode())
    return place


class Backup:
    """A backup of the issuer's database, as an administrator makes one."""

    def __init__(self, mesh: LocalMesh, file: Path) -> None:
        """Make it now."""
        self._mesh, self._file = mesh, file
        self._run("pg_dump", "--format=custom", f"--file={file}", self._url)

    def restore(self) -> None:
        """Stop the issuer, bring its database back to what it was, and start it again.

        Whenever it is started meanwhile, it finds no address of its database and ends.
        """
        with self._issuer_away():
            engine = create_engine(self._url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
            with engine.connect() as connection:
                others = "FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
                connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
            how = ("--clean", "--if-exists", "--no-owner", "--single-transaction")
            self._run("pg_restore", *how, f"--dbname={self._url}", str(self._file))

    @contextmanager
    def _issuer_away(self) -> Iterator[None]:
        place = self._mesh.layout.room("issuer").database_url
        away = place.rename(place.with_suffix(".away"))
        self._mesh.kill("issuer")
        try:
            yield
        finally:
            away.rename(place)
            self._mesh.wait_ready("issuer")

    @property
    def _url(self) -> str:
        """The database as PostgreSQL's own programs name it."""
        place = self._mesh.layout.room("issuer").database_url
        held = place if place.exists() else place.with_suffix(".away")
        return held.read_text().strip().replace("postgresql+psycopg://", "postgresql://")

    @staticmethod
    def _run(program: str, *arguments: str) -> None:
        subprocess.run([str(binary(program)), *arguments], check=True, capture_output=True, timeout=60)
