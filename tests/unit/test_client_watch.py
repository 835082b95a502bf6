"""A watch goes on over planned ends, broken streams and renewed certificates; each change comes once."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from npd.sharing.v1.change_pb2 import Change, Cursor, WatchChangesRequest, WatchChangesResponse
from npd_client import AccessContext, Client, Refusal, Unreachable, watching

ACCESS = AccessContext(agreement_id="a", case_reference="SYNC", officer_id="o")
Step = WatchChangesResponse | grpc.RpcError


class CallFailed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, reason: str = "", retry: timedelta | None = None) -> None:
        super().__init__(code.name)
        status = status_pb2.Status(code=code.value[0], message=reason)
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="npd"))
        if retry is not None:
            delay = Duration()
            delay.FromTimedelta(retry)
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        self._code, self._reason = code, reason
        self._trailing = (("grpc-status-details-bin", status.SerializeToString()),) if reason else ()

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._reason

    def trailing_metadata(self) -> Any:
        return self._trailing


class ScriptedStream:
    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = iter(steps)
        self.cancelled = False

    def __iter__(self) -> Iterator[WatchChangesResponse]:
        for step in self._steps:
            if isinstance(step, grpc.RpcError):
                raise step
            yield step

    def cancel(self) -> bool:
        self.cancelled = True
        return True


class ScriptedChannel:
    """Answers each new watch with the next script, and remembers where each began; then closes the client."""

    target = "scripted"

    def __init__(self, scripts: Sequence[Sequence[Step]], then: Callable[[], None]) -> None:
        self._scripts, self._then = list(scripts), then
        self.begun: list[tuple[int, int] | None] = []
        self.streams: list[ScriptedStream] = []
        self.credentials: Any = None
        self.files: Any = None

    def reload(self) -> bool:
        changed = self.files is not self.credentials
        self.credentials = self.files
        return changed

    def close(self) -> None:
        pass

    def unary_unary(self, *_: Any, **__: Any) -> Callable[..., Any]:
        return lambda *args, **kwargs: None

    def unary_stream(self, *_: Any, **__: Any) -> Callable[..., ScriptedStream]:
        return self._watch

    def _watch(self, request: WatchChangesRequest) -> ScriptedStream:
        place = request.cursor
        self.begun.append((place.incarnation, place.position) if request.HasField("cursor") else None)
        if not self._scripts:
            self._then()
            self._scripts.append([CallFailed(grpc.StatusCode.CANCELLED)])
        self.streams.append(ScriptedStream(self._scripts.pop(0)))
        return self.streams[-1]


class ScriptedClient(Client):
    def __init__(self, *scripts: Sequence[Step]) -> None:
        super().__init__("scripted", "nowhere")
        self.scripted = ScriptedChannel(scripts, self.close)
        self.interruptions: list[tuple[Refusal, float]] = []

    def channel(self, room: str) -> Any:
        return self.scripted

    def positions(self, cursor: Cursor | None = None) -> list[int]:
        tell = lambda refusal, seconds: self.interruptions.append((refusal, seconds))  # noqa: E731
        messages = self.watch_changes(ACCESS, cursor, on_interruption=tell)
        return [change.position for message in messages for change in message.changes]


def batch(*positions: int, place: int | None = None, incarnation: int = 1) -> WatchChangesResponse:
    reached = place if place is not None else positions[-1]
    return WatchChangesResponse(
        changes=[Change(position=position) for position in positions],
        cursor=Cursor(incarnation=incarnation, position=reached),
    )


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SHORTEST_PAUSE", 0.001)
    monkeypatch.setattr(watching, "LONGEST_PAUSE", 0.004)


def test_it_goes_on_from_the_last_cursor_after_a_planned_end() -> None:
    client = ScriptedClient([batch(1, 2), batch(place=7)], [batch(8)])
    assert client.positions() == [1, 2, 8]
    assert client.scripted.begun == [None, (1, 7), (1, 8)]
    assert client.interruptions == []


def test_it_goes_on_after_a_broken_stream_and_drops_what_was_seen() -> None:
    broken = CallFailed(grpc.StatusCode.UNAVAILABLE)
    client = ScriptedClient([batch(4, 5), broken], [broken], [batch(4, 5, 6), batch(6, 7)])
    assert client.positions(Cursor(incarnation=1, position=3)) == [4, 5, 6, 7]
    assert client.scripted.begun == [(1, 3), (1, 5), (1, 5), (1, 7)]
    assert [type(refusal) for refusal, _ in client.interruptions] == [Unreachable, Unreachable]


def test_positions_of_another_incarnation_are_not_taken_for_seen() -> None:
    client = ScriptedClient([batch(9)], [batch(1, incarnation=2)])
    assert client.positions() == [9, 1]


def test_pauses_grow_and_a_message_ends_the_growth() -> None:
    broken = CallFailed(grpc.StatusCode.UNAVAILABLE, "ROOM_STOPPING")
    client = ScriptedClient([broken], [broken], [broken], [broken], [batch(1), broken])
    client.positions()
    pauses = [seconds for _, seconds in client.interruptions]
    assert [0.0005 * 2**n <= pause <= 0.001 * 2**n for n, pause in enumerate(pauses[:3])] == [True] * 3
    assert pauses[3] <= 0.004
    assert pauses[4] <= 0.001


def test_a_server_without_a_free_slot_is_asked_again_when_it_said() -> None:
    full = CallFailed(grpc.StatusCode.RESOURCE_EXHAUSTED, "STREAM_SLOTS_TAKEN", timedelta(milliseconds=20))
    client = ScriptedClient([full], [batch(1)])
    assert client.positions() == [1]
    ((refusal, pause),) = client.interruptions
    assert refusal.reason == "STREAM_SLOTS_TAKEN"
    assert pause == 0.02


def test_a_stream_cut_with_its_certificate_goes_on_with_the_renewed_one() -> None:
    client = ScriptedClient([batch(1), CallFailed(grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REVOKED")], [batch(2)])
    client.scripted.files = object()
    assert client.positions() == [1, 2]
    assert client.scripted.begun[1] == (1, 1)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REVOKED"),
        (grpc.StatusCode.PERMISSION_DENIED, "AGREEMENT_SUSPENDED"),
        (grpc.StatusCode.FAILED_PRECONDITION, "CURSOR_OUTDATED"),
        (grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
def test_what_waiting_cannot_mend_is_raised(code: grpc.StatusCode, reason: str) -> None:
    client = ScriptedClient([batch(1), CallFailed(code, reason)], [batch(2)])
    watch = client.watch_changes(ACCESS)
    next(watch)
    with pytest.raises(Refusal) as refused:
        next(watch)
    assert refused.value.reason == reason


def test_leaving_the_watch_ends_its_stream() -> None:
    client = ScriptedClient([batch(1), batch(2)])
    watch = client.watch_changes(ACCESS)
    next(watch)
    watch.close()  # type: ignore[attr-defined]
    assert client.scripted.streams[0].cancelled


def test_closing_the_client_ends_a_watch_that_waits() -> None:
    client = ScriptedClient([CallFailed(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", timedelta(minutes=1))])
    waiting = threading.Event()

    def follow() -> None:
        list(client.watch_changes(ACCESS, on_interruption=lambda *_: waiting.set()))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    assert waiting.wait(10)
    client.close()
    thread.join(10)
    assert not thread.is_alive()
