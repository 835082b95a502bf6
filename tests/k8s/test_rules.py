"""Every rule over manifests can fail: a broken copy of what is rendered breaks it, and says so."""

from pathlib import Path

import pytest

from services.mesh.core.config import SourceSettings
from tests.k8s.breaking import (
    DOOR,
    ROOM,
    STREAMS,
    Breaking,
    added,
    database,
    job,
    mesh,
    named,
    peer,
    pod,
    policy,
    put,
    room,
    taken,
    told,
    volume,
)
from tests.k8s.manifests import migrations, overlay
from tests.k8s.rules import connections, objects, pods
from tests.k8s.rules.every import OF_EVERY_RENDERING, OF_ROOMS, RUNBOOK, SETTINGS
from tests.k8s.rules.fault import Rule
from tests.k8s.rules.references import Inputs
from tests.k8s.rules.rooms import edges_of_tables

RULES: dict[str, Rule] = {
    **OF_EVERY_RENDERING,
    **OF_ROOMS,
    "valid": lambda manifests: objects.valid(manifests, objects.VERSIONS[-1]),
}
SECURITY = "securityContext"
NAME, COMPONENT = "app~kubernetes~io/name", "app~kubernetes~io/component"
NAMED = {"name": "x"}
ENFORCED = "metadata.labels.pod-security~kubernetes~io/enforce"
CERTIFICATE = {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": NAMED}
BY_NOBODY = {"issuerRef": {"kind": "Issuer", "name": "who"}, "secretName": "s"}
OF_A_CSI_DRIVER = {"driver": "d", "volumeAttributes": {"csi.cert-manager.io/issuer-name": "who"}}
LABELS = {"app.kubernetes.io/name": "sharing", "app.kubernetes.io/component": "room"}
OTHERS_DATABASE = {"podSelector": {"matchLabels": {"cnpg.io/cluster": "npd-issuer-postgres"}}}
CLUSTER = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": "npd-sharing-postgres"}}
OF_A_DATABASE = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "x"},
    "spec": {
        "podSelector": {"matchLabels": {"cnpg.io/cluster": "npd-sharing-postgres"}},
        "ingress": [{"from": [{"namespaceSelector": named("other")}], "ports": [{"port": 5432}]}],
    },
}
STORE = {"barmanObjectName": "x"}
BUDGET = "PodDisruptionBudget"
BROKEN: list[tuple[str, Breaking, str]] = [
    ("valid", room("imagePulPolicy", "Always"), "imagePulPolicy"),
    ("valid", put("Deployment", ROOM, "spec.replicas", "three"), "three"),
    ("valid", added({"apiVersion": "example.org/v1", "kind": "Novelty", "metadata": NAMED}), "Novelty"),
    ("valid", put("HorizontalPodAutoscaler", ROOM, "apiVersion", "autoscaling/v2beta2"), "v2beta2"),
    (
        "no secret",
        added({"apiVersion": "v1", "kind": "Secret", "metadata": NAMED, "data": {"a": "Yg=="}}),
        "plain",
    ),
    (
        "no secret",
        added({"apiVersion": "v1", "kind": "ConfigMap", "metadata": NAMED, "data": {"u": "http://a:b@c/"}}),
        "password",
    ),
    ("no secret", room("env", [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]), "files"),
    ("no secret", room("envFrom", [{"secretRef": {"name": "npd-sharing-keys"}}]), "files"),
    ("whole images", room("image", "npd-mesh"), "tag"),
    ("whole images", room("image", "npd-mesh:latest"), "latest"),
    ("whole images", job("containers.0.image", "npd-mesh:latest"), "latest"),
    ("whole images", room("image", "registry.example:5000/npd-mesh:1"), "registry"),
    ("limits", put("Service", ROOM, "metadata.name", "n" * 64), "longer"),
    ("limits", put("Service", ROOM, f"metadata.labels.{NAME}", "n" * 64), "longer"),
    ("limits", put("Service", ROOM, "metadata.annotations.note", "n" * (256 << 10)), "larger"),
    ("limits", put("Service", ROOM, "metadata.annotations.note", f"{RUNBOOK.parent}/base"), "machine"),
    ("limits", put("Service", STREAMS, "metadata.name", ROOM), "twice"),
    ("one namespace", put("Service", ROOM, "metadata.namespace", "default"), "one is wanted"),
    ("one namespace", put("Service", ROOM, "metadata.namespace", None), "one is wanted"),
    (
        "one namespace",
        put("Namespace", "npd", ENFORCED, "baseline"),
        "enforce",
    ),
    ("one namespace", put("Namespace", "npd", "metadata.name", "other"), "nothing is in it"),
    ("isolated", put("ServiceAccount", ROOM, "automountServiceAccountToken", None), "automount"),
    ("isolated", pod("automountServiceAccountToken", True), "automount"),
    ("isolated", pod("enableServiceLinks", None), "enableServiceLinks"),
    ("isolated", pod("hostNetwork", True), "hostNetwork"),
    ("isolated", pod(f"{SECURITY}.runAsNonRoot", False), "runAsNonRoot"),
    ("isolated", pod(f"{SECURITY}.seccompProfile.type", "Unconfined"), "seccomp"),
    ("isolated", pod("volumes", [{"name": "x", "hostPath": {"path": "/"}}]), "hostPath"),
    ("isolated", pod("volumes", [{"name": "x", "emptyDir": {}}]), "sizeLimit"),
    ("isolated", room(f"{SECURITY}.allowPrivilegeEscalation", True), "Escalation"),
    ("isolated", room(f"{SECURITY}.readOnlyRootFilesystem", None), "readOnly"),
    ("isolated", room(f"{SECURITY}.capabilities.add", ["NET_RAW"]), "capabilities"),
    ("isolated", room(f"{SECURITY}.privileged", True), "privileged"),
    ("isolated", room("ports.0.hostPort", 7000), "hostPort"),
    ("isolated", job(f"containers.0.{SECURITY}", {}), "readOnly"),
    ("isolated", pod("initContainers", [{"name": "first", "image": "x:1"}]), "first"),
    ("the image's user", pod(f"{SECURITY}.runAsUser", 1000), "runAsUser"),
    ("the image's user", pod(f"{SECURITY}.fsGroup", None), "fsGroup"),
    ("secrets closed", pod(f"volumes.{volume('keys')}.secret.defaultMode", 0o444), "0440"),
    ("secrets closed", pod(f"volumes.{volume('tls')}.projected.defaultMode", None), "0440"),
    ("secrets closed", room("volumeMounts.0.readOnly", None), "read-only"),
    ("secrets closed", room("volumeMounts.0.subPath", "tls.crt"), "subPath"),
    ("resources", room("resources", {}), "requests"),
    ("resources", room("resources.limits.cpu", "2"), "limits"),
    ("resources", room("resources.requests.memory", "1Mi"), "not those"),
    ("resources", job("containers.0.resources", {}), "requests"),
    ("resources", put("Deployment", STREAMS, "metadata.name", "npd-sharing-new"), "never measured"),
    ("probed", pod("containers.1", {"name": "web", "image": "x:1"}), "web"),
    ("probed", room("readinessProbe", None), "readinessProbe"),
    ("probed", room("livenessProbe.httpGet.path", "/readyz"), "livenessProbe"),
    ("probed", room("startupProbe.httpGet.port", "grpc"), "startupProbe"),
    ("named ports", room("ports.0.containerPort", 7001), "7001"),
    ("named ports", told("NPD_LISTEN", "127.0.0.1:7000"), "alone"),
    ("named ports", told("NPD_DOOR_LISTEN", None, DOOR), "door"),
    ("command exists", room("command", ["/bin/sh"]), "entry point"),
    ("command exists", room("args", ["server", "sharing"]), "no command"),
    ("command exists", room("args", ["serve", "sharing", "--quick"]), "--quick"),
    ("command exists", job("containers.0.args", ["migrate", "registry", "--operator"]), "--operator"),
    ("command exists", room("args", ["serve", "shares"]), "no room"),
    ("command exists", job("containers.0.args", []), "no command"),
    ("labelled", put("Deployment", ROOM, f"spec.template.metadata.labels.{NAME}", "share"), "the pods"),
    ("labelled", put("Deployment", ROOM, "metadata.labels.app~kubernetes~io/part-of", None), "the object"),
    ("labelled", put("Deployment", ROOM, f"metadata.labels.{COMPONENT}", "main"), "component"),
    (
        "labelled",
        put("Deployment", ROOM, f"spec.template.metadata.labels.{COMPONENT}", "migration"),
        "does not say",
    ),
    ("labelled", put("Deployment", ROOM, f"spec.selector.matchLabels.{COMPONENT}", None), "chooses"),
    ("spread", pod("topologySpreadConstraints", []), "spread"),
    ("spread", pod("topologySpreadConstraints.0.labelSelector", {}), "own pods"),
    ("spread", pod("topologySpreadConstraints.0.matchLabelKeys", []), "other workloads"),
    ("ends in time", pod("terminationGracePeriodSeconds", 30), "needs more"),
    ("ends in time", told("NPD_STOP_GRACE", "PT45S"), "needs more"),
    ("ends in time", told("NPD_DRAIN_DELAY", "PT0S"), "heard"),
    ("ends in time", told("NPD_MAX_CONNECTION_AGE", None), "not stated"),
    ("settings loaded", told("NPD_SHARING_PORT", "tcp://10.0.0.1:7000"), "NPD_SHARING_PORT"),
    ("settings loaded", told("NPD_ENVIRONMENT", None), "NPD_ENVIRONMENT"),
    ("settings loaded", told("NPD_DRAIN_DELAY", "soon"), "NPD_DRAIN_DELAY"),
    ("settings loaded", told("NPD_DOOR_LISTEN", "0.0.0.0:7100"), "NPD_DOOR_LISTEN"),
    ("settings loaded", job("containers.0.env.0.name", "NPD_DATABASE_URI_FILE"), "NPD_DATABASE_URI_FILE"),
    ("files mounted", told("NPD_CHECKPOINT_KEY_FILE", "/etc/npd/keys/check.key"), "check.key"),
    ("files mounted", told("NPD_POLICY_DIRECTORY", "/etc/npd/policy"), "written"),
    ("files mounted", told("NPD_POLICY_DIRECTORY", "/app/policy"), "root"),
    ("files mounted", told("NPD_TLS_DIRECTORY", "/etc/npd/certificates"), "no file"),
    ("files mounted", pod(f"volumes.{volume('tls')}.projected.sources.1", {"secret": {"name": "x"}}), "ca.crt"),
    ("files mounted", told("NPD_AUTHORITIES_DIRECTORY", "/etc/npd/authority", DOOR), "no file"),
    ("files mounted", job("volumes", []), "NPD_DATABASE_URL_FILE"),
    ("own database", database("npd_sharing@", "npd_sharing:secret@"), "password"),
    ("own database", database("/npd_sharing?", "/npd_issuer?"), "npd_sharing's own"),
    ("own database", database("verify-full", "require"), "sslmode"),
    ("own database", database("/database/ca.crt", "/database/root.crt"), "sslrootcert"),
    (
        "own database",
        lambda whole: added(CLUSTER)(database("@npd-sharing-postgres-rw", "@npd-issuer-postgres-rw")(whole)),
        "own cluster",
    ),
    ("own database", pod(f"volumes.{volume('database')}.projected.sources.0.configMap.name", "x"), "not here"),
    ("references exist", pod("serviceAccountName", "default"), "ServiceAccount default"),
    ("references exist", room("envFrom.0.configMapRef.name", "npd-common"), "ConfigMap npd-common"),
    ("references exist", pod(f"volumes.{volume('keys')}.secret.secretName", "npd-key"), "Secret npd-key"),
    ("references exist", pod(f"volumes.{volume('tls')}.projected.sources.0.secret.items.0.key", "leaf"), "no key leaf"),
    ("references exist", added({**CLUSTER, "spec": {"bootstrap": {"initdb": {"secret": NAMED}}}}), "Secret x"),
    ("references exist", added({**CLUSTER, "spec": {"plugins": [{"parameters": STORE}]}}), "ObjectStore x"),
    ("references exist", pod("imagePullSecrets", [{"name": "pull"}]), "Secret pull"),
    ("references exist", pod("volumes", [{"name": "x", "persistentVolumeClaim": {"claimName": "y"}}]), "Claim y"),
    (
        "issuers exist",
        pod("volumes", [{"name": "x", "csi": OF_A_CSI_DRIVER}]),
        "Issuer who",
    ),
    (
        "issuers exist",
        added({**CERTIFICATE, "spec": BY_NOBODY}),
        "Issuer who",
    ),
    ("dialled", told("NPD_REGISTRY_ADDRESS", "npd-registry:7000"), "dns:///"),
    ("dialled", told("NPD_REGISTRY_ADDRESS", "dns:///npd-registrar:7000"), "no Service"),
    ("dialled", told("NPD_REGISTRY_ADDRESS", "dns:///npd-registry:7001"), "no port"),
    ("dialled", told("NPD_REGISTRY_ADDRESS", "dns:///npd-identity:7000"), "not to registry"),
    ("dialled", told("NPD_REGISTRY_ADDRESS", None), "not stated"),
    ("dialled", put("Service", "npd-registry", "spec.clusterIP", None), "headless"),
    ("replicated", put("Deployment", ROOM, "spec.replicas", 3), "autoscaler"),
    ("replicated", put("Deployment", STREAMS, "spec.replicas", None), "autoscaler"),
    ("replicated", put("Deployment", STREAMS, "spec.replicas", 1), "one replica"),
    ("replicated", put("HorizontalPodAutoscaler", ROOM, "spec.minReplicas", 1), "one replica"),
    ("replicated", put("HorizontalPodAutoscaler", ROOM, "spec.scaleTargetRef.name", "npd-share"), "not here"),
    ("replicated", put("Deployment", ROOM, "spec.strategy.rollingUpdate.maxUnavailable", 1), "maxUnavailable"),
    ("drained", put(BUDGET, ROOM, "spec.maxUnavailable", 0), "blocks"),
    (
        "drained",
        put(BUDGET, ROOM, "spec", {"minAvailable": 3, "selector": {"matchLabels": LABELS}}),
        "blocks",
    ),
    ("drained", put(BUDGET, ROOM, "spec.maxUnavailable", "10%"), "percentage"),
    (
        "drained",
        put(BUDGET, ROOM, f"spec.selector.matchLabels.{NAME}", "share"),
        "0 work",
    ),
    (
        "drained",
        put(BUDGET, ROOM, f"spec.selector.matchLabels.{COMPONENT}", None),
        "is of 3",
    ),
    ("drained", taken(BUDGET, ROOM), "0 budgets"),
    ("found", put("Service", ROOM, f"spec.selector.{COMPONENT}", "rooms"), "0 workloads"),
    ("found", put("Service", ROOM, f"spec.selector.{COMPONENT}", None), "workloads"),
    ("found", put("Service", ROOM, "spec.ports.0.targetPort", 7000), "no named port"),
    ("found", taken("Service", ROOM), "headless"),
    ("edges are the tables'", told("NPD_IDENTITY_ADDRESS", None, "npd-civil-status"), "nothing dials it"),
    (
        "edges are the tables'",
        told("NPD_REGISTRY_ADDRESS", "dns:///npd-residence:7000"),
        "dialled, but not in the method table",
    ),
    ("closed by default", taken("NetworkPolicy", "default-deny"), "none closes"),
    ("closed by default", policy("default-deny", "policyTypes", ["Ingress"]), "none closes"),
    ("closed by default", policy("default-deny", "ingress", [{}]), "way in"),
    ("names resolved", policy("default-deny", "egress", []), "by UDP"),
    ("names resolved", policy("default-deny", "egress.0.ports", [{"protocol": "UDP", "port": 53}]), "by TCP"),
    ("connections", peer("npd-sharing", "ingress", mesh("issuer"), "grpc"), "npd-issuer -> npd-sharing:7000"),
    ("connections", peer("npd-sharing", "egress", mesh("identity"), "grpc"), "npd-sharing -> npd-identity:7000"),
    ("connections", peer("npd-residence", "egress", {"podSelector": {}}, 7000), "nobody needs it"),
    ("connections", peer("npd-registry", "ingress", mesh("identity"), "health"), "npd-registry:7080"),
    (
        "connections",
        peer("npd-issuer", "ingress", {"namespaceSelector": named("npd")}, "grpc"),
        "npd-sharing -> npd-issuer:7000",
    ),
    ("connections", policy("npd-registry", "ingress", []), "ingress is closed"),
    ("connections", policy("npd-identity", "egress", []), "egress is closed"),
    ("connections", taken("NetworkPolicy", "npd-identity"), "npd-identity"),
    ("connections", policy("npd-residence", "policyTypes", ["Ingress"]), "npd-residence -> npd-registry"),
    (
        "connections",
        peer("npd-sharing", "egress", OTHERS_DATABASE, 5432),
        "npd-sharing -> npd-issuer-postgres:5432",
    ),
    (
        "connections",
        peer("npd-migrate-sharing", "egress", mesh("registry"), "grpc"),
        "npd-migrate-sharing -> npd-registry:7000",
    ),
    ("connections", policy("npd-sharing-postgres", "ingress", []), "npd-sharing-postgres:5432: ingress is closed"),
    ("clusters connected", policy("npd-sharing-postgres", "ingress", []), "replicate: ingress"),
    ("clusters connected", policy("npd-sharing-postgres", "egress", []), "replicate: egress"),
    ("clusters connected", policy("npd-postgres-operator", "ingress", []), "operator"),
    ("clusters connected", policy("npd-postgres-operator", "egress", []), "Kubernetes API"),
    ("strangers", peer("npd-sharing", "egress", {"ipBlock": {"cidr": "0.0.0.0/0"}}, 443), "none of the mesh's"),
    ("strangers", peer("npd-sharing", "ingress", {"ipBlock": {"cidr": "10.0.0.0/8"}}, "health"), "health"),
    ("strangers", peer("npd-sharing", "ingress", {"namespaceSelector": {}}, "grpc"), "every namespace"),
    ("strangers", peer("npd-sharing", "ingress", {"podSelector": {}}, "grpc"), "every pod"),
    ("strangers", policy("default-deny", "egress.0.ports.0.port", 5353), "5353"),
    ("strangers", peer("npd-sharing", "ingress", {"namespaceSelector": named("monitoring")}, "grpc"), "monitoring"),
    ("strangers", peer("npd-sharing", "egress", {"namespaceSelector": named("other")}, "grpc"), "none of the mesh's"),
    ("strangers", peer("npd-migrate-sharing", "ingress", {"ipBlock": {"cidr": "10.0.0.0/8"}}, 1), "nothing to say"),
    ("strangers", added(OF_A_DATABASE), "no business"),
    ("strangers", policy("npd-sharing", "ingress", [{}]), "open to everybody"),
    ("strangers", policy("npd-sharing", f"podSelector.matchLabels.{NAME}", "share"), "selects nothing"),
]


