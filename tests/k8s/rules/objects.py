"""Rules over every object: valid, of a known kind, without secrets, with whole image names, within the API's limits."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import kubernetes_validate
from kubernetes_validate.utils import all_versions

from tests.k8s.manifests import Manifests
from tests.k8s.rules.fault import Fault

# Kinds that a cluster has only after somebody installed them, and of which no schema is here: a further one is a
# decision, and a line in the runbook.
CUSTOM = {
    ("barmancloud.cnpg.io", "ObjectStore"),
    ("cert-manager.io", "Certificate"),
    ("cert-manager.io", "Issuer"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
    ("gateway.networking.k8s.io", "TLSRoute"),
    ("monitoring.coreos.com", "PodMonitor"),
    ("monitoring.coreos.com", "PrometheusRule"),
    ("postgresql.cnpg.io", "Cluster"),
    ("postgresql.cnpg.io", "ScheduledBackup"),
    ("trust.cert-manager.io", "Bundle"),
}
CLUSTER_WIDE = {"Bundle", "ClusterIssuer", "Namespace"}
# The three newest that the tool has schemas for; `make lock` may move them.
VERSIONS = tuple(sorted(set(all_versions()), key=lambda version: tuple(map(int, version.split(".")))))[-3:]
RESTRICTED = "restricted"

_NAME, _LABEL = 63, 63
_ANNOTATIONS = 256 << 10  # also what `kubectl apply` keeps of an object in an annotation
_SECRET_TEXT = re.compile(r"PRIVATE KEY|\w+://[^/\s:@]+:[^/\s@]+@")
_HERE = re.compile(rf"(?<![\w/]){re.escape(str(Path(__file__).resolve().parents[3]))}(?![\w-])")


def valid(manifests: Manifests, version: str) -> Iterator[Fault]:
    """Every object is valid for a version of Kubernetes, without a field unknown to it, or of a kind in CUSTOM."""
    for one in manifests:
        if (one.group, one.kind) in CUSTOM:
            continue
        if problem := _invalid(json.dumps(one.body), version):
            yield Fault(str(one), f"Kubernetes {version}: {problem}")


@cache
def _invalid(body: str, version: str) -> str:
    """What is wrong with an object, empty if nothing; once for objects that the overlays share."""
    try:
        kubernetes_validate.validate(json.loads(body), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return str(error.message)
    return ""


def no_secret(manifests: Manifests) -> Iterator[Fault]:
    """No object holds a secret: they are made by others, and reach a room as files."""
    for one in manifests:
        if one.kind == "Secret" and (one.body.get("data") or one.body.get("stringData")):
            yield Fault(str(one), "a secret in plain text")
        if _SECRET_TEXT.search(json.dumps(one.body, ensure_ascii=False)):
            yield Fault(str(one), "holds a key or a URL with a password")
    for workload in manifests.workloads():
        for container in workload.containers:
            for entry in container.body.get("env") or ():
                if "secretKeyRef" in entry.get("valueFrom", {}):
                    yield Fault(str(workload), f"{entry['name']} puts a secret into the environment; secrets are files")
            for source in container.body.get("envFrom") or ():
                if "secretRef" in source:
                    yield Fault(str(workload), "puts a Secret into the environment; secrets are files")


def whole_images(manifests: Manifests) -> Iterator[Fault]:
    """Every image has a tag that is not `latest`, or a digest, and ours names no registry: an overlay's owner does."""
    for workload in manifests.workloads():
        for container in workload.containers:
            name, _, digest = container.image.partition("@")
            host, _, rest = name.rpartition("/")
            tag = rest.partition(":")[2]
            if not (digest or tag) or tag == "latest":
                yield Fault(str(workload), f"{container.image}: an image needs a tag other than latest, or a digest")
            if host:
                yield Fault(str(workload), f"{container.image}: names a registry")


def limits(manifests: Manifests) -> Iterator[Fault]:
    """Names, labels and sizes are what the API takes, and nothing is of the machine that rendered them."""
    seen = set()
    for one in manifests:
        if len(one.name) > _NAME:
            yield Fault(str(one), f"a name longer than {_NAME}")
        for name, value in one.labels.items():
            if len(value) > _LABEL:
                yield Fault(str(one), f"the label {name} is longer than {_LABEL}")
        text = json.dumps(one.body, ensure_ascii=False)
        if len(text.encode()) >= _ANNOTATIONS:
            yield Fault(str(one), f"larger than the {_ANNOTATIONS} bytes that `kubectl apply` can keep of it")
        if _HERE.search(text):
            yield Fault(str(one), "names a directory of the machine that rendered it")
        if (one.kind, one.name, one.namespace) in seen:
            yield Fault(str(one), "stands here twice")
        seen.add((one.kind, one.name, one.namespace))


def one_namespace(manifests: Manifests) -> Iterator[Fault]:
    """All objects are in one namespace; if it is among them, Pod Security is enforced in it."""
    names = {one.namespace for one in manifests if one.kind not in CLUSTER_WIDE}
    if len(names) != 1 or "" in names:
        yield Fault("namespaces", f"one is wanted, not {sorted(names)}")
    for one in manifests.of_kind("Namespace"):
        if one.name not in names:
            yield Fault(str(one), "nothing is in it")
        for mode in ("enforce", "warn", "audit"):
            if one.labels.get(f"pod-security.kubernetes.io/{mode}") != RESTRICTED:
                yield Fault(str(one), f"pod-security.kubernetes.io/{mode} must be {RESTRICTED}")
