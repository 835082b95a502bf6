"""A client of the mesh for those who would rather not assemble requests: one method per call, answers as messages.

It adds nothing to the contract: every method sends one request, and raises Refusal instead of grpc.RpcError. Only
`watch_changes` and `inclusion_proof` do more, and say so; and the certificate is renewed in the background.
"""

import json
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.date_pb2 import Date

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc, person_pb2
from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.lane_pb2 import LANE_UNSPECIFIED, Lane
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
    verification_pb2,
    verification_pb2_grpc,
)
from npd_client.channel import ChannelOption, RotatingChannel, Timing
from npd_client.credentials import DirectoryPath
from npd_client.errors import Refusal, Unreachable, refusal_of
from npd_client.watching import SHORTEST_PAUSE, Interruption, watch

if TYPE_CHECKING:
    from npd_client.renewer import RenewalTiming, Renewer

Stub = TypeVar("Stub")

ISSUER = "issuer"
"""The room that renews certificates."""
SHARING, CHANGES = "sharing", "changes"
"""The room of the record; and its feed, where the streams have servers of their own."""
RENEWAL_END = 1.0
"""Seconds that closing waits for a renewal to put its files in place; one that is cut off is done again."""
INTEGRATION_TIME = 3.0
"""Seconds to wait for a fresh entry to have its place in the log; the mesh needs up to one."""

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", re.ASCII)


class DateMalformed(ValueError):
    """A date is none of YYYY, YYYY-MM and YYYY-MM-DD, or no day of the calendar. Does not repeat what was given."""


class AddressUnknown(LookupError):
    """No address is known for a room."""


def date_of(text: str | Date) -> Date:
    """Read "1990", "1990-05" or "1990-05-17"; what is left out stays unknown (0). Raises DateMalformed."""
    if isinstance(text, Date):
        return text
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise DateMalformed("write a date as YYYY, YYYY-MM or YYYY-MM-DD")
    year, month, day = (int(part or 0) for part in match.groups())
    try:
        date(year, 1 if match[2] is None else month, 1 if match[3] is None else day)
    except ValueError:
        raise DateMalformed("this date is not in the calendar") from None
    return Date(year=year, month=month, day=day)


def read_endpoints(path: DirectoryPath) -> dict[str, str]:
    """Read the addresses of the rooms from a file such as {"registry": "localhost:7001", "sharing": "localhost:7005"}.

    Raises OSError, AddressUnknown if that is not what the file holds.
    """
    with open(path, encoding="utf-8") as stream:
        try:
            endpoints = json.load(stream)
        except ValueError:
            endpoints = None
    if not isinstance(endpoints, dict) or not all(isinstance(address, str) for address in endpoints.values()):
        raise AddressUnknown(f'{path} is not a file of addresses such as {{"sharing": "localhost:7005"}}')
    return endpoints


