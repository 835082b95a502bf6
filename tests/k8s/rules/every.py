"""Which rules there are, and over what: `OF_EVERY_RENDERING` also over migrations, `OF_ROOMS` where rooms are."""

from collections.abc import Callable, Iterator

from services.cli import rooms
from tests.k8s.manifests import K8S, Keys, Manifests
from tests.k8s.rules import availability, connections, objects, pods, references, settings
from tests.k8s.rules.fault import Fault, Rule
from tests.k8s.rules.references import Inputs

RUNBOOK = K8S / "README.md"
INPUTS = Inputs.read(RUNBOOK)
SETTINGS = {room.name: room.settings for room in rooms.discover()}


def with_keys(rule: Callable[[Manifests, Keys], Iterator[Fault]]) -> Rule:
    """A rule that asks for keys of objects, told of the runbook's inputs."""
    return lambda manifests: rule(manifests, INPUTS.keys_in(manifests))


def with_inputs(rule: Callable[[Manifests, Inputs], Iterator[Fault]]) -> Rule:
    """A rule told of the runbook's inputs."""
    return lambda manifests: rule(manifests, INPUTS)


OF_EVERY_RENDERING: dict[str, Rule] = {
    "no secret": objects.no_secret,
    "whole images": objects.whole_images,
    "limits": objects.limits,
    "one namespace": objects.one_namespace,
    "isolated": pods.isolated,
    "the image's user": pods.as_the_images_user,
    "secrets closed": pods.secrets_closed,
    "resources": pods.resources,
    "command exists": pods.command_exists,
    "labelled": pods.labelled,
    "settings loaded": settings.loaded,
    "files mounted": with_keys(settings.mounted),
    "own database": with_keys(settings.database),
    "references exist": with_inputs(references.exist),
    "issuers exist": with_inputs(references.issuers_exist),
    "names resolved": connections.names_resolved,
    "connections": connections.exactly_the_wanted,
    "strangers": connections.strangers,
    "clusters connected": connections.clusters_connected,
}
OF_ROOMS: dict[str, Rule] = {
    "probed": pods.probed,
    "named ports": pods.named_ports,
    "spread": pods.spread,
    "ends in time": pods.ends_in_time,
    "dialled": settings.dialled,
    "replicated": availability.replicated,
    "drained": availability.drained,
    "found": availability.found,
    "edges are the tables'": connections.edges_are_the_tables,
    "closed by default": connections.closed_by_default,
}
