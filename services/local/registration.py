"""Registers the sample as in production: over the registry's RPCs, by operators and by the agencies themselves.

Both sides sign each agreement with their signing leaves. What is there already stays: a second time registers nothing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4
from zoneinfo import ZoneInfo

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date

from npd.common.v1.access_pb2 import AccessMode
from npd.registry.v1 import (
    agency_pb2,
    agency_pb2_grpc,
    agreement_pb2,
    agreement_pb2_grpc,
    rights_pb2,
    rights_pb2_grpc,
)
from npd_client.agreement import sign_terms
from npd_client.channel import RotatingChannel
from npd_client.errors import refusal_of
from services.local.errors import LocalError
from services.local.layout import Layout
from services.local.sample import OPERATORS, SampleSystem

_LEGAL_ZONE: Final = ZoneInfo("Asia/Ho_Chi_Minh")
_AGREEMENT_LIFE: Final = timedelta(days=365)
_ALL: Final = 1000
_ALL_AGREEMENTS: Final = 200

_POLICY_SECONDS: Final = 10.0

Progress = Callable[[str], None]


class PolicyLate(LocalError):
    """What the registry has accepted has not become policy in time."""


class Registration:
    """Registers sample systems at one registry. Their credentials and the operators' must lie in the layout."""

    def __init__(self, layout: Layout, registry: str, progress: Progress) -> None:
        """`registry` is its address; `progress` is told whom it registers."""
        self._layout = layout
        self._registry = registry
        self._tell = progress

    def register(self, systems: Sequence[SampleSystem]) -> dict[str, str]:
        """Register agencies, systems, rosters and agreements as far as they are missing; the agreements' ids by title.

        Raises Refusal for what the registry does not accept.
        """
        with ExitStack() as stack:
            first, second = (stack.enter_context(self._calling(self._layout.operator(name).tls)) for name in OPERATORS)
            self._register_agencies(first, systems)
            self._register_systems(first, systems)
            return {sample.title: self._agree(sample, first, second) for sample in systems}

    def _register_agencies(self, operator: grpc.Channel, systems: Sequence[SampleSystem]) -> None:
        stub = agency_pb2_grpc.AgencyServiceStub(operator)
        known = {each.agency_id for each in stub.ListAgencies(agency_pb2.ListAgenciesRequest(page_size=_ALL)).agencies}
        for sample in systems:
            if sample.agency not in known:
                self._tell(f"registering {sample.agency}")
                agency = agency_pb2.Agency(agency_id=sample.agency, name=sample.agency_name)
                stub.RegisterAgency(agency_pb2.RegisterAgencyRequest(request_id=_new_id(), agency=agency))
                known.add(sample.agency)
            stub.AddOfficers(
                agency_pb2.AddOfficersRequest(
                    request_id=_new_id(), agency_id=sample.agency, officer_ids=sample.officers
                )
            )

    def _register_systems(self, operator: grpc.Channel, systems: Sequence[SampleSystem]) -> None:
        stub = agency_pb2_grpc.SystemServiceStub(operator)
        listed = stub.ListSystems(agency_pb2.ListSystemsRequest(page_size=_ALL)).systems
        known = {(each.agency_id, each.system_id) for each in listed}
        for sample in systems:
            if (sample.agency, sample.system) not in known:
                self._tell(f"registering {sample.title}")
                system = agency_pb2.System(agency_id=sample.agency, system_id=sample.system, name=sample.name)
                stub.RegisterSystem(agency_pb2.RegisterSystemRequest(request_id=_new_id(), system=system))

    def _agree(self, sample: SampleSystem, first: grpc.Channel, second: grpc.Channel) -> str:
        """The agreement of a system: the one in force, or a new one, signed by whichever side has not signed yet."""
        agreement = self._found(sample, first) or self._drawn_up(sample, first)
        agreement_id = agreement_pb2.AgreementTerms.FromString(agreement.terms).agreement_id
        if not agreement.HasField("agency_signature"):
            self._tell(f"{sample.title} signs its agreement")
            places = self._layout.system(sample.agency, sample.system)
            with self._calling(places.tls) as channel:
                _await_active(channel, sample)
                _sign(channel, agreement_id, agreement.terms, places.signing)
        if not agreement.HasField("operator_signature"):
            self._tell(f"{OPERATORS[1]} signs the agreement of {sample.title}")
            _sign(second, agreement_id, agreement.terms, self._layout.operator(OPERATORS[1]).signing)
        return agreement_id

    def _found(self, sample: SampleSystem, operator: grpc.Channel) -> agreement_pb2.Agreement | None:
        request = agreement_pb2.ListAgreementsRequest(agency_id=sample.agency, page_size=_ALL_AGREEMENTS)
        for agreement in agreement_pb2_grpc.AgreementServiceStub(operator).ListAgreements(request).agreements:
            if _is_that_of(agreement_pb2.AgreementTerms.FromString(agreement.terms), sample):
                return agreement
        return None

    def _drawn_up(self, sample: SampleSystem, operator: grpc.Channel) -> agreement_pb2.Agreement:
        self._tell(f"drawing up the agreement of {sample.title}")
        terms = agreement_pb2.AgreementTerms(
            agency_id=sample.agency,
            system_id=sample.system,
            purpose=sample.purpose,
            provision=sample.provision,
            grants=[
                agreement_pb2.Grant(mode=AccessMode.Value(f"ACCESS_MODE_{mode}"), fields=FieldMask(paths=paths))
                for mode, paths in sample.grants.items()
            ],
            start_date=_wire(_today()),
            end_date=_wire(_today() + _AGREEMENT_LIFE),
        )
        request = agreement_pb2.DrawUpAgreementRequest(request_id=_new_id(), terms=terms)
        return agreement_pb2_grpc.AgreementServiceStub(operator).DrawUpAgreement(request).agreement

    @contextmanager
    def _calling(self, directory: Path) -> Iterator[grpc.Channel]:
        with RotatingChannel(self._registry, directory) as channel:
            try:
                yield channel
            except grpc.RpcError as error:
                raise refusal_of(error, channel.credentials, self._registry) from error