class Client:
    """Calls the rooms of the mesh as the system that the credentials name.

    `addresses` maps rooms ("registry", "sharing") to gRPC targets, "host:port" or "dns:///service:port"; one string
    stands for all rooms. If "changes" has an address, the feed is followed there instead of at "sharing". `directory`
    holds tls.crt, tls.key and ca.crt, which may be renewed at any time. Safe for threads; close it, or use it as a
    context. Every method raises Refusal (Unreachable if there was no answer); the first call of a room raises
    CredentialsError if the files cannot open a connection, AddressUnknown if the room has no address.

    From the first call on the client renews the certificate by itself, if the addresses name an "issuer" and the
    directory can be written: see `npd_client.renewer`. `renew=False` leaves it alone.
    """

    def __init__(
        self,
        addresses: Mapping[str, str] | str,
        directory: DirectoryPath,
        *,
        timing: Timing | None = None,
        options: Iterable[ChannelOption] = (),
        renew: bool = True,
        renewal: "RenewalTiming | None" = None,
    ) -> None:
        self._addresses = addresses
        self._directory = directory
        self._timing, self._options = timing, tuple(options)
        self._lock = threading.Lock()
        self._channels: dict[str, RotatingChannel] = {}
        self._stubs: dict[tuple[object, str], Any] = {}
        self._closed = threading.Event()
        is_renewing = renew and not isinstance(addresses, str) and bool(addresses.get(ISSUER))
        self._renewer = _renewer_of(self, directory, renewal) if is_renewing else None

    def channel(self, room: str) -> RotatingChannel:
        """The channel to a room, for stubs of your own. Opened when it is first asked for."""
        target = self._addresses if isinstance(self._addresses, str) else self._addresses.get(room, "")
        if not target:
            raise AddressUnknown(f"no address is known for the room {room!r}; name it among the addresses")
        with self._lock:
            if target not in self._channels:
                self._channels[target] = RotatingChannel(
                    target, self._directory, timing=self._timing, options=self._options
                )
                if self._renewer is not None and len(self._channels) == 1 and not self._closed.is_set():
                    self._renewer.start()
            return self._channels[target]

    @property
    def _feed(self) -> str:
        """Which address the feed is followed at."""
        return CHANGES if not isinstance(self._addresses, str) and self._addresses.get(CHANGES) else SHARING

    def who_am_i(self, *, timeout: float | None = None) -> rights_pb2.WhoAmIResponse:
        """Who the mesh takes this system for, in which state, and until when its certificate is valid."""
        with self._stub(rights_pb2_grpc.RightsServiceStub, "registry") as stub:
            return stub.WhoAmI(rights_pb2.WhoAmIRequest(), timeout=timeout)

    def describe_rights(self, *, timeout: float | None = None) -> rights_pb2.DescribeRightsResponse:
        """What each agreement of this system grants now, and if nothing, why."""
        with self._stub(rights_pb2_grpc.RightsServiceStub, "registry") as stub:
            return stub.DescribeRights(rights_pb2.DescribeRightsRequest(), timeout=timeout)

    def get_citizen(
        self,
        access: AccessContext,
        pin: str,
        full_name: str,
        birth_date: str | Date,
        fields: Iterable[str],
        *,
        include_provenance: bool = False,
        timeout: float | None = None,
    ) -> lookup_pb2.GetCitizenResponse:
        """Granted fields of the citizen whose PIN, full name and birth date these are.

        The answer's `outcome` is DISCLOSED or NO_MATCH, which does not say what did not match. `fields` are paths of
        Person, "permanent_residence" or "permanent_residence.place". Raises DateMalformed before anything is sent.
        """
        request = lookup_pb2.GetCitizenRequest(
            access=access,
            identity=person_pb2.StatedIdentity(pin=pin, full_name=full_name, birth_date=date_of(birth_date)),
            read_mask=FieldMask(paths=fields),
            include_provenance=include_provenance,
        )
        with self._stub(lookup_pb2_grpc.LookupServiceStub, "sharing") as stub:
            return stub.GetCitizen(request, timeout=timeout)

    def verify_citizen(
        self,
        access: AccessContext,
        pin: str,
        full_name: str,
        birth_date: str | Date,
        claimed: person_pb2.Person | None = None,
        *,
        fields: Iterable[str] | None = None,
        predicates: Iterable[verification_pb2.Predicate] = (),
        timeout: float | None = None,
    ) -> verification_pb2.VerifyCitizenResponse:
        """Verdicts on claims about the citizen whose PIN, full name and birth date these are; no value is released.

        `claimed` holds the claimed values, `fields` its top-level fields that are claimed: by default those that are
        set, and one that is named but not set claims that there is no value. `predicates` are claims such as
        Predicate(age_at_least=18). Raises DateMalformed before anything is sent.
        """
        person = claimed or person_pb2.Person()
        paths = [field.name for field, _ in person.ListFields()] if fields is None else list(fields)
        request = verification_pb2.VerifyCitizenRequest(
            access=access,
            identity=person_pb2.StatedIdentity(pin=pin, full_name=full_name, birth_date=date_of(birth_date)),
            claimed=person,
            claimed_mask=FieldMask(paths=paths),
            predicates=predicates,
        )
        with self._stub(verification_pb2_grpc.VerificationServiceStub, "sharing") as stub:
            return stub.VerifyCitizen(request, timeout=timeout)

    def find_usage(
        self,
        access: AccessContext,
        pin: str,
        full_name: str,
        birth_date: str | Date,
        *,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> usage_pb2.FindUsageResponse:
        """Who used this citizen's record, newest first, a page at a time. Raises DateMalformed before it calls."""
        request = usage_pb2.FindUsageRequest(
            access=access,
            identity=person_pb2.StatedIdentity(pin=pin, full_name=full_name, birth_date=date_of(birth_date)),
            page_size=page_size,
            page_token=page_token,
        )
        with self._stub(usage_pb2_grpc.UsageServiceStub, "sharing") as stub:
            return stub.FindUsage(request, timeout=timeout)

    def contribute(
        self,
        items: Iterable[contribution_pb2.ContributionItem],
        access: AccessContext | None = None,
        *,
        request_id: str = "",
        timeout: float | None = None,
    ) -> contribution_pb2.ContributeResponse:
        """Tell the record up to 1,000 items; each has its own result, in their order.

        After Unreachable nobody can tell whether they were taken: repeat the call with the same items and `request_id`
        (a UUID; a new one if none is given, noted in the exception). A repeat returns the first answer.
        """
        request_id = request_id or str(uuid4())
        request = contribution_pb2.ContributeRequest(request_id=request_id, access=access, items=items)
        try:
            with self._stub(contribution_pb2_grpc.ContributionServiceStub, "sharing") as stub:
                return stub.Contribute(request, timeout=timeout)
        except Unreachable as refusal:
            refusal.add_note(f"The items may have been taken: repeat them with request_id={request_id!r}.")
            raise

    def pull_changes(
        self,
        access: AccessContext,
        cursor: change_pb2.Cursor | None = None,
        *,
        lane: "Lane.ValueType" = LANE_UNSPECIFIED,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> change_pb2.PullChangesResponse:
        """The next changes after a cursor; without one, from the oldest. Go on from the answer's `next_cursor`.

        `lane` asks for one lane alone, which then has a cursor of its own.
        """
        request = change_pb2.PullChangesRequest(access=access, cursor=cursor, page_size=page_size, lane=lane)
        with self._stub(change_pb2_grpc.ChangeServiceStub, self._feed) as stub:
            return stub.PullChanges(request, timeout=timeout)

    def acknowledge(
        self,
        access: AccessContext,
        *,
        received: change_pb2.Cursor | None = None,
        applied: change_pb2.Cursor | None = None,
        rejected: Mapping[str, str] | None = None,
        recovered: Iterable[str] = (),
        lane: "Lane.ValueType" = LANE_UNSPECIFIED,
        timeout: float | None = None,
    ) -> change_pb2.AcknowledgeResponse:
        """Say how far you have come; the sources of the changes and the operator see it. May be repeated at will.

        `received`: every change up to here is kept safe with you. `applied`: every one has taken effect, but for those
        `rejected`, which map the change's id to a code of yours for why; name it among `recovered` once it is applied.
        `lane` as in the watch or pull that brought the changes.
        """
        request = change_pb2.AcknowledgeRequest(
            access=access,
            lane=lane,
            received=received,
            applied=applied,
            rejected=[
                change_pb2.Rejection(change_id=change_id, reason=why) for change_id, why in (rejected or {}).items()
            ],
            recovered=recovered,
        )
        with self._stub(change_pb2_grpc.ChangeServiceStub, self._feed) as stub:
            return stub.Acknowledge(request, timeout=timeout)

    def watch_changes(
        self,
        access: AccessContext,
        cursor: change_pb2.Cursor | None = None,
        *,
        lane: "Lane.ValueType" = LANE_UNSPECIFIED,
        on_interruption: Interruption | None = None,
    ) -> Iterator[change_pb2.WatchChangesResponse]:
        """Changes after a cursor as they come, each once, until the client is closed or the iterator is left.

        Apply `changes`, then store `cursor` (also of a message without changes), and pass it again after a restart;
        `acknowledge` it, so that others see how far you are. `lane` asks for one lane alone.
        Without a cursor the watch begins with its first message; who may miss nothing begins with `pull_changes`.

        1. Changes at or before the last cursor are dropped, should a server send them again.
        2. The mesh ends a stream every few minutes: the next goes on from the last cursor.
        3. A stream that ends because its certificate does goes on with the new one, if the files hold one.
        4. A stream that breaks, or finds no free slot, is tried again for ever, after a pause that grows to 5 seconds
           or that the server asked for; `on_interruption` is told (by default the log).

        Raises Refusal for everything else, such as CERTIFICATE_REVOKED, AGREEMENT_SUSPENDED or CURSOR_OUTDATED, whose
        metadata names where to resume.
        """
        request = change_pb2.WatchChangesRequest(access=access, cursor=cursor, lane=lane)
        yield from watch(self.channel(self._feed), request, self._closed, on_interruption)

    def inclusion_proof(
        self, leaf_hash: bytes, *, room: str = "sharing", timeout: float | None = None
    ) -> evidence_pb2.GetInclusionProofResponse:
        """The entry with this leaf hash and its proof, from the log of a room.

        `sharing` keeps the disclosures, `registry` the acts of authority. Waits for an entry so fresh that it has no
        place in the log yet. `npd_client.receipts` makes a file of it.
        """
        request = evidence_pb2.GetInclusionProofRequest(leaf_hash=leaf_hash)
        give_up = monotonic() + INTEGRATION_TIME
        while True:
            try:
                with self._stub(evidence_pb2_grpc.EvidenceServiceStub, room) as stub:
                    return stub.GetInclusionProof(request, timeout=timeout)
            except Refusal as refusal:
                if refusal.reason != "ENTRY_NOT_FOUND" or monotonic() >= give_up:
                    raise
            self._closed.wait(SHORTEST_PAUSE)

    def close(self) -> None:
        """Close every connection; a watch ends, other calls in flight are refused as CANCELLED."""
        self._closed.set()
        if self._renewer is not None:
            self._renewer.close()
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            channel.close()
        if self._renewer is not None:
            self._renewer.join(RENEWAL_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _stub(self, kind: Callable[[grpc.Channel], Stub], room: str) -> Iterator[Stub]:
        """The stub of a service of a room, made once, whose errors leave as Refusal."""
        channel = self.channel(room)
        key = (kind, channel.target)
        stub: Stub = self._stubs.get(key) or self._stubs.setdefault(key, kind(channel))
        try:
            yield stub
        except grpc.RpcError as error:
            raise refusal_of(error, channel.credentials, channel.target) from error


def _renewer_of(client: Client, directory: DirectoryPath, timing: "RenewalTiming | None") -> "Renewer":
    """A renewer that does not keep a client alive which was forgotten without being closed."""
    from npd_client.renewer import Renewer  # a quarter of the time to import a Client, for those alone who renew

    reference = weakref.ref(client)

    def issuer() -> RotatingChannel | None:
        owner = reference()
        return None if owner is None or owner._closed.is_set() else owner.channel(ISSUER)

    def promoted() -> None:
        owner = reference()
        if owner is not None:
            with owner._lock:
                channels = list(owner._channels.values())
            for channel in channels:
                channel.look()

    return Renewer(directory, issuer, promoted=promoted, timing=timing)
