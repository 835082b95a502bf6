"""A container without a container engine: a read-only root, a mount namespace, uid 10001 and no privilege at all.

The root is put together from this machine's /usr and Python, and from the image's directory at /app. What it does not
give is a process namespace, limits of memory and processor time, and seccomp. Only root may build it.
"""

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.programs import REQUIRED, program

USER: Final = 10001
"""The uid and the gid of the image, and the pod's fsGroup."""
TEMPORARY: Final = "/tmp"  # noqa: S108 - the container's own, in memory
_ROOT: Final = "/mnt"  # in a mount namespace of its own, so that nobody else sees what is mounted there
_ETC: Final = {
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\nnpd:x:{user}:{user}::/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnpd:x:{user}:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
OF_THE_IMAGE: Final = {
    "PATH": "/app/bin:/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "MALLOC_ARENA_MAX": "2",
}
"""What k8s/Dockerfile sets; a test compares them."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of this machine at a path of the container; without a source an emptyDir in memory."""

    target: str
    source: Path | None = None
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Container:
    """What a pod says of its container. `network` is a namespace in /run/netns; without one it is in ours."""

    image: Path
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    nameservers: Sequence[str] = ()
    search: Sequence[str] = ()
    network: str | None = None
    uid: int = USER

    @property
    def environment(self) -> dict[str, str]:
        """What a process in it has: what the image sets, then what the pod sets, and nothing of ours."""
        return {**OF_THE_IMAGE, **self.env}

    def argv(self, *arguments: str, executable: str = "/app/bin/npd") -> tuple[str, ...]:
        """The command that builds the root, and becomes the program in it: its process id is the program's.

        To be run with `environment`.
        """
        if os.geteuid() != 0:
            absent = "only root may build a container's root: namespaces, mounts, another uid"
            pytest.fail(absent) if os.environ.get(REQUIRED) == "1" else pytest.skip(absent)
        network = (program("nsenter"), f"--net=/run/netns/{self.network}", "--") if self.network else ()
        namespace = (program("unshare"), "--mount", "--propagation", "private", "--")
        script = "\n".join(self._script())
        return (*network, *namespace, "/bin/sh", "-euc", script, "sh", executable, *arguments)

    def run(
        self, *arguments: str, executable: str = "/app/bin/npd", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            self.argv(*arguments, executable=executable),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: str, log: Path, executable: str = "/app/bin/npd") -> subprocess.Popen[bytes]:
        """Start a program; what it says goes to the end of a file. Signals to its process id reach it alone."""
        with log.open("ab") as said:
            return subprocess.Popen(
                self.argv(*arguments, executable=executable),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def _script(self) -> Iterator[str]:
        """What a shell does in the new mount namespace; whatever fails ends it."""
        yield f"mount -t tmpfs -o mode=0755,size=1m pod {_ROOT}"
        yield f"cd {_ROOT}"
        yield "mkdir dev etc proc sys"
        for path in sorted(Path("/").iterdir()):
            if path.name in {"bin", "sbin"} or path.name.startswith("lib"):
                if path.is_symlink():
                    yield shlex.join(["ln", "-s", str(path.readlink()), path.name])
                else:
                    yield from _bind(path, str(path))
        yield from _bind(Path("/usr"), "/usr")
        if not (base := _python_of(self.image)).is_relative_to("/usr"):
            yield from _bind(base, str(base))
        yield from _bind(self.image / "app", "/app")
        for path in (Path("/proc"), Path("/sys")):
            yield from _bind(path, str(path))
        for name in _DEVICES:
            yield f"touch dev/{name}"
            yield f"mount --bind /dev/{name} dev/{name}"
        for name, content in self._etc().items():
            yield f"printf %s {shlex.quote(content)} > etc/{name}"
        for mount in sorted(self.mounts, key=lambda each: each.target):  # /var before /var/lib/npd
            if mount.source is not None:
                yield from _bind(mount.source, mount.target, read_only=mount.read_only)
            else:
                target = shlex.quote(mount.target.lstrip("/"))
                yield f"mkdir -p {target}"
                yield f"mount -t tmpfs -o nosuid,nodev,mode=2777,uid=0,gid={self.uid} emptydir {target}"
        yield f"mount -o remount,ro {_ROOT}"
        privileges = (
            *(f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"),
            *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
        )
        yield f'exec {program("chroot")} {_ROOT} {program("setpriv")} {shlex.join(privileges)} -- "$@"'

    def _etc(self) -> dict[str, str]:
        hosts = {"localhost": "127.0.0.1", **self.hosts}
        resolver = [f"search {' '.join(self.search)}"] if self.search else []
        resolver += [f"nameserver {address}" for address in self.nameservers]
        return {
            **{name: content.format(user=self.uid) for name, content in _ETC.items()},
            "hosts": "".join(f"{address} {name}\n" for name, address in hosts.items()),
            "resolv.conf": "".join(f"{line}\n" for line in resolver),
        }


def _bind(source: Path, target: str, *, read_only: bool = True) -> Iterator[str]:
    """Bind a file or directory of this machine; devices and set-uid programs below it lose their force."""
    place, within = shlex.quote(str(source)), shlex.quote(target.lstrip("/"))
    if source.is_dir():
        yield f"mkdir -p {within}"
    else:
        yield f"mkdir -p {shlex.quote(str(Path(target).parent).lstrip('/') or '.')}; touch {within}"
    yield f"mount --bind {place} {within}"
    yield f"mount -o remount,bind,nosuid,{'ro' if read_only else 'rw'} {within}"


def _python_of(image: Path) -> Path:
    """The prefix of the Python that the environment in an image's directory was made by."""
    settings = (image / "app" / "pyvenv.cfg").read_text(encoding="utf-8")
    (home,) = (line.partition("=")[2].strip() for line in settings.splitlines() if line.startswith("home "))
    return Path(home).parent
