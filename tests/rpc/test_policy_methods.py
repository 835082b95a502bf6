"""The method table: a room whose table and services differ does not start, in either direction."""

from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest

from npd_client.errors import refusal_of
from npd_pki.identity import Kind
from services.mesh.core.methods import Rule, agency, allow
from services.mesh.wire.room import Composition, House, Room
from services.mesh.wire.server import MethodsIncomplete
from services.sharing.app import ROOM as SHARING
from tests.mesh_fixture import Desk, Running, Stage


def with_table(room: Room, change: Callable[[dict[str, Rule]], object]) -> Room:
    """The same room with a changed table."""

    def compose(house: House) -> Composition:
        composition = room.compose(house)
        methods = dict(composition.methods)
        change(methods)
        return replace(composition, methods=methods)

    return replace(room, compose=compose)


def test_a_method_without_a_row_keeps_the_room_from_starting(stage: Stage, registry: Running) -> None:
    room = with_table(SHARING, lambda methods: methods.pop("/npd.sharing.v1.LookupService/GetCitizen"))
    with pytest.raises(
        MethodsIncomplete, match=r"without a row: \['/npd\.sharing\.v1\.LookupService/GetCitizen'\]; .*: \[\]"
    ):
        stage.start(room)


def test_a_row_without_a_method_keeps_the_room_from_starting(stage: Stage, registry: Running) -> None:
    dead = "/npd.sharing.v1.LookupService/GetCitizens"
    room = with_table(SHARING, lambda methods: methods.update({dead: allow(agency())}))
    with pytest.raises(
        MethodsIncomplete, match=r"without a row: \[\]; .*: \['/npd\.sharing\.v1\.LookupService/GetCitizens'\]"
    ):
        stage.start(room)


def test_a_row_without_callers_admits_nobody(stage: Stage, registry: Running, desk: Desk) -> None:
    """Empty means nobody, never everybody."""
    method = "/npd.sharing.v1.ChangeService/PullChanges"
    sharing = stage.start(with_table(SHARING, lambda methods: methods.update({method: allow()})))
    desk.register("tax/core")
    stage.settle()
    for kind, name in ((Kind.AGENCY, "tax/core"), (Kind.OPERATOR, "lan"), (Kind.MESH, "identity")):
        with pytest.raises(grpc.RpcError) as failed:
            sharing.channel(kind, name).unary_unary(method)(b"")
        assert refusal_of(failed.value).reason == "METHOD_NOT_ALLOWED"
    assert [entry.reason for entry in sharing.entries()] == ["METHOD_NOT_ALLOWED"] * 3


@pytest.mark.parametrize(
    "method",
    [
        "/npd.registry.v1.SystemService/DeleteSystem",
        "/npd.sharing.v1.LookupService/GetCitizen",  # another room's
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetServers",
    ],
)
def test_nothing_is_served_beside_the_table(registry: Running, method: str) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        registry.channel(Kind.OPERATOR, "lan").unary_unary(method)(b"")
    assert refusal_of(failed.value).code is grpc.StatusCode.UNIMPLEMENTED
