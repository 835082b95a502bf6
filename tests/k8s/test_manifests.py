"""The rendered overlays keep our rules, which tests/k8s/test_rules.py shows to be able to fail."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.k8s.manifests import K8S, OVERLAYS, Manifests, migrations, overlay, render
from tests.k8s.rules import connections, objects, pods, references
from tests.k8s.rules.every import INPUTS, OF_EVERY_RENDERING, OF_ROOMS, SETTINGS
from tests.k8s.rules.references import HEADING
from tests.k8s.rules.rooms import serves, serving


def of_component(name: str, directory: Path) -> Manifests:
    """The rooms with one component that no overlay has: some environment may choose it."""
    here = os.path.relpath(K8S, directory.resolve())
    chosen = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "npd",
        "resources": [f"{here}/base"],
        "components": [f"{here}/components/{name}"],
        "configMapGenerator": [
            {"name": "npd-common", "behavior": "merge", "literals": ["NPD_ENVIRONMENT=other.npd.gov.vn"]}
        ],
        "images": [{"name": "npd-mesh", "newTag": "0.1.0"}],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    return render(directory.resolve())


def components_of(overlay_name: str) -> set[str]:
    """The components that an overlay names."""
    text = (K8S / "overlays" / overlay_name / "kustomization.yaml").read_text(encoding="utf-8")
    return {Path(place).name for place in yaml.safe_load(text).get("components", ())}


COMPONENTS = {path.parent.name for path in (K8S / "components").glob("*/kustomization.yaml")}
# Kustomizations that are neither overlays nor parts of them.
BESIDE = {
    str(path.parent.relative_to(K8S))
    for path in K8S.rglob("kustomization.yaml")
    if yaml.safe_load(path.read_text(encoding="utf-8"))["kind"] == "Kustomization"
    and not {"overlays", "base", "migrations"} & {*path.parent.relative_to(K8S).parts}
}
# Rules that ask what else is there.
WITH_THE_REST = (
    "references exist",
    "names resolved",
    "connections",
    "strangers",
    "clusters connected",
    "one namespace",
)
NOT_CHOSEN = sorted(COMPONENTS - set().union(*map(components_of, OVERLAYS)))


@pytest.fixture(scope="module")
def optional(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Manifests]:
    """The rooms with each component that no overlay has."""
    return {name: of_component(name, tmp_path_factory.mktemp(name)) for name in NOT_CHOSEN}


@pytest.mark.parametrize("rule", [*OF_EVERY_RENDERING, *OF_ROOMS])
@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_keeps_the_rule(name: str, rule: str) -> None:
    assert [*map(str, {**OF_EVERY_RENDERING, **OF_ROOMS}[rule](overlay(name)))] == []


@pytest.mark.parametrize("rule", OF_EVERY_RENDERING)
@pytest.mark.parametrize("name", OVERLAYS)
def test_migrations_keep_the_rule_before_there_is_a_room(name: str, rule: str) -> None:
    assert [*map(str, OF_EVERY_RENDERING[rule](migrations(name)))] == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_rooms_and_migrations_are_closed_and_connected_together(name: str) -> None:
    both = overlay(name) + migrations(name)
    rules = (connections.exactly_the_wanted, connections.strangers, connections.names_resolved, pods.labelled)
    assert [str(fault) for rule in rules for fault in rule(both)] == []


@pytest.mark.parametrize("version", objects.VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_is_valid_for_kubernetes(name: str, version: str) -> None:
    # what the overlays differ by is no matter of the schema: an object that they share is looked at once
    everything = (overlay(name) + migrations(name)).in_namespace("npd")
    assert [*map(str, objects.valid(everything, version))] == []


@pytest.mark.parametrize("component", NOT_CHOSEN)
def test_component_that_no_overlay_has_keeps_the_rules(component: str, optional: Mapping[str, Manifests]) -> None:
    rules = {**OF_EVERY_RENDERING, **OF_ROOMS}
    rendered = optional[component]
    assert [f"{name}: {fault}" for name, rule in rules.items() for fault in rule(rendered)] == []
    assert [*map(str, objects.valid(rendered, objects.VERSIONS[-1]))] == []


def test_addresses_of_peers_and_method_tables_agree() -> None:
    assert [*map(str, connections.tables_are_used(SETTINGS))] == []


def test_three_versions_of_kubernetes_are_looked_at() -> None:
    minors = [int(version.split(".")[1]) for version in objects.VERSIONS]
    assert minors == list(range(minors[0], minors[0] + 3))


def test_every_overlay_and_its_migrations_are_looked_at() -> None:
    places = {str(path.parent.relative_to(K8S)) for path in (K8S / "overlays").rglob("kustomization.yaml")}
    assert places == {f"overlays/{name}{below}" for name in OVERLAYS for below in ("", "/migrations")}
    for name in OVERLAYS:
        served = [one.name for one in overlay(name).workloads() if serves(one)]
        assert {"npd-registry", "npd-sharing", "npd-sharing-streams", "npd-issuer-door"} <= set(served)
        assert len(migrations(name).workloads()) == 6


def test_prod_keeps_real_people_apart() -> None:
    for name, synthetic in (("prod", False), ("sandbox", True), ("dev", True)):
        manifests = overlay(name)
        told = [manifests.environment(container) for one in manifests.workloads() for container in serving(one)]
        assert {"NPD_SANDBOX" in each for each in told if "NPD_SHARING_ADDRESS" in each} == {synthetic}
        assert len({each["NPD_ENVIRONMENT"] for each in told}) == 1


@pytest.mark.parametrize("place", sorted(BESIDE))
def test_what_is_applied_beside_prod_keeps_the_rules(place: str) -> None:
    rendered = render(K8S / place)
    by_itself = {name: rule for name, rule in OF_EVERY_RENDERING.items() if name not in WITH_THE_REST}
    assert [f"{name}: {fault}" for name, rule in by_itself.items() for fault in rule(rendered)] == []
    assert [*map(str, objects.valid(rendered, objects.VERSIONS[-1]))] == []
    if rendered.workloads():
        beside = (overlay("prod") + migrations("prod") + rendered).in_namespace("npd")
        assert [f"{name}: {fault}" for name in WITH_THE_REST for fault in OF_EVERY_RENDERING[name](beside)] == []


def test_every_input_of_the_runbook_and_every_custom_kind_is_wanted(optional: Mapping[str, Manifests]) -> None:
    renderings = [
        *(of(name) for name in OVERLAYS for of in (overlay, migrations)),
        *optional.values(),
        *(render(K8S / place) for place in BESIDE),
    ]
    wanted = {reference[1:3] for rendering in renderings for reference in references.references(rendering)}
    assert [one for one in INPUTS.keys if one[0] in ("ConfigMap", "Secret") and one not in wanted] == [], HEADING
    assert {(one.group, one.kind) for rendering in renderings for one in rendering} >= objects.CUSTOM