def _await_active(channel: grpc.Channel, sample: SampleSystem) -> None:
    """Wait until the registry's own policy knows what its store knows: some milliseconds."""
    stub, deadline = rights_pb2_grpc.RightsServiceStub(channel), time.monotonic() + _POLICY_SECONDS
    while stub.WhoAmI(rights_pb2.WhoAmIRequest()).state == agency_pb2.SYSTEM_STATE_UNSPECIFIED:
        if time.monotonic() > deadline:
            raise PolicyLate(f"{sample.title} was registered, but is not known to the policy after {_POLICY_SECONDS} s")
        time.sleep(0.02)


def _sign(channel: grpc.Channel, agreement_id: str, terms: bytes, signing: Path) -> None:
    request = agreement_pb2.SignAgreementRequest(
        request_id=_new_id(), agreement_id=agreement_id, signature=sign_terms(terms, signing)
    )
    agreement_pb2_grpc.AgreementServiceStub(channel).SignAgreement(request)


def _is_that_of(terms: agreement_pb2.AgreementTerms, sample: SampleSystem) -> bool:
    """Whether an agreement says what the sample says, and has not ended."""
    grants = {
        AccessMode.Name(grant.mode).removeprefix("ACCESS_MODE_"): set(grant.fields.paths) for grant in terms.grants
    }
    ground = (terms.system_id, terms.purpose, terms.provision)
    last_day = date(terms.end_date.year, terms.end_date.month, terms.end_date.day)
    return (
        ground == (sample.system, sample.purpose, sample.provision)
        and grants == {mode: set(paths) for mode, paths in sample.grants.items()}
        and last_day > _today()
    )


def _today() -> date:
    return datetime.now(_LEGAL_ZONE).date()


def _wire(day: date) -> Date:
    return Date(year=day.year, month=day.month, day=day.day)


def _new_id() -> str:
    return str(uuid4())
