"""Work beside the calls: it is run again when it fails, and ends when it is told."""

import threading
import time
from collections.abc import Callable

import pytest

from services.mesh.core import background as module
from services.mesh.core.background import Background, Stopping

PATIENCE = 10.0


def wait_until(claim: Callable[[], bool]) -> None:
    pause, give_up = threading.Event(), time.monotonic() + PATIENCE
    while not claim():
        assert time.monotonic() < give_up, "did not come true in time"
        pause.wait(0.005)


def test_work_ends_when_it_is_told() -> None:
    def wait(stopping: Stopping) -> None:
        stopping.wait(PATIENCE)

    work = Background("waiting", wait)
    assert not work.is_running
    work.start()
    assert work.is_running
    work.stop()
    assert not work.is_running


def test_work_that_fails_is_run_again_and_named_without_its_error_text(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    lines: list[dict[str, object]] = []

    class Log:
        def warning(self, event: str, **facts: object) -> None:
            lines.append({"event": event, **facts})

    def work(stopping: Stopping) -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise ConnectionError("079303012345")
        stopping.wait(PATIENCE)

    monkeypatch.setattr(module, "log", Log())
    background = Background("fragile", work)
    background.start()
    wait_until(lambda: len(runs) == 2)
    assert background.problem == "", "it runs again"
    background.stop()
    assert len(runs) == 2
    [line] = lines
    assert line["work"] == "fragile"
    assert str(line["fault"]).startswith("['ConnectionError at test_mesh_background.py:")
    assert "079303012345" not in str(line)


def test_work_that_keeps_failing_ends_all_the_same() -> None:
    def work(stopping: Stopping) -> None:
        raise ConnectionError

    background = Background("hopeless", work)
    background.start()
    wait_until(lambda: background.problem.startswith("ConnectionError at test_mesh_background.py:"))
    start = time.monotonic()
    background.stop()
    assert not background.is_running
    assert time.monotonic() - start < PATIENCE / 2


@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_who_does_not_listen_is_left_behind_after_a_while(wait: float) -> None:
    released = threading.Event()

    def ignore(stopping: Stopping) -> None:
        released.wait(PATIENCE)

    background = Background("deaf", ignore)
    background.start()
    background.ask_to_stop()
    background.stop(wait)
    assert background.is_running
    released.set()
    wait_until(lambda: not background.is_running)
