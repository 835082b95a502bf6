"""Certificates that must not pass: each is refused in the handshake or with its typed reason, and leaves no entry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from prometheus_client import REGISTRY as METRICS

from npd.common.v1 import evidence_pb2, evidence_pb2_grpc
from npd.registry.v1 import rights_pb2, rights_pb2_grpc
from npd_client.errors import Refusal, Unreachable, refusal_of
from npd_pki.identity import Kind, agency_uri, mesh_uri, operator_uri
from npd_pki.trust_bundle import certificates_pem
from services.sharing.app import ROOM as SHARING
from tests.certificates import CLIENT_AUTH, SERVER_AUTH, Holder, TestPki, expired, malformed_uris, not_yet_valid
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, wait_until

METHOD = "/npd.common.v1.EvidenceService/GetCheckpoint"
TAX, HEALTH = agency_uri(ENVIRONMENT, "tax", "core"), agency_uri(ENVIRONMENT, "moh", "medical")
ROOM, OPERATOR = mesh_uri(ENVIRONMENT, "identity"), operator_uri(ENVIRONMENT, "lan")

Make: TypeAlias = Callable[[TestPki], Holder]


@pytest.fixture(scope="module")
def pki(authority: Authority) -> TestPki:
    """Makes any leaf below the CAs that the rooms trust."""
    pki = TestPki(ENVIRONMENT)
    pki.hierarchy, pki.roots = authority.hierarchy, (authority.hierarchy.root.certificate,)
    return pki


@pytest.fixture(scope="module")
def sharing(stage: Stage, desk: Desk) -> Running:
    """A room in which everybody who is accepted may read checkpoints."""
    desk.register("tax/core")
    return stage.start(SHARING)


@dataclass(frozen=True)
class Visit:
    """What came of one call: the refusal, whether it left an entry, and the reasons that the room counted."""

    refusal: Refusal | None
    left_an_entry: bool
    counted: list[str]


def counted() -> dict[str, float]:
    """How often the method was called in this process, by reason."""
    families = [family for family in METRICS.collect() if family.name == "npd_calls"]
    samples = [sample for family in families for sample in family.samples if sample.name.endswith("_total")]
    return {sample.labels["reason"]: sample.value for sample in samples if sample.labels["method"] == METHOD}


def visit(room: Running, credentials: grpc.ChannelCredentials) -> Visit:
    """Call a room past all checks of npd_client, on a connection of its own."""
    before, entries, refusal = counted(), room.entries(), None
    with grpc.secure_channel(room.address, credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = evidence_pb2_grpc.EvidenceServiceStub(channel)
        try:
            stub.GetCheckpoint(evidence_pb2.GetCheckpointRequest(), timeout=10)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
    reasons = [reason for reason, count in counted().items() if count > before.get(reason, 0.0)]
    return Visit(refusal, room.entries() != entries, reasons)


IN_HANDSHAKE: dict[str, tuple[str, Make]] = {
    "foreign root": ("unable to get local issuer certificate", lambda pki: pki.foreign().agency("tax", "core")),
    "missing intermediate": ("unable to get local issuer certificate", lambda pki: pki.agency("tax", "core", chain=())),
    "expired": ("certificate has expired", lambda pki: pki.agency("tax", "core", validity=expired())),
    "not yet valid": ("certificate is not yet valid", lambda pki: pki.agency("tax", "core", validity=not_yet_valid())),
    "expired issuer": (
        "certificate has expired",
        lambda pki: pki.agency("tax", "core", issuer=pki.issuing_ca(Kind.AGENCY, validity=expired())),
    ),
    "no name but the common one": (
        "Issuer has name constraints but leaf has no SANs",
        lambda pki: pki.agency("tax", "core", uris=()),
    ),
    "agency's URI spelt in a DNS SAN": (
        "excluded subtree violation",
        lambda pki: pki.agency("tax", "core", uris=(), dns_names=[TAX]),
    ),
    "a DNS SAN beside an agency's URI": (
        "excluded subtree violation",
        lambda pki: pki.agency("tax", "core", dns_names=["localhost"]),
    ),
    "for servers alone": (
        "unsupported certificate purpose",
        lambda pki: pki.agency("tax", "core", purposes=[SERVER_AUTH]),
    ),
    "for any purpose": (
        "unsupported certificate purpose",
        lambda pki: pki.agency("tax", "core", purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
    ),
    "for signing agreements": (
        "unsupported certificate purpose",
        lambda pki: pki.signing(Kind.AGENCY, "tax", "core"),
    ),
    "agency's CA names a room": (
        "permitted subtree violation",
        lambda pki: pki.room("identity", issuer=pki.hierarchy.agency, dns_names=()),
    ),
    "agency's CA names an operator": (
        "permitted subtree violation",
        lambda pki: pki.operator("lan", issuer=pki.hierarchy.agency),
    ),
    "operators' CA names a system": (
        "permitted subtree violation",
        lambda pki: pki.agency("tax", "core", issuer=pki.hierarchy.operator),
    ),
    "rooms' CA names an operator": (
        "permitted subtree violation",
        lambda pki: pki.operator("lan", issuer=pki.hierarchy.mesh),
    ),
}
"""What gRPC's TLS refuses, with the words in which it says so in the room's own error output."""

BY_REASON: dict[str, tuple[str, Make]] = {
    "two URIs": ("IDENTITY_MALFORMED", lambda pki: pki.agency("tax", "core", uris=[TAX, HEALTH])),
    "one URI twice": ("IDENTITY_MALFORMED", lambda pki: pki.agency("tax", "core", uris=[TAX, TAX])),
    "room's URI spelt in a DNS SAN": (
        "IDENTITY_MALFORMED",
        lambda pki: pki.room("identity", uris=(), dns_names=[ROOM]),
    ),
    "no usage": ("CERTIFICATE_USAGE", lambda pki: pki.agency("tax", "core", purposes=None)),
    "a CA's own": ("CERTIFICATE_USAGE", lambda pki: pki.agency("tax", "core", is_ca=True)),
    "another environment": ("ENVIRONMENT_FOREIGN", lambda pki: pki.agency("tax", "core", environment="npd.gov.vn")),
    "unconstrained issuer": (
        "ISSUER_NOT_ENTITLED",
        lambda pki: pki.agency("tax", "core", issuer=pki.issuing_ca(Kind.AGENCY, host=None)),
    ),
    "issuer for every kind": (
        "ISSUER_NOT_ENTITLED",
        lambda pki: pki.agency("tax", "core", issuer=pki.issuing_ca(Kind.AGENCY, host=f".{ENVIRONMENT}")),
    ),
    "issued by the root": (
        "ISSUER_NOT_ENTITLED",
        lambda pki: pki.agency("tax", "core", issuer=pki.hierarchy.root, chain=()),
    ),
}
"""What TLS lets pass, with the reason for which the room refuses it."""

GOOD: dict[str, Make] = {
    "system": lambda pki: pki.agency("tax", "core"),
    "room": lambda pki: pki.room("identity"),
    "operator": lambda pki: pki.operator("lan"),
    "forged like the broken ones, but not broken": lambda pki: pki.agency("tax", "core", purposes=[CLIENT_AUTH]),
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_a_good_certificate_is_accepted(pki: TestPki, sharing: Running, make: Make) -> None:
    found = visit(sharing, make(pki).channel_credentials())
    assert (found.refusal, found.counted) == (None, ["OK"])


@pytest.mark.parametrize(("words", "make"), IN_HANDSHAKE.values(), ids=IN_HANDSHAKE)
def test_it_is_refused_in_the_handshake(
    pki: TestPki, sharing: Running, capfd: pytest.CaptureFixture[str], words: str, make: Make
) -> None:
    found = visit(sharing, make(pki).channel_credentials())
    assert isinstance(found.refusal, Unreachable)
    assert (found.counted, found.left_an_entry) == ([], False), "no call has reached the room"
    wait_said(capfd, words)


@pytest.mark.parametrize(("reason", "make"), BY_REASON.values(), ids=BY_REASON)
def test_it_is_refused_with_its_reason(pki: TestPki, sharing: Running, reason: str, make: Make) -> None:
    refused_with(reason, visit(sharing, make(pki).channel_credentials()))


@pytest.mark.parametrize("fault", malformed_uris(ENVIRONMENT))
def test_a_malformed_uri_names_nobody(pki: TestPki, sharing: Running, fault: str) -> None:
    found = visit(sharing, pki.agency("tax", "core", uris=malformed_uris(ENVIRONMENT)[fault]).channel_credentials())
    if fault in ("user", "another kind", "no kind"):  # its host is none that the CA may name, nor can be read as one
        assert isinstance(found.refusal, Unreachable)
        assert (found.counted, found.left_an_entry) == ([], False)
    else:
        refused_with("IDENTITY_MALFORMED", found)


def test_no_certificate_is_refused_in_the_handshake(
    authority: Authority, sharing: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    roots = certificates_pem([authority.hierarchy.root.certificate])
    found = visit(sharing, grpc.ssl_channel_credentials(roots))
    assert isinstance(found.refusal, Unreachable)
    assert (found.counted, found.left_an_entry) == ([], False)
    wait_said(capfd, "PEER_DID_NOT_RETURN_A_CERTIFICATE")


def test_a_dns_name_adds_nothing_to_who_a_room_is(pki: TestPki, registry: Running) -> None:
    """gRPC's own `peer_identities` would name the operator too."""
    holder = pki.room("identity", dns_names=[OPERATOR, "localhost"])
    with grpc.secure_channel(registry.address, holder.channel_credentials()) as channel:
        who = rights_pb2_grpc.RightsServiceStub(channel).WhoAmI(rights_pb2.WhoAmIRequest(), timeout=10)
    assert who.identity == ROOM


def wait_said(capfd: pytest.CaptureFixture[str], words: str) -> None:
    """Wait until gRPC has said these words in the process's error output."""
    said: list[str] = []

    def are_there() -> bool:
        said.append(capfd.readouterr().err)
        return words in "".join(said)

    wait_until(are_there, 5)


def refused_with(reason: str, found: Visit) -> None:
    """The call was refused so, and only counted: who has no identity leaves no entry."""
    assert found.refusal is not None
    assert (found.refusal.code, found.refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    assert found.refusal.sentence("vi") != found.refusal.sentence("en")
    assert (found.counted, found.left_an_entry) == ([reason], False)
