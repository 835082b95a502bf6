"""A method that needs a second person can be asked for by id, and done once."""

import importlib

import pytest
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pool

from services.cli import rooms
from services.mesh.core.methods import Methods, allow, operator

TWO = allow(operator(), approvals=2)


def unfit(methods: Methods) -> list[str]:
    """The methods that need a second person and stream, or whose request has no required `request_id`."""
    found = []
    for method in (method for method, rule in methods.items() if rule.approvals == 2):
        service, _, name = method.removeprefix("/").rpartition("/")
        rpc = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        field = rpc.input_type.fields_by_name.get("request_id")
        behaviour = field.GetOptions().Extensions[field_behavior_pb2.field_behavior] if field else ()
        takes_id = field is not None and field.type == field.TYPE_STRING and field_behavior_pb2.REQUIRED in behaviour
        if not takes_id or rpc.server_streaming or rpc.client_streaming:
            found.append(method)
    return found


@pytest.mark.parametrize("room", rooms.names())
def test_a_method_that_needs_a_second_person_takes_a_request_id(room: str) -> None:
    importlib.import_module(f"services.{room}.app")
    assert unfit(importlib.import_module(f"services.{room}.policy").METHODS) == []


def test_the_rule_finds_what_it_looks_for() -> None:
    importlib.import_module("services.sharing.app")
    fit = {"/npd.common.v1.RelayService/RetrySetAside": TWO}
    without = {"/npd.common.v1.RelayService/ListSetAside": TWO, "/npd.sharing.v1.ChangeService/WatchChanges": TWO}
    assert unfit({**fit, **without}) == list(without)
