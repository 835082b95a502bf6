"""What the channel repeats by itself, and between which addresses it chooses."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor

import npd
from npd_client.channel import READS, service_config

READING_VERBS = ("Get", "BatchGet", "List", "Find", "Match", "Pull", "Verify", "Describe", "Simulate", "Diagnose")
READING_METHODS = ("WhoAmI", "ReportExpiring")


def contract() -> Iterator[FileDescriptor]:
    for root in map(Path, npd.__path__):
        for path in root.rglob("*_pb2.py"):
            yield importlib.import_module(".".join(["npd", *path.relative_to(root).with_suffix("").parts])).DESCRIPTOR


def test_exactly_the_unary_reads_of_the_contract_are_repeated() -> None:
    reads = {
        (service.full_name, method.name)
        for file in contract()
        for service in file.services_by_name.values()
        for method in service.methods
        if (method.name.startswith(READING_VERBS) or method.name in READING_METHODS) and not method.server_streaming
    }
    assert {(service, method) for service, methods in READS.items() for method in methods} == reads, (
        "a method that reads stands in npd_client.channel.READS, and no other does"
    )


def test_only_unavailable_is_repeated_and_three_times_at_most() -> None:
    config = json.loads(service_config("localhost:7005"))
    (methods,) = config["methodConfig"]
    assert methods["retryPolicy"]["maxAttempts"] == 3
    assert methods["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert {"service": "npd.sharing.v1.ContributionService", "method": "Contribute"} not in methods["name"]
    assert all(set(name) == {"service", "method"} for name in methods["name"]), "no wildcard for a service"
    assert config["retryThrottling"]["maxTokens"] > 0


@pytest.mark.parametrize(
    ("target", "goes_round"),
    [
        ("localhost:7005", False),
        ("sharing.npd.gov.vn:443", False),
        ("ipv4:10.0.0.1:7005", False),
        ("dns:///sharing.mesh.svc:7005", True),
        ("ipv4:10.0.0.1:7005,10.0.0.2:7005", True),
    ],
)
def test_calls_go_round_where_the_target_stands_for_several_servers(target: str, goes_round: bool) -> None:
    config = json.loads(service_config(target))
    assert ("loadBalancingConfig" in config, "healthCheckConfig" in config) == (goes_round, goes_round)
