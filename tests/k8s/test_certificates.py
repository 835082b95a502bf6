"""What the components for certificates and the way in ask for: leaves that rooms take, names that are dialled."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from npd_pki.identity import mesh_uri, require_host_name
from npd_pki.profile import ROOM_TLS
from services.cli.rooms import discover
from services.issuer.app import Settings as IssuerSettings
from tests.k8s.manifests import K8S, Manifests, Workload, render

ENVIRONMENT = "other.npd.example"
CERT_MANAGER, CSI = "certificates-cert-manager", "certificates-csi"
BALANCER, GATEWAY = "way-in-load-balancer", "way-in-gateway"
_DRIVER = "csi.cert-manager.io"
_USAGES = {"digital signature", "server auth", "client auth"}
_HOURS = re.compile(r"(\d+)h")
_DOCUMENTATION = {"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"}  # RFC 5737


@pytest.fixture(scope="module", params=[(CERT_MANAGER, BALANCER), (CSI, GATEWAY)], ids=[CERT_MANAGER, CSI])
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """The rooms of an environment that chose these components."""
    return chosen(tmp_path_factory.mktemp("overlay").resolve(), "revocation-lists", *request.param)


def chosen(directory: Path, *components: str) -> Manifests:
    """An overlay that states its environment where every overlay does, once."""
    here = os.path.relpath(K8S, directory)
    kustomization = {
        "namespace": "npd-other",
        "resources": [f"{here}/base"],
        "components": [f"{here}/components/{component}" for component in components],
        "configMapGenerator": [
            {"name": "npd-common", "behavior": "merge", "literals": [f"NPD_ENVIRONMENT={ENVIRONMENT}"]}
        ],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(directory)


def rooms(manifests: Manifests) -> tuple[Workload, ...]:
    """The workloads that serve."""
    return tuple(one for one in manifests.workloads() if one.containers[0].args[:1] == ("serve",))


def leaf_of(manifests: Manifests, workload: Workload) -> tuple[str, set[str]]:
    """The URI and the DNS names of the leaf that a workload's pods mount."""
    volume = workload.volumes["tls"]
    if "csi" in volume:
        told = volume["csi"]["volumeAttributes"]
        return told[f"{_DRIVER}/uri-sans"], set(told[f"{_DRIVER}/dns-names"].split(","))
    (secret,) = (source["secret"]["name"] for source in volume["projected"]["sources"] if "secret" in source)
    (spec,) = (one.spec for one in manifests.of_kind("Certificate") if one.spec["secretName"] == secret)
    (uri,) = spec["uris"]
    return uri, set(spec["dnsNames"])


def selected(manifests: Manifests, labels: Mapping[str, str]) -> set[str]:
    """The workloads whose pods have all these labels."""
    return {one.name for one in manifests.workloads() if labels.items() <= one.labels.items()}


def test_every_workload_mounts_a_leaf_of_its_room(rendered: Manifests) -> None:
    served = set()
    for workload in rooms(rendered):
        room = workload.containers[0].args[1]
        uri, names = leaf_of(rendered, workload)
        assert uri == mesh_uri(ENVIRONMENT, room)
        assert {require_host_name(name) for name in names} == names
        served.add(room)
    assert served == {room.name for room in discover()}


def test_a_leaf_has_the_name_by_which_its_workload_is_dialled_inside(rendered: Manifests) -> None:
    for workload in rooms(rendered):
        assert workload.name in leaf_of(rendered, workload)[1]
        assert rendered.find("Service", workload.name).spec["clusterIP"] == "None"


