"""`npd demo`: sixteen steps that check themselves, nothing left behind, and a step that fails fails the command."""

import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from npd_client.errors import Refusal
from services.local.story import Story, Unexpected, expect, expect_refusal, until


def test_the_demonstration_is_as_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services", "demo", "--port", "18001"]
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=110, check=False, cwd=tmp_path, env={"TMPDIR": str(tmp_path)}
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.splitlines()[-1] == "demo: 16 steps, 16 ok"
    assert "FAILED" not in told.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_is_not_as_told_fails_the_command(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from services.local import demo\n"
        "demo._FIELDS = ('full_name', 'phone')\n"  # tax may not read a telephone number
        "from services.__main__ import main\n"
        "sys.argv = ['npd', 'demo', '--port', '18001']\n"
        "main()\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=110, check=False, cwd=tmp_path
    )
    assert told.returncode == 1
    lines = told.stdout.splitlines()
    assert lines[-1] == "demo: 16 steps, 13 ok"
    assert any("FAILED: expected an answer, was refused: FIELD_NOT_GRANTED" in line for line in lines)


def test_a_failed_step_says_what_was_expected_and_the_story_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story("demo")
    with story.step("one"):
        expect("the answer", 41, 42)
    with story.step("two"):
        raise ZeroDivisionError("an error of ours")
    with story.step("three"):
        pass
    story.end()
    shown = capsys.readouterr().out
    assert "FAILED: the answer: expected 42, found 41" in shown
    assert "FAILED: ZeroDivisionError: an error of ours" in shown
    assert shown.splitlines()[-1] == "demo: 3 steps, 1 ok"
    assert story.has_failed


def test_expectations_are_not_met_by_anything_else() -> None:
    def refuse() -> None:
        raise Refusal(grpc.StatusCode.PERMISSION_DENIED, reason="SYSTEM_SUSPENDED")

    assert expect_refusal("SYSTEM_SUSPENDED", refuse).reason == "SYSTEM_SUSPENDED"
    with pytest.raises(Unexpected, match="expected CERTIFICATE_REVOKED, found SYSTEM_SUSPENDED"):
        expect_refusal("CERTIFICATE_REVOKED", refuse)
    with pytest.raises(Unexpected, match="got an answer"):
        expect_refusal("SYSTEM_SUSPENDED", lambda: None)
    with pytest.raises(Unexpected, match="did not come"):
        until("nothing", lambda: None, seconds=0.05)
