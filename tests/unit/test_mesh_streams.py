"""Open streams: their slots, what wakes them, and when they are cut."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import grpc
import pytest

from services.mesh.core.caller import CertificateRevoked, Leaf
from services.mesh.core.errors import MeshError
from services.mesh.core.rights import AgreementSuspended, SystemSuspended
from services.mesh.wire import streams as module
from services.mesh.wire.call import Call
from services.mesh.wire.streams import RoomStopping, Streams, StreamSlotsTaken

PATIENCE = 10.0
LONG = timedelta(minutes=4)
NOW = datetime(2026, 3, 14, 8, tzinfo=UTC)
LEAF = Leaf((), True, NOW, NOW + timedelta(hours=1), "1", "", (), "2", NOW + timedelta(days=1), "")


class Context:
    """gRPC's side of a stream."""

    def __init__(self) -> None:
        self.active = True
        self.cancelled = False
        self.left: list[Callable[[], None]] = []

    def is_active(self) -> bool:
        return self.active

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.left.append(callback)
        return True

    def cancel(self) -> None:
        self.cancelled = True

    def leave(self) -> None:
        """The client leaves."""
        self.active = False
        for callback in self.left:
            callback()


class Clock:
    """Stands still."""

    def now(self) -> datetime:
        return NOW


class Watch:
    """A caller with a stream, who can lose his standing or his ground."""

    def __init__(self) -> None:
        self.context = Context()
        self.call = Call("/watch", cast(grpc.ServicerContext, self.context))
        self.call.recheck = lambda: self._raise(self.standing)
        self.standing: MeshError | None = None
        self.ground: MeshError | None = None

    def has_ground(self) -> None:
        self._raise(self.ground)

    @staticmethod
    def _raise(error: MeshError | None) -> None:
        if error:
            raise error


def new_streams(slots: int = 4, lifetime: timedelta = LONG) -> Streams:
    return Streams(slots, lifetime, Clock())


def test_slots_are_taken_refused_and_given_back() -> None:
    streams = new_streams(slots=2)
    with ExitStack() as stack:
        for _ in range(2):
            watch = Watch()
            stack.enter_context(streams.open(watch.call, watch.has_ground))
        late = Watch()
        with pytest.raises(StreamSlotsTaken) as refused, streams.open(late.call, late.has_ground):
            pass
        assert refused.value.metadata == {"slots": "2"}
    with streams.open(late.call, late.has_ground) as stream:
        assert not stream.has_ended


@pytest.mark.parametrize("lost", ["standing", "ground"])
def test_a_stream_is_not_opened_for_whom_a_call_would_be_refused(lost: str) -> None:
    streams, watch = new_streams(slots=1), Watch()
    setattr(watch, lost, CertificateRevoked(revoke_time="now"))
    with pytest.raises(CertificateRevoked), streams.open(watch.call, watch.has_ground):
        pass
    good = Watch()
    with streams.open(good.call, good.has_ground):
        pass


def timed(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def test_news_wake_every_stream() -> None:
    streams = new_streams()
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        opened = []
        for _ in range(3):
            watch = Watch()
            opened.append(stack.enter_context(streams.open(watch.call, watch.has_ground)))
        futures = [pool.submit(stream.wait, PATIENCE) for stream in opened]
        streams.wake()
        for future in futures:
            future.result(PATIENCE / 2)


def test_news_before_the_wait_are_not_lost() -> None:
    streams, watch = new_streams(), Watch()
    with streams.open(watch.call, watch.has_ground) as stream:
        streams.wake()
        assert timed(lambda: stream.wait(PATIENCE)) < PATIENCE / 2
        assert timed(lambda: stream.wait(0.02)) > 0.015, "once for each news"


@pytest.mark.parametrize("lost", ["standing", "ground"])
def test_who_loses_his_standing_is_told_so_when_he_is_woken(lost: str) -> None:
    streams, watch = new_streams(), Watch()
    with streams.open(watch.call, watch.has_ground) as stream:
        setattr(watch, lost, AgreementSuspended(agreement="a-1", cause="audit"))
        streams.wake()
        with pytest.raises(AgreementSuspended):
            stream.wait(PATIENCE)


def test_a_stream_ends_with_its_lifetime() -> None:
    watch = Watch()
    with new_streams(lifetime=timedelta(seconds=0.05)).open(watch.call, watch.has_ground) as stream:
        assert not stream.has_ended
        assert timed(lambda: stream.wait(PATIENCE)) < PATIENCE / 2
        assert stream.has_ended


def test_a_client_that_leaves_wakes_and_ends_its_stream() -> None:
    streams, watch = new_streams(), Watch()
    with streams.open(watch.call, watch.has_ground) as stream:
        watch.context.leave()
        assert timed(lambda: stream.wait(PATIENCE)) < PATIENCE / 2
        assert stream.has_ended


@pytest.mark.parametrize("ending", ["expire_time", "issuer_expire_time"])
def test_a_stream_wakes_when_its_certificate_or_the_issuers_expires(ending: str) -> None:
    streams, watch = new_streams(), Watch()
    with streams.open(watch.call, watch.has_ground) as stream:
        for left in (timedelta(seconds=0.05), timedelta(hours=-1)):
            watch.call.leaf = replace(LEAF, **{ending: NOW + left})  # type: ignore[arg-type]
            seconds = timed(lambda: stream.wait(PATIENCE))
            assert left.total_seconds() - 0.01 < seconds < PATIENCE / 2


def test_a_room_that_stops_ends_all_streams_and_opens_none() -> None:
    streams, watch = new_streams(), Watch()
    with streams.open(watch.call, watch.has_ground) as stream:
        streams.close()
        with pytest.raises(RoomStopping):
            stream.wait(PATIENCE)
    with pytest.raises(RoomStopping), streams.open(watch.call, watch.has_ground):
        pass


def test_a_stream_stuck_in_sending_is_cut_only_when_it_lost_its_standing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_UNREAD_AFTER", 0.0)
    streams, watch = new_streams(), Watch()
    with streams.open(watch.call, watch.has_ground) as stream:
        stream.cut_if_unread()
        assert not watch.context.cancelled
        watch.standing = SystemSuspended(system="tax/core", cause="audit", suspend_time="now")
        stream.cut_if_unread()
        assert watch.context.cancelled


def test_a_stream_that_waits_or_has_just_begun_to_send_looks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_UNREAD_AFTER", PATIENCE)
    streams, watch = new_streams(), Watch()
    with streams.open(watch.call, watch.has_ground) as stream, ThreadPoolExecutor(1) as pool:
        watch.standing = SystemSuspended(system="tax/core", cause="audit", suspend_time="now")
        stream.cut_if_unread()
        assert not watch.context.cancelled, "it has not been at work for long"
        looked = pool.submit(stream.wait, PATIENCE)
        while stream._busy_since is not None:
            assert not looked.done()
        monkeypatch.setattr(module, "_UNREAD_AFTER", 0.0)
        stream.cut_if_unread()
        assert not watch.context.cancelled
        stream.wake()
        with pytest.raises(SystemSuspended):
            looked.result(PATIENCE)