@pytest.mark.parametrize(("rule", "breaking", "said"), BROKEN, ids=[f"{rule}: {said}" for rule, _, said in BROKEN])
def test_broken_manifests_break_the_rule(rule: str, breaking: Breaking, said: str) -> None:
    whole = overlay("prod") + migrations("prod")
    before = set(map(str, RULES[rule](whole)))
    new = [fault for fault in map(str, RULES[rule](breaking(whole))) if fault not in before]
    assert new
    assert any(said in fault for fault in new), new


def test_every_rule_is_broken_once() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_image_that_runs_something_else_as_somebody_else_is_found(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text('USER 1000:1000\nENTRYPOINT ["/bin/sh", "-c"]\n', encoding="utf-8")
    whole = overlay("prod")
    assert [str(fault) for fault in pods.command_exists(whole, dockerfile)] == [
        "Dockerfile: ENTRYPOINT ['/bin/sh', '-c'] is not npd"
    ]
    assert len([*pods.as_the_images_user(whole, dockerfile)]) == 3 * len(whole.workloads())


def test_table_that_nobody_uses_and_address_that_nobody_admits_are_found() -> None:
    class Deaf(SourceSettings):
        """civil_status without the address of identity, with that of a room that it has no business with."""

        issuer_address: str

    faults = [*map(str, connections.tables_are_used({**SETTINGS, "civil_status": Deaf}))]
    assert faults == [
        "civil_status -> issuer: an address of a room whose table does not admit this one",
        "civil_status -> identity: a table names a room that has no such address",
    ]


def test_edges_of_the_mesh_are_those_of_its_picture() -> None:
    sources = ("civil_status", "identity", "residence")
    to_registry = {(name, "registry") for name in (*sources, "sharing", "issuer")}
    assert edges_of_tables() == {*to_registry, *((name, "sharing") for name in sources), ("civil_status", "identity")}


def test_rendering_itself_is_not_changed_by_a_broken_copy() -> None:
    whole = overlay("prod")
    room("image", "npd-mesh")(whole)
    assert whole.workload(ROOM).containers[0].image != "npd-mesh"


def test_runbook_names_its_inputs_in_a_table() -> None:
    inputs = Inputs.read(RUNBOOK)
    assert inputs.keys["Secret", "npd-civil-status-tls"] == {"tls.crt", "tls.key"}
    assert {"checkpoint.key", "pseudonym.key", "policy.key"} <= inputs.keys["Secret", "npd-registry-keys"]
