"""Generate the stubs of the contract, or check that the checked-in ones are those of the contract.

Runs in an environment of its own (codegen.lock): the oldest toolchain whose output runs on every runtime that we
promise to ministries. Needs nothing of this project installed.
"""

import argparse
import filecmp
import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

CONTRACT = Path(__file__).parent
SUFFIXES = {".py", ".pyi", ".typed"}


def compile_contract(*outputs: str) -> None:
    """Run protoc over every contract file."""
    protos = sorted(str(path.relative_to(CONTRACT)) for path in (CONTRACT / "npd").rglob("*.proto"))
    wellknown = resources.files("grpc_tools") / "_proto"
    google = Path(str(status_pb2.__file__)).parents[2]
    arguments = ["protoc", f"-I{CONTRACT}", f"-I{wellknown}", f"-I{google}"]
    if protoc.main([*arguments, *outputs, *protos]) != 0:
        sys.exit("protoc failed; its messages stand above")


def generate(target: Path) -> None:
    """Write the stubs of every contract file below `target`."""
    outputs = [f"--python_out={target}", f"--grpc_python_out={target}"]
    for plugin in ("protoc-gen-mypy", "protoc-gen-mypy_grpc"):
        outputs.append(f"--plugin={plugin}={Path(sys.executable).with_name(plugin)}")
    outputs += [f"--mypy_out=quiet:{target}", f"--mypy_grpc_out=quiet:{target}"]
    compile_contract(*outputs)
    (target / "npd" / "py.typed").touch()


def stubs(root: Path) -> set[Path]:
    """The files below `root` that generation answers for, relative to it."""
    return {path.relative_to(root) for path in root.rglob("*") if path.suffix in SUFFIXES}


def main() -> None:
    """Generate into the directory named, or with --check compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="directory that holds the generated package npd")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the stubs are not fresh")
    parser.add_argument("--image", type=Path, help="also write the contract with its comments, for buf, to this file")
    options = parser.parse_args()
    if options.image:
        compile_contract("--include_imports", "--include_source_info", f"--descriptor_set_out={options.image}")
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        if options.check:
            differing = stubs(fresh) ^ stubs(options.target)
            common = sorted(stubs(fresh) & stubs(options.target))
            differing |= {
                path for path in common if not filecmp.cmp(fresh / path, options.target / path, shallow=False)
            }
            if differing:
                sys.exit("Not fresh, run `make protos`: " + ", ".join(sorted(map(str, differing))))
            return
        for stale in stubs(options.target) - stubs(fresh):
            (options.target / stale).unlink()
        for path in stubs(fresh):
            (options.target / path).parent.mkdir(parents=True, exist_ok=True)
            (options.target / path).write_bytes((fresh / path).read_bytes())


if __name__ == "__main__":
    main()
