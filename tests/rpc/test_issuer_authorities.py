"""Authorities: a rollover from PREPARED to REVOKED, what each step needs, and what the registry hears of it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from npd.common.v1 import approval_pb2
from npd.issuer.v1 import authority_pb2, authority_pb2_grpc, certificate_pb2
from npd.registry.v1 import policy_pb2, revocation_pb2, rights_pb2, rights_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_pki.authority import IssuingCA
from npd_pki.identity import Kind
from npd_pki.validity import Validity
from services.issuer.app import ROOM as ISSUER
from services.issuer.metrics import REVOCATION_LIST_NEXT_TIME, Measurement
from services.local.postgres import EmbeddedPostgres
from services.mesh.core.authorities import AuthorityState
from services.registry.app import ROOM as REGISTRY
from tests.issuer_fixture import (
    PASSPHRASE_FILE,
    IssuerScene,
    csr_for,
    leaf_of,
    p256_key,
    write_authorities,
    write_authority,
    write_tls,
)
from tests.mesh_fixture import Authority, Desk, Stage, new_id, refused, wait_until
from tests.rpc.test_issuer_revocation import REVOKED, enrolled, shown
from tests.rpc.test_issuer_revocation_lists import office_of

SERVICE = "/npd.issuer.v1.AuthorityService"
COMPROMISE = revocation_pb2.REVOCATION_REASON_KEY_COMPROMISE
SUPERSEDED = revocation_pb2.REVOCATION_REASON_SUPERSEDED
STATES = policy_pb2.AuthorityState
HOST = "agency.test.npd.example"


@pytest.fixture
def scene(postgres: EmbeddedPostgres, authority: Authority, tmp_path: Path) -> Iterator[IssuerScene]:
    """A registry and an issuer for each test: every rollover leaves another state behind, for good."""
    with Stage(postgres, authority, tmp_path) as stage:
        registry = stage.start(REGISTRY, operators=["lan", "minh"])
        desk = Desk(registry, "lan")
        desk.register("tax/core")
        yield IssuerScene(stage, registry, desk, tmp_path / "issuer")


def lay_ready(
    scene: IssuerScene, name: str = "agency-2", *, key: bool = True, validity: Validity | None = None
) -> IssuingCA:
    """The files of a further CA of agencies, as a ceremony writes them."""
    made = scene.hierarchy.root.issue_issuing_ca(Kind.AGENCY, validity=validity)
    place = scene.directory / "authorities" / name
    write_authority(place, made)
    if not key:
        (place / "ca.key").write_text("no key")
    return made


def prepare(scene: IssuerScene, key_id: str) -> authority_pb2.Authority:
    request = authority_pb2.PrepareAuthorityRequest(request_id=new_id(), key_id=key_id)
    return scene.authorities().PrepareAuthority(request).authority


def activation(key_id: str) -> authority_pb2.ActivateAuthorityRequest:
    return authority_pb2.ActivateAuthorityRequest(request_id=new_id(), key_id=key_id)


def activate(scene: IssuerScene, key_id: str) -> authority_pb2.ActivateAuthorityResponse:
    wait_until(lambda: listed(scene)[key_id].unacknowledged_rooms == [])
    return scene.authorities().ActivateAuthority(activation(key_id))


def listed(scene: IssuerScene) -> dict[str, authority_pb2.Authority]:
    answer = scene.authorities().ListAuthorities(authority_pb2.ListAuthoritiesRequest())
    return {one.key_id: one for one in answer.authorities}


def measured_lists(scene: IssuerScene) -> set[str]:
    """The authorities of agencies whose revocation list the metrics tell of."""
    Measurement(office_of(scene)).measure(datetime.now(UTC))
    labels = (sample.labels for metric in REVOCATION_LIST_NEXT_TIME.collect() for sample in metric.samples)
    of_operators = {one.key_id[:16] for one in listed(scene).values() if one.host != HOST}
    return {one["issuer"] for one in labels} - of_operators


def retirement(key_id: str) -> authority_pb2.RetireAuthorityRequest:
    return authority_pb2.RetireAuthorityRequest(request_id=new_id(), key_id=key_id)


def revocation_of(key_id: str) -> authority_pb2.RevokeAuthorityRequest:
    return authority_pb2.RevokeAuthorityRequest(request_id=new_id(), key_id=key_id, reason=SUPERSEDED)


def taint(scene: IssuerScene, key_id: str) -> authority_pb2.Authority:
    request = authority_pb2.TaintAuthorityRequest(request_id=new_id(), key_id=key_id)
    return scene.authorities().TaintAuthority(request).authority


def state_in_policy(scene: IssuerScene, key_id: str) -> AuthorityState | None:
    found = scene.issuer.house.keeper.current.authorities.get(key_id)
    return found.state if found else None


def revoke_leaves_of(scene: IssuerScene, key_id: str) -> int:
    request = certificate_pb2.RevokeCertificatesRequest(
        request_id=new_id(), reason=SUPERSEDED, issuer_key_id=key_id, execute=True
    )
    return scene.certificates(Kind.OPERATOR, "lan").RevokeCertificates(request).certificate_count


def test_authority_is_rolled_over_without_a_call_refused(scene: IssuerScene, tmp_path: Path) -> None:
    old, key = scene.hierarchy.agency.key_id, p256_key()
    certificate = enrolled(scene, "tax/core", key)
    tls = write_tls(tmp_path / "tax", certificate.certificate_chain, key, scene.hierarchy.root.certificate)
    channel = RotatingChannel(scene.registry.address, tls)
    who = rights_pb2_grpc.RightsServiceStub(channel)
    new = lay_ready(scene)
    ready = listed(scene)[new.key_id]
    assert (ready.state, ready.host, ready.has_key) == (STATES.AUTHORITY_STATE_UNSPECIFIED, HOST, True)
    assert x509.load_pem_x509_certificate(ready.certificate) == new.certificate

    prepared = prepare(scene, new.key_id)
    assert prepared.state == STATES.AUTHORITY_STATE_PREPARED
    assert set(prepared.unacknowledged_rooms) >= {"issuer", "registry"}
    (entry,) = scene.recorded(f"{SERVICE}/PrepareAuthority", f"authority {new.key_id} of {HOST} (PREPARED)")
    assert ", by spiffe://operator.test.npd.example/lan, at " in entry.object

    activated = activate(scene, new.key_id)
    assert activated.authority.state == STATES.AUTHORITY_STATE_ACTIVE
    assert (activated.former.key_id, activated.former.state) == (old, STATES.AUTHORITY_STATE_TAINTED)
    assert len(scene.recorded(f"{SERVICE}/ActivateAuthority", "TAINTED")) >= 1
    wait_until(lambda: state_in_policy(scene, old) is AuthorityState.TAINTED)
    assert state_in_policy(scene, new.key_id) is AuthorityState.ACTIVE

    assert who.WhoAmI(rights_pb2.WhoAmIRequest()).identity == certificate.identity, "old leaves are accepted"
    by_old = scene.certificates_by(tls)
    window = by_old.GetRenewalWindow(certificate_pb2.GetRenewalWindowRequest()).window
    assert window.is_urgent, "and renew now"
    new_key = p256_key()
    request = certificate_pb2.RenewCertificateRequest(
        request_id=new_id(), profile=certificate_pb2.CERTIFICATE_PROFILE_CLIENT_TLS, csr=csr_for(new_key)
    )
    renewed = by_old.RenewCertificate(request).certificate
    assert renewed.issuer_key_id == new.key_id
    assert leaf_of(renewed).issuer == new.certificate.subject
    write_tls(tls, renewed.certificate_chain, new_key, scene.hierarchy.root.certificate)
    with RotatingChannel(scene.registry.address, tls) as renewed_channel:
        stub = rights_pb2_grpc.RightsServiceStub(renewed_channel)
        assert stub.WhoAmI(rights_pb2.WhoAmIRequest()).identity == certificate.identity

    refusal = refused(scene.authorities().RetireAuthority, retirement(old))
    assert (refusal.reason, refusal.metadata["key_id"]) == ("AUTHORITY_IN_USE", old)
    assert int(refusal.metadata["count"]) == listed(scene)[old].unexpired_count > 0
    assert refused(scene.authorities().RevokeAuthority, revocation_of(old)).reason == "AUTHORITY_IN_USE"
    assert scene.issuer.entries()[-1].reason == "AUTHORITY_IN_USE"
    assert revoke_leaves_of(scene, old) == int(refusal.metadata["count"])
    wait_until(lambda: measured_lists(scene) == {old[:16], new.key_id[:16]})
    retired = scene.authorities().RetireAuthority(retirement(old)).authority
    assert (retired.state, retired.unexpired_count) == (STATES.AUTHORITY_STATE_RETIRED, 0)
    wait_until(lambda: state_in_policy(scene, old) is AuthorityState.RETIRED)
    wait_until(lambda: measured_lists(scene) == {new.key_id[:16]})  # that it makes no lists any more wakes nobody
    revoked = scene.authorities().RevokeAuthority(revocation_of(old)).authority
    assert revoked.state == STATES.AUTHORITY_STATE_REVOKED
    assert len(scene.recorded(f"{SERVICE}/RetireAuthority", old)) == 1
    assert len(scene.recorded(f"{SERVICE}/RevokeAuthority", f"{old} of {HOST} (REVOKED, SUPERSEDED)")) == 1
    channel.close()


def test_authority_is_not_activated_before_every_room_has_heard_of_it(scene: IssuerScene) -> None:
    new, old = lay_ready(scene), scene.hierarchy.agency.key_id
    prepare(scene, new.key_id)
    request = activation(new.key_id)
    refusal = refused(scene.authorities().ActivateAuthority, request)
    assert refusal.reason == "AUTHORITY_NOT_ACKNOWLEDGED"
    assert "issuer" in refusal.metadata["rooms"]
    assert scene.issuer.entries()[-1].reason == "AUTHORITY_NOT_ACKNOWLEDGED"
    assert listed(scene)[old].state == STATES.AUTHORITY_STATE_ACTIVE
    wait_until(lambda: listed(scene)[new.key_id].unacknowledged_rooms == [])
    first = scene.authorities().ActivateAuthority(request)
    assert scene.authorities().ActivateAuthority(request) == first, "a repeat returns the first answer"
    assert len(scene.recorded(f"{SERVICE}/ActivateAuthority", new.key_id)) == 1


def test_authority_is_not_activated_while_the_registry_does_not_say_who_knows_it(scene: IssuerScene) -> None:
    new = lay_ready(scene)
    prepare(scene, new.key_id)
    wait_until(lambda: listed(scene)[new.key_id].unacknowledged_rooms == [])
    channel = scene.issuer.house.channel("registry")
    channel.close()
    refusal = refused(scene.authorities().ActivateAuthority, activation(new.key_id))
    assert (refusal.reason, refusal.metadata["rooms"]) == ("AUTHORITY_NOT_ACKNOWLEDGED", "issuer, registry")
    assert taint(scene, new.key_id).state == STATES.AUTHORITY_STATE_TAINTED, "to stop one needs nobody"


def test_tainted_authority_issues_no_more_though_it_has_no_successor(scene: IssuerScene) -> None:
    key_id = scene.hierarchy.agency.key_id
    certificate = enrolled(scene, "tax/core", p256_key())
    request = authority_pb2.TaintAuthorityRequest(request_id=new_id(), key_id=key_id)
    first = scene.authorities().TaintAuthority(request)
    assert first.authority.state == STATES.AUTHORITY_STATE_TAINTED
    assert scene.authorities().TaintAuthority(request) == first
    assert len(scene.recorded(f"{SERVICE}/TaintAuthority", key_id)) == 1
    renewal = certificate_pb2.RenewCertificateRequest(
        request_id=new_id(), profile=certificate_pb2.CERTIFICATE_PROFILE_CLIENT_TLS, csr=csr_for(p256_key())
    )
    assert refused(scene.certificates(Kind.AGENCY, "tax/core").RenewCertificate, renewal).reason == "AUTHORITY_MISSING"
    assert shown(scene, certificate).state == certificate_pb2.CERTIFICATE_STATE_ISSUED


def test_force_revoking_needs_a_second_person_and_takes_all_leaves_along(scene: IssuerScene, tmp_path: Path) -> None:
    key_id, key = scene.hierarchy.agency.key_id, p256_key()
    certificate = enrolled(scene, "tax/core", key)
    tls = write_tls(tmp_path / "tax", certificate.certificate_chain, key, scene.hierarchy.root.certificate)
    request = authority_pb2.ForceRevokeAuthorityRequest(request_id=new_id(), key_id=key_id, reason=COMPROMISE)
    refusal = refused(scene.authorities().ForceRevokeAuthority, request)
    assert refusal.reason == "APPROVAL_NEEDED"
    assert shown(scene, certificate).state == certificate_pb2.CERTIFICATE_STATE_ISSUED
    approval = scene.approve(refusal.metadata["approval"])
    assert approval.state == approval_pb2.APPROVAL_STATE_APPROVED
    count = listed(scene)[key_id].unexpired_count
    answer = scene.authorities().ForceRevokeAuthority(request)
    assert (answer.authority.state, answer.revoked_count) == (STATES.AUTHORITY_STATE_REVOKED, count)
    assert scene.authorities().ForceRevokeAuthority(request) == answer
    found = shown(scene, certificate)
    assert (found.state, found.revocation_reason) == (REVOKED, COMPROMISE)
    (entry,) = scene.recorded(f"{SERVICE}/ForceRevokeAuthority", key_id)
    assert "(REVOKED, KEY_COMPROMISE, forced)" in entry.object
    wait_until(lambda: state_in_policy(scene, key_id) is AuthorityState.REVOKED)
    with RotatingChannel(scene.registry.address, tls) as channel:
        stub = rights_pb2_grpc.RightsServiceStub(channel)
        wait_until(lambda: refused(stub.WhoAmI, rights_pb2.WhoAmIRequest()).reason == "CERTIFICATE_REVOKED")
    again = authority_pb2.ForceRevokeAuthorityRequest(request_id=new_id(), key_id=key_id, reason=COMPROMISE)
    scene.approve(refused(scene.authorities().ForceRevokeAuthority, again).metadata["approval"])
    assert refused(scene.authorities().ForceRevokeAuthority, again).reason == "STATE_NOT_ALLOWED"


def test_what_cannot_be_done_with_an_authority_is_refused_with_its_reason(scene: IssuerScene) -> None:
    stub, active = scene.authorities(), scene.hierarchy.agency.key_id
    broken = lay_ready(scene, "broken", key=False)
    calls: list[tuple[Callable[..., Any], Any, str]] = [
        (stub.PrepareAuthority, authority_pb2.PrepareAuthorityRequest(key_id="0" * 64), "AUTHORITY_UNKNOWN"),
        (stub.PrepareAuthority, authority_pb2.PrepareAuthorityRequest(key_id="x"), "FIELD_INVALID"),
        (stub.PrepareAuthority, authority_pb2.PrepareAuthorityRequest(key_id=active), "STATE_NOT_ALLOWED"),
        (stub.PrepareAuthority, authority_pb2.PrepareAuthorityRequest(key_id=broken.key_id), "AUTHORITY_KEY_UNUSABLE"),
        (stub.ActivateAuthority, activation("0" * 64), "AUTHORITY_UNKNOWN"),
        (stub.ActivateAuthority, activation(active), "STATE_NOT_ALLOWED"),
        (stub.TaintAuthority, authority_pb2.TaintAuthorityRequest(key_id="0" * 64), "AUTHORITY_UNKNOWN"),
        (stub.RetireAuthority, retirement(active), "STATE_NOT_ALLOWED"),
        (stub.RetireAuthority, retirement("0" * 64), "AUTHORITY_UNKNOWN"),
        (stub.RevokeAuthority, revocation_of(active), "STATE_NOT_ALLOWED"),
        (stub.RevokeAuthority, revocation_of("0" * 64), "AUTHORITY_UNKNOWN"),
    ]
    for call, request, reason in calls:
        request.request_id = new_id()
        assert refused(call, request).reason == reason, request
        assert scene.issuer.entries()[-1].reason == reason
    agency = scene.issuer.channel(Kind.AGENCY, "tax/core")
    stranger = authority_pb2.ListAuthoritiesRequest()
    assert refused(authority_pb2_grpc.AuthorityServiceStub(agency).ListAuthorities, stranger).reason == (
        "METHOD_NOT_ALLOWED"
    )


def test_fresh_issuer_takes_the_only_authority_of_a_host_and_lets_an_operator_choose_between_several(
    postgres: EmbeddedPostgres, authority: Authority, tmp_path: Path
) -> None:
    directory = write_authorities(tmp_path / "authorities", authority.hierarchy)
    further = authority.hierarchy.root.issue_issuing_ca(Kind.AGENCY)
    for name, made in (("agency-2", further), ("mesh", authority.hierarchy.mesh)):
        write_authority(directory / name, made)
    with Stage(postgres, authority, tmp_path) as stage:
        registry = stage.start(REGISTRY, operators=["lan", "minh"])
        issuer = stage.start(
            ISSUER,
            authorities_directory=directory,
            authorities_passphrase_file=directory / PASSPHRASE_FILE,
            revocation_list_directory=tmp_path / "lists",
            door_listen="localhost:0",
        )
        wait_until(lambda: len(registry.house.keeper.current.authorities) == 3)
        states = {key_id: one.state.name for key_id, one in registry.house.keeper.current.authorities.items()}
        assert states == {
            authority.hierarchy.operator.key_id: "ACTIVE",
            authority.hierarchy.agency.key_id: "PREPARED",
            further.key_id: "PREPARED",
        }, "the CA of rooms is not the issuer's"
        stub = authority_pb2_grpc.AuthorityServiceStub(issuer.channel(Kind.OPERATOR, "lan"))
        listed = stub.ListAuthorities(authority_pb2.ListAuthoritiesRequest()).authorities
        assert {one.key_id for one in listed} == set(states)
        told = [entry for entry in registry.entries() if entry.method.startswith(SERVICE)]
        actors = {entry.object.rpartition(", by ")[2].partition(", at ")[0] for entry in told}
        assert actors == {"spiffe://mesh.test.npd.example/issuer"}
