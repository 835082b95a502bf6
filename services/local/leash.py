"""A process on a leash: it ends when we end it, and when we die without having ended it. Knows nothing of what it runs.

The leash is a pipe. We hold its writing end and write nothing; a watcher beside the child, in its process group, waits
for the end of file. The kernel closes our end however we die, `kill -9` included, and then the watcher walks through
the stop plan. `PR_SET_PDEATHSIG` would be shorter, but it fires when the *thread* that forked ends, a change of
credentials (unshare, setpriv) clears it, and it sends one signal only.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Final

StopPlan = Sequence[tuple[signal.Signals, float]]
"""Signals to send in turn and the seconds to wait after each; SIGKILL follows by itself."""

_KILL_PATIENCE: Final = 10.0
_TAIL_BYTES: Final = 16_384
_TICKS_PER_SECOND: Final = 5

# The watcher belongs to the group that it ends: while it lives, the kernel cannot give the group's number to others, so
# that no signal goes astray. Forked twice, it is no child of the program, which would not expect one.
_SCRIPT: Final = """
exec 3<&0 0</dev/null
plan=$1
shift
( (
  trap '' HUP INT QUIT TERM
  exec >/dev/null 2>&1
  read -r _ <&3
  for step in $plan; do
    ticks=${step#*:}
    kill -s "${step%:*}" -- "-$$"
    while [ "$ticks" -gt 0 ] && kill -0 "$$"; do
      sleep 0.2
      ticks=$((ticks - 1))
    done
  done
  kill -s KILL -- "-$$"
) & )
exec "$@" 3<&-
"""


def base_environment() -> dict[str, str]:
    """Return the variables that any child needs: where programs, the home and Python lie, language, time zone.

    Ours (NPD_*), libpq's (PG*) and proxies are left out: what a child is told is what its specification says.
    """
    names = {"PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
    kept = {name: value for name, value in os.environ.items() if name in names or name.startswith(("PYTHON", "LC_"))}
    return {"PATH": os.defpath, "PYTHONUNBUFFERED": "1", **kept}


class Leashed:
    """One running process, in a session of its own so that a terminal's Ctrl-C goes to us alone. Safe for threads."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], log: Path, stop_plan: StopPlan) -> None:
        """Start `argv` with `base_environment()` and `env`; its output is appended to `log` (mode 0600).

        Raises OSError if the log cannot be opened or the system has no process left.
        """
        self.argv, self.log, self._plan = tuple(argv), log, tuple(stop_plan)
        self._exited, self._signalling = threading.Event(), threading.Lock()
        steps = " ".join(f"{each.name[3:]}:{ceil(seconds * _TICKS_PER_SECOND)}" for each, seconds in self._plan)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log_start = os.fstat(output).st_size
        watched, self._held = os.pipe()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "leash", steps, *self.argv],
                stdin=watched,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**base_environment(), **env},
                start_new_session=True,
            )
        except BaseException:
            os.close(self._held)
            raise
        finally:
            os.close(watched)
            os.close(output)
        threading.Thread(target=self._reap, name=f"reap-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id of the program itself, not of a wrapper."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if a signal ended it."""
        return self._process.returncode if self._exited.is_set() else None

    def wait(self, seconds: float | None) -> int | None:
        """Wait for the end at most so many seconds and return the exit code, or None if it still runs."""
        self._exited.wait(seconds)
        return self.exit_code

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to the program; False if it had ended already."""
        with self._signalling:
            if self._exited.is_set():
                return False
            try:
                os.kill(self.pid, number)  # the number cannot have gone to another: the watcher still holds the group
            except ProcessLookupError:  # reaped at this moment
                return False
            return True

    def stop(self) -> int | None:
        """Walk through the stop plan, then SIGKILL; return the exit code (None only if the kernel cannot end it)."""
        for number, patience in (*self._plan, (signal.SIGKILL, _KILL_PATIENCE)):
            if not self.send(number) or self.wait(patience) is not None:
                break
        return self.exit_code

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that this process, not an earlier one, has written."""
        with self.log.open("rb") as written:
            end = written.seek(0, os.SEEK_END)
            written.seek(max(min(self._log_start, end), end - _TAIL_BYTES))
            text = written.read(_TAIL_BYTES).decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _reap(self) -> None:
        self._process.wait()
        with self._signalling:
            self._exited.set()
        os.close(self._held)  # the watcher ends what the program left behind in its group, and itself