def test_leaves_are_asked_for_by_the_profile_of_rooms(rendered: Manifests) -> None:
    """Renewed while more than half of the life is left, for alarms go off at half."""
    asked = [
        (set(one.spec["usages"]), one.spec["duration"], one.spec["renewBefore"], one.spec["privateKey"])
        for one in rendered.of_kind("Certificate")
    ]
    for workload in rooms(rendered):
        told = workload.volumes["tls"].get("csi", {}).get("volumeAttributes", {})
        told = {name.removeprefix(f"{_DRIVER}/"): value for name, value in told.items()}
        if told:
            key = {"algorithm": told["key-algorithm"], "size": int(told["key-size"]), "encoding": told["key-encoding"]}
            key["rotationPolicy"] = "Always" if told["reuse-private-key"] == "false" else "Never"
            asked.append((set(told["key-usages"].split(",")), told["duration"], told["renew-before"], key))
    assert asked
    for usages, duration, renew_before, key in asked:
        assert usages == _USAGES
        assert _hours(duration) <= ROOM_TLS.longest_life
        assert _hours(duration) / 2 < _hours(renew_before) < _hours(duration)
        assert key == {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"}


def test_the_driver_lends_its_files_to_the_pods_group(rendered: Manifests) -> None:
    for workload in rooms(rendered):
        csi = workload.volumes["tls"].get("csi")
        if csi is None:
            continue
        assert csi["readOnly"] is True
        assert csi["volumeAttributes"][f"{_DRIVER}/fs-group"] == str(workload.pod["securityContext"]["fsGroup"])


def test_the_roots_are_those_of_npd_roots(rendered: Manifests) -> None:
    """And never the ca.crt that comes with a leaf, which is the issuing CA's."""
    for workload in rooms(rendered):
        container = workload.containers[0]
        told = rendered.environment(container)
        roots = told.get("NPD_ROOTS_FILE", f"{told['NPD_TLS_DIRECTORY']}/ca.crt")
        (file,) = (one for one in rendered.files(workload, container) if str(one.path) == roots)
        assert (file.kind, file.name, file.key) == ("ConfigMap", "npd-roots", "ca.crt")


def test_nothing_is_left_to_be_filled_in(rendered: Manifests) -> None:
    for one in rendered:
        assert not re.search(r"\bENVIRONMENT\b|\bMESH\b|[A-Z]+,npd-", yaml.safe_dump(dict(one.body)))
    assert rendered.get("ConfigMap", "npd-certificate-names") is None


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """Rooms behind load balancers."""
    return chosen(tmp_path_factory.mktemp("balanced").resolve(), "revocation-lists", CERT_MANAGER, BALANCER)


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """Rooms behind a gateway."""
    return chosen(tmp_path_factory.mktemp("routed").resolve(), "revocation-lists", CERT_MANAGER, GATEWAY)


def test_every_workload_has_a_load_balancer_that_keeps_the_source_address(balanced: Manifests) -> None:
    led = set()
    for service in balanced.of_kind("Service"):
        if service.spec.get("type") != "LoadBalancer":
            continue
        (workload,) = selected(balanced, service.spec["selector"])
        (port,) = service.spec["ports"]
        ports = {name for one in balanced.workload(workload).containers for name in one.ports}
        assert port["targetPort"] in ports
        assert service.spec["externalTrafficPolicy"] == "Local"
        assert service.spec["allocateLoadBalancerNodePorts"] is False
        assert not service.spec.get("publishNotReadyAddresses"), "a load balancer cannot ask a pod for its health"
        if service.name != "npd-crl":
            assert set(service.spec["loadBalancerSourceRanges"]) <= _DOCUMENTATION
            assert (port["port"], service.name) == (443, f"{workload}-outside")
            led.add(workload)
    assert led == {one.name for one in rooms(balanced)}


def test_nobody_gets_in_before_the_overlay_says_who(balanced: Manifests) -> None:
    """The lists, which are public, excepted."""
    blocks = [
        (policy.name, peer["ipBlock"]["cidr"])
        for policy in balanced.of_kind("NetworkPolicy")
        for rule in policy.spec.get("ingress") or ()
        for peer in rule.get("from") or ()
        if "ipBlock" in peer
    ]
    assert {cidr for name, cidr in blocks if name != "npd-crl"} <= _DOCUMENTATION
    assert {name for name, _ in blocks} == {"npd-way-in", "npd-way-in-door", "npd-crl"}


def test_every_route_leads_to_a_workload_whose_leaf_has_the_name(routed: Manifests) -> None:
    led = set()
    for route in routed.of_kind("TLSRoute"):
        (hostname,) = route.spec["hostnames"]
        (backend,) = route.spec["rules"][0]["backendRefs"]
        service = routed.find("Service", backend["name"])
        (workload,) = selected(routed, service.spec["selector"])
        assert hostname in leaf_of(routed, routed.workload(workload))[1]
        assert backend["port"] in {port["port"] for port in service.spec["ports"]}
        assert not service.spec.get("publishNotReadyAddresses"), "a gateway cannot ask a pod for its health"
        led.add(workload)
    assert led == {one.name for one in rooms(routed)}


def test_the_gateway_passes_tls_through_and_the_lists_in_the_clear(routed: Manifests) -> None:
    (gateway,) = routed.of_kind("Gateway")
    listeners = {one["name"]: one for one in gateway.spec["listeners"]}
    assert listeners["rooms"]["tls"] == {"mode": "Passthrough"}
    assert listeners["rooms"]["hostname"] == f"*.{ENVIRONMENT}"
    (lists,) = routed.of_kind("HTTPRoute")
    assert lists.spec["hostnames"] == [listeners["revocation-lists"]["hostname"]] == [f"crl.{ENVIRONMENT}"]
    assert routed.find("Service", "npd-crl").spec["ports"][0]["port"] == 80


def test_behind_a_gateway_all_callers_of_the_door_share_one_address(routed: Manifests) -> None:
    """So the limit for one address must not be lower than that for all."""
    door = routed.workload("npd-issuer-door")
    told = routed.environment(door.containers[0])
    overall = IssuerSettings.model_fields["door_limit"].default
    assert int(told["NPD_DOOR_ADDRESS_LIMIT"]) == int(told.get("NPD_DOOR_LIMIT", overall))


def test_lists_are_served_from_where_the_issuer_writes_them(routed: Manifests) -> None:
    door = routed.workload("npd-issuer-door")
    room, web = door.containers
    written = {str(path): mount["name"] for path, mount in room.mounts.items()}
    served = {str(path): mount for path, mount in web.mounts.items()}
    told = routed.environment(room)
    assert served["/lists"]["name"] == written[told["NPD_REVOCATION_LIST_DIRECTORY"]]
    assert served["/lists"]["readOnly"] is True
    assert {mount["name"] for mount in served.values()}.isdisjoint({"keys", "tls", "authorities", "passphrase"})


def _hours(text: str) -> timedelta:
    matched = _HOURS.fullmatch(text)
    assert matched
    return timedelta(hours=int(matched[1]))


def test_the_bundle_is_npd_roots_in_the_namespaces_of_the_mesh(rendered: Manifests) -> None:
    """trust-manager names the ConfigMap like the Bundle, which is of the cluster and therefore in no overlay."""
    (bundle,) = render(K8S / "components" / CERT_MANAGER / "roots").objects
    assert (bundle.name, bundle.namespace) == ("npd-roots", "")
    assert bundle.spec["target"]["configMap"]["key"] == "ca.crt"
    assert not any("useDefaultCAs" in source for source in bundle.spec["sources"])
    (namespace,) = rendered.of_kind("Namespace")
    assert bundle.spec["target"]["namespaceSelector"]["matchLabels"].items() <= namespace.labels.items()
