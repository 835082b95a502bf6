"""The issuer measured: issuing, renewal under load, revocation, inventory, the door under flood. Ratios in one run.

`make bench-pki`, or `python -m tests.bench.pki --help`. Where certificates a second are measured, the issuer may use
one core alone; everything else runs where it likes.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.cli.migration import prepare_store
from services.cli.rooms import discover
from services.local.mesh import LocalMesh, MeshSettings
from services.local.sample import OPERATORS, TAX
from services.local.sandbox import Sandbox
from tests.bench import door, inventory, issuing, revocation, rollover
from tests.holders import UNLIMITED, register

_CITIZENS = 200
_SYSTEMS = 49  # and tax


@dataclass(frozen=True, slots=True)
class Bench:
    """A mesh that is up, with the sample in it, and how much is to be measured."""

    mesh: LocalMesh
    agreement_id: str
    systems: Sequence[Path]
    options: argparse.Namespace
    counting: Callable[[str, int], Callable[[int], object]]


def parts(bench: Bench) -> dict[str, Callable[[], Table]]:
    """What can be measured, by name, in the order in which it is."""
    mesh, agreement_id, systems = bench.mesh, bench.agreement_id, bench.systems
    options, counting = bench.options, bench.counting
    return {
        "issuing": lambda: issuing.measure(
            mesh, systems, options.certificates, counting("certificates", options.certificates)
        ),
        "renewals": lambda: rollover.renewals(
            mesh, systems, agreement_id, options.renewals, counting("renewals", options.renewals)
        ),
        "revocation": lambda: revocation.measure(
            mesh, agreement_id, options.trials, counting("revocations", options.trials)
        ),
        "door": lambda: door.measure(mesh, options.seconds),
        "rollover": lambda: rollover.measure(mesh, systems, agreement_id, counting("steps", rollover.STEPS)),
        "inventory": lambda: inventory.measure(mesh, options.inventory, counting("certificates", options.inventory)),
    }


def main() -> None:
    """Measure, and print a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("issuing", "renewals", "revocation", "door", "rollover", "inventory")
    parser.add_argument("parts", nargs="*", choices=[*names, []], help=f"of {', '.join(names)}; by default all")
    parser.add_argument("--certificates", type=int, default=1000, help="certificates issued (default 1,000)")
    parser.add_argument("--renewals", type=int, default=1000, help="renewals under load (default 1,000)")
    parser.add_argument("--trials", type=int, default=100, help="revocations (default 100)")
    parser.add_argument("--inventory", type=int, default=100_000, help="certificates listed (default 100,000)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a round at the door (default 8)")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    settings = MeshSettings(first_port=27001, room_variables={"issuer": UNLIMITED})
    with tempfile.TemporaryDirectory(prefix="npd-bench-") as scratch, shown:
        mesh = LocalMesh(Path(scratch), discover(), prepare=prepare_store, operators=OPERATORS, settings=settings)
        with mesh:
            sandbox = Sandbox(mesh)
            agreement_id = sandbox.register(lambda _: None)[TAX.title]
            sandbox.contribute(_CITIZENS, lambda _: None)
            systems = register(mesh, _SYSTEMS)

            def counting(what: str, total: int) -> Callable[[int], object]:
                task = shown.add_task(what, total=total)
                return lambda done: shown.update(task, completed=done)

            for name, measure in parts(Bench(mesh, agreement_id, systems, options, counting)).items():
                if name in (options.parts or names):
                    console.print(measure())


if __name__ == "__main__":
    main()
