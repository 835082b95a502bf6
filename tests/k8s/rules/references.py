"""Rules over references: what a pod mounts, reads or runs as is in the rendering, or an input named in the runbook."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.cli.rooms import names
from tests.k8s.manifests import Json, Keys, Manifests, Workload
from tests.k8s.rules.fault import Fault
from tests.k8s.rules.rooms import object_name

HEADING = "Inputs"
IN_THE_RENDERING = ("Cluster", "ObjectStore", "PersistentVolumeClaim", "ServiceAccount")
_ROW = re.compile(r"^\|(?P<cells>.+)\|\s*$")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Inputs:
    """ConfigMaps, Secrets and others that somebody else makes, as the runbook lists them: (kind, name) -> keys."""

    keys: Mapping[tuple[str, str], frozenset[str]]

    @classmethod
    def read(cls, runbook: Path) -> "Inputs":
        """The table below the heading: name, kind, keys, made by. `<room>` stands for each room. Raises ValueError."""
        text = runbook.read_text(encoding="utf-8")
        section = re.search(rf"^#+ {HEADING}$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
        if section is None:
            raise ValueError(f"{runbook} has no heading {HEADING}")
        found: dict[tuple[str, str], frozenset[str]] = {}
        for line in section[1].splitlines():
            row = _ROW.match(line)
            if row is None or "`" not in row["cells"]:
                continue
            name, kind, keys, maker = (cell.strip() for cell in row["cells"].split("|"))
            if not maker:
                raise ValueError(f"{line}: nobody makes it")
            (pattern,) = _CODE.findall(name)
            for one in (
                [pattern.replace("<room>", object_name(room)) for room in names()] if "<room>" in pattern else [pattern]
            ):
                found[kind, one] = found.get((kind, one), frozenset()) | set(_CODE.findall(keys))
        return cls(found)

    def keys_in(self, manifests: Manifests) -> Keys:
        """Looks up keys in a rendering first, then in what its own objects will make, then here."""
        made = _made(manifests)

        def look(kind: str, name: str) -> frozenset[str]:
            return manifests.keys(kind, name) or made.get((kind, name)) or self.keys.get((kind, name), frozenset())

        return look


def _made(manifests: Manifests) -> dict[tuple[str, str], frozenset[str]]:
    """What controllers make of objects of a rendering: source, the documentation of cert-manager and CloudNativePG."""
    made: dict[tuple[str, str], frozenset[str]] = {}
    for one in manifests.of_kind("Certificate"):
        made["Secret", one.spec["secretName"]] = frozenset({"tls.crt", "tls.key", "ca.crt"})
    for one in manifests.of_kind("Cluster"):
        made["Secret", f"{one.name}-ca"] = frozenset({"ca.crt", "ca.key"})
    for one in manifests.of_kind("Bundle"):
        target = one.spec.get("target", {})
        if "configMap" in target:
            made["ConfigMap", one.name] = frozenset({target["configMap"]["key"]})
    return made


def exist(manifests: Manifests, inputs: Inputs) -> Iterator[Fault]:
    """Everything that a pod or a database names exists, with the keys that are wanted of it."""
    look = inputs.keys_in(manifests)
    for where, kind, name, keys in references(manifests):
        if kind in IN_THE_RENDERING:
            if manifests.get(kind, name) is None:
                yield Fault(where, f"{kind} {name} is not in this rendering")
            continue
        held = look(kind, name)
        if not held and (kind, name) not in inputs.keys:
            yield Fault(where, f"{kind} {name} is neither in this rendering nor an input of the runbook")
            continue
        for key in sorted(keys - held):
            yield Fault(where, f"{kind} {name} has no key {key}")


def issuers_exist(manifests: Manifests, inputs: Inputs) -> Iterator[Fault]:
    """Every certificate's issuer exists, also that which a CSI driver is told to ask."""
    asked = [
        (str(one), one.spec["issuerRef"]["kind"], one.spec["issuerRef"]["name"])
        for one in manifests.of_kind("Certificate")
    ]
    for workload in manifests.workloads():
        for volume in workload.volumes.values():
            told = volume.get("csi", {}).get("volumeAttributes", {})
            if "csi.cert-manager.io/issuer-name" in told:
                kind = told.get("csi.cert-manager.io/issuer-kind", "Issuer")
                asked.append((str(workload), kind, told["csi.cert-manager.io/issuer-name"]))
    for where, kind, name in asked:
        if manifests.get(kind, name) is None and (kind, name) not in inputs.keys:
            yield Fault(where, f"{kind} {name} is neither in this rendering nor an input of the runbook")


def references(manifests: Manifests) -> Iterator[tuple[str, str, str, frozenset[str]]]:
    """(where, kind, name, keys) of every object that a pod, a database or an issuer names; optional ones too."""
    for workload in manifests.workloads():
        yield from ((str(workload), *one) for one in _of_pods(workload))
    for one in manifests.of_kind("Cluster"):
        secret = one.spec.get("bootstrap", {}).get("initdb", {}).get("secret")
        if secret:
            yield str(one), "Secret", secret["name"], frozenset({"username", "password"})
        for plugin in one.spec.get("plugins") or ():
            if "barmanObjectName" in plugin.get("parameters", {}):
                yield str(one), "ObjectStore", plugin["parameters"]["barmanObjectName"], frozenset()
    for one in manifests.of_kind("ObjectStore"):
        for part in one.spec["configuration"].get("s3Credentials", {}).values():
            yield str(one), "Secret", part["name"], frozenset({part["key"]})
    for one in manifests.of_kind("Issuer"):
        if "ca" in one.spec:
            yield str(one), "Secret", one.spec["ca"]["secretName"], frozenset({"tls.crt", "tls.key"})
    for one in manifests.of_kind("ScheduledBackup"):
        yield str(one), "Cluster", one.spec["cluster"]["name"], frozenset()


def _of_pods(workload: Workload) -> Iterator[tuple[str, str, frozenset[str]]]:
    pod = workload.pod
    yield "ServiceAccount", str(pod.get("serviceAccountName", "default")), frozenset()
    for secret in pod.get("imagePullSecrets") or ():
        yield "Secret", secret["name"], frozenset()
    for volume in workload.volumes.values():
        sources = [volume, *(volume.get("projected", {}).get("sources") or ())]
        for source in sources:
            yield from _source(source)
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], frozenset()
    for container in workload.containers:
        for source in container.body.get("envFrom") or ():
            for how, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if how in source:
                    yield kind, source[how]["name"], frozenset()
        for entry in container.body.get("env") or ():
            for how, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if how in entry.get("valueFrom", {}):
                    yield kind, entry["valueFrom"][how]["name"], frozenset({entry["valueFrom"][how]["key"]})


def _source(source: Json) -> Iterator[tuple[str, str, frozenset[str]]]:
    for how, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
        if how in source:
            name = source[how].get("name") or source[how].get("secretName")
            yield kind, str(name), frozenset(item["key"] for item in source[how].get("items") or ())
