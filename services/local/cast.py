"""Who plays in the demonstration: the sample's systems and an operator, each calling as in real life."""

import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256
from uuid import uuid4

from npd.common.v1 import chain_pb2, chain_pb2_grpc, relay_pb2, relay_pb2_grpc
from npd.common.v1.access_pb2 import AccessContext
from npd.issuer.v1 import certificate_pb2, certificate_pb2_grpc, enrolment_pb2, enrolment_pb2_grpc
from npd.registry.v1 import (
    agency_pb2,
    agency_pb2_grpc,
    directory_pb2,
    directory_pb2_grpc,
)
from npd.registry.v1.revocation_pb2 import REVOCATION_REASON_KEY_COMPROMISE
from npd.sharing.v1.lookup_pb2 import GetCitizenResponse
from npd_client.channel import RotatingChannel
from npd_client.client import Client
from npd_pki.issuance import IssuedCertificate
from services.local.layout import Layout
from services.local.offices import IdentityOffice, Registrar, ResidenceOffice
from services.local.sample import (
    IDENTITY_OFFICE,
    MEDICAL,
    ONE_STOP,
    OPERATORS,
    PORTAL,
    REGISTRAR,
    RESIDENCE_OFFICE,
    TAX,
    SampleSystem,
)
from services.local.sandbox import Stated

_TOKEN_BYTES = 32


class Party:
    """A system of the sample: its client, and the ground on which it asks."""

    def __init__(self, sample: SampleSystem, agreement_id: str, addresses: Mapping[str, str], layout: Layout) -> None:
        self.sample = sample
        self.directory = layout.system(sample.agency, sample.system).tls
        self._agreement_id = agreement_id
        self._addresses = dict(addresses)
        self.client = self.new_client()

    def new_client(self) -> Client:
        """A further client, for whoever closes it himself."""
        return Client(self._addresses, self.directory)

    def ground(self, case: str, officer: str = "") -> AccessContext:
        """The ground of a request, by default by the system's first officer."""
        return AccessContext(
            agreement_id=self._agreement_id, case_reference=case, officer_id=officer or self.sample.officers[0]
        )

    def look_up(self, citizen: Stated, fields: tuple[str, ...], *, case: str, officer: str = "") -> GetCitizenResponse:
        """GetCitizen."""
        return self.client.get_citizen(
            self.ground(case, officer), citizen.pin, citizen.full_name, citizen.birth_date, fields
        )


class Operator:
    """An operator of the National Population Database at his desk. Methods raise grpc.RpcError."""

    def __init__(self, addresses: Mapping[str, str], layout: Layout) -> None:
        self._client = Client(dict(addresses), layout.operator(OPERATORS[0]).tls)
        self._channel = self._client.channel("registry")

    def suspend(self, sample: SampleSystem, cause: str) -> None:
        """Suspend a system."""
        agency_pb2_grpc.SystemServiceStub(self._channel).SuspendSystem(
            agency_pb2.SuspendSystemRequest(
                request_id=str(uuid4()), agency_id=sample.agency, system_id=sample.system, cause=cause
            )
        )

    def resume(self, sample: SampleSystem) -> None:
        """Resume it."""
        agency_pb2_grpc.SystemServiceStub(self._channel).ResumeSystem(
            agency_pb2.ResumeSystemRequest(request_id=str(uuid4()), agency_id=sample.agency, system_id=sample.system)
        )

    def set_aside(self, room: str) -> Sequence[relay_pb2.SetAside]:
        """What a room has set aside."""
        stub = relay_pb2_grpc.RelayServiceStub(self._room(room))
        return stub.ListSetAside(relay_pb2.ListSetAsideRequest()).messages

    def retry(self, room: str) -> int:
        """Let a room try again all that it has set aside."""
        stub = relay_pb2_grpc.RelayServiceStub(self._room(room))
        return stub.RetrySetAside(relay_pb2.RetrySetAsideRequest(request_id=str(uuid4()))).retried_count

    def links(self, room: str, correlation_id: str) -> Sequence[chain_pb2.Link]:
        """What a room knows of a chain."""
        stub = chain_pb2_grpc.ChainServiceStub(self._room(room))
        return stub.ListLinks(chain_pb2.ListLinksRequest(correlation_id=correlation_id)).links

    def enrol(self, sample: SampleSystem) -> str:
        """Enrol a system; returns the one-time token, which is known here alone."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        enrolment_pb2_grpc.EnrolmentServiceStub(self._room("issuer")).CreateEnrolment(
            enrolment_pb2.CreateEnrolmentRequest(
                request_id=str(uuid4()),
                agency_id=sample.agency,
                system_id=sample.system,
                profile=certificate_pb2.CERTIFICATE_PROFILE_CLIENT_TLS,
                token_digest=sha256(token.encode()).digest(),
            )
        )
        return token

    def revoke(self, certificate: IssuedCertificate) -> None:
        """Revoke a certificate whose key is known to somebody else."""
        certificate_pb2_grpc.CertificateServiceStub(self._room("issuer")).RevokeCertificate(
            certificate_pb2.RevokeCertificateRequest(
                request_id=str(uuid4()),
                issuer_key_id=certificate.issuer_key_id,
                serial_number=f"{certificate.serial:x}",
                reason=REVOCATION_REASON_KEY_COMPROMISE,
            )
        )

    def connections(self) -> Sequence[directory_pb2.Connection]:
        """The directory of connected databases."""
        stub = directory_pb2_grpc.DirectoryServiceStub(self._channel)
        return stub.ListConnections(directory_pb2.ListConnectionsRequest()).connections

    def close(self) -> None:
        """Leave the desk."""
        self._client.close()

    def _room(self, name: str) -> RotatingChannel:
        return self._client.channel(name)


class Cast:
    """All who play, each with a connection of his own until the end."""

    def __init__(self, agreements: Mapping[str, str], addresses: Mapping[str, str], layout: Layout) -> None:
        def party(sample: SampleSystem) -> Party:
            return Party(sample, agreements[sample.title], addresses, layout)

        self.medical, self.tax, self.one_stop, self.portal = map(party, (MEDICAL, TAX, ONE_STOP, PORTAL))
        offices = self._offices = [party(sample) for sample in (REGISTRAR, RESIDENCE_OFFICE, IDENTITY_OFFICE)]
        self.registrar = Registrar(offices[0].client, offices[0].ground)
        self.residence_office = ResidenceOffice(offices[1].client, offices[1].ground)
        self.identity_office = IdentityOffice(offices[2].client, offices[2].ground)
        self.operator = Operator(addresses, layout)

    def close(self) -> None:
        """Close all connections."""
        for each in (self.medical, self.tax, self.one_stop, self.portal, *self._offices):
            each.client.close()
        self.operator.close()
