"""Commands that run a whole mesh on this machine: one to try things out on, one that tells a story.

What runs it, services.local, is no part of the image for production; there these commands say so.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.options import MESH, MESH_VARIABLE, SystemArgument, system_parts
from services.cli.outcome import ExitCode, fail, told

if TYPE_CHECKING:  # what runs a mesh is imported when one runs
    from services.local.mesh import LocalMesh, MeshSettings
    from services.local.sandbox import Sandbox
    from services.local.story import Story

_RENEWED_EVERY = 3600.0


def up(
    citizens: Annotated[int, typer.Option(min=0, max=2_000_000, help="Synthetic citizens in the record.")] = 1000,
    directory: Annotated[
        Path, typer.Option("--directory", "-d", envvar=MESH_VARIABLE, help="Where the mesh lies; made if missing.")
    ] = MESH,
    port: Annotated[
        int, typer.Option(min=1024, max=60000, help="First port; a taken block moves on to the next free one.")
    ] = 7001,
    environment: Annotated[str, typer.Option(help="Environment of all certificates.")] = "sandbox.npd.local",
) -> None:
    """Run a whole mesh on this machine until Ctrl-C: database, certificates, rooms, sample agencies and citizens.

    Everything stays in the directory, and the next `npd up` goes on with it.

    endpoints.json holds the rooms' addresses while the mesh is up.

    agencies/AGENCY/SYSTEM/ holds what a client in any language needs to call.

    Example: npd up --citizens 10000
    """
    _require_local_mesh()
    from services.local import views
    from services.local.mesh import MeshSettings
    from services.local.sample import SYSTEMS, TAX
    from services.local.sandbox import Sandbox
    from services.local.story import Story
    from services.local.supervisor import orderly_exit

    story = Story("up")
    mesh = _mesh(directory, MeshSettings(environment=environment, first_port=port))
    try:
        with _told(), orderly_exit():
            with story.busy("starting the mesh") as tell:
                mesh.start(lambda text: tell(text))
                sandbox = Sandbox(mesh)
                agreements = sandbox.register(tell)
            tell = story.say  # of later restarts
            with story.counting("citizens", citizens) as counted:
                sandbox.contribute(citizens, counted)
            with suppress(KeyboardInterrupt):  # from here on it is how the command ends
                mesh.publish()
                story.show(views.rooms(mesh, mesh.layout.system(TAX.agency, TAX.system).tls).table)
                story.show(views.agreements(SYSTEMS, agreements))
                story.say(f"{sandbox.citizens:,} synthetic citizens are in the record. Everything lies in {directory}.")
                _suggest(story, directory, agreements[TAX.title])
                _keep(sandbox, story)
    finally:
        with story.busy("stopping the mesh"):
            mesh.stop()


def demo(
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-d",
            help="Keep the mesh in this new directory instead of a temporary one.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1024, max=60000, help="First port; a taken block moves on to the next free one.")
    ] = 7001,
) -> None:
    """Tell what the mesh does, in sixteen steps that check themselves, on a real database and real certificates.

    It runs beside a mesh that is up, and leaves nothing behind.

    Exit code 1: a step was not as told.

    Example: npd demo
    """
    _require_local_mesh()
    from services.local.demo import Demo
    from services.local.mesh import MeshSettings
    from services.local.story import Story
    from services.local.supervisor import orderly_exit

    if directory is not None and directory.exists() and any(directory.iterdir()):
        raise typer.BadParameter(f"{directory} is not empty: the demonstration begins with a new mesh")
    story = Story("demo")
    with _told(), orderly_exit(), tempfile.TemporaryDirectory(prefix="npd-demo-") as temporary:
        mesh = _mesh(directory or Path(temporary), MeshSettings(first_port=port))
        try:
            is_as_told = Demo(mesh, story).tell()
        finally:
            with story.busy("stopping the mesh"):
                mesh.stop()
    story.end()
    if not is_as_told:
        raise typer.Exit(ExitCode.REFUSED)


def issue(
    system: SystemArgument,
    directory: Annotated[
        Path, typer.Option("--directory", "-d", envvar=MESH_VARIABLE, help="Where the mesh lies.")
    ] = MESH,
) -> None:
    """Issue a certificate and key to a system in a mesh on this machine: a new one after a revocation, or its first.

    Example: npd cert issue tax/core
    """
    _require_local_mesh()
    from services.local.credentials import LocalAuthority
    from services.local.layout import Layout

    agency_id, system_id = system_parts(system)
    with _told():
        layout = Layout(directory.absolute())
        issued = LocalAuthority.found_in(layout).reissue_system(agency_id, system_id)
        typer.echo(f"certificate {issued.serial:x} lies in {directory / 'agencies' / agency_id / system_id}")


def _require_local_mesh() -> None:
    if find_spec("services.local") is None:
        fail(
            "No mesh runs inside the image for production. Run one from a checkout of the project: make up",
            ExitCode.USAGE,
        )


@contextmanager
def _told() -> Iterator[None]:
    """As `told`, also of what goes wrong with the processes of a mesh."""
    from services.local.errors import LocalError

    with told():
        try:
            yield
        except LocalError as error:
            fail(str(error))


def _mesh(directory: Path, settings: "MeshSettings") -> "LocalMesh":
    from services.cli.migration import prepare_store
    from services.cli.rooms import discover
    from services.local.mesh import LocalMesh
    from services.local.sample import OPERATORS

    return LocalMesh(directory, discover(), prepare=prepare_store, operators=OPERATORS, settings=settings)


def _suggest(story: "Story", directory: Path, agreement_id: str) -> None:
    """Commands to try next, ready to be copied into another terminal."""
    from services.local.sample import OPERATORS, TAX
    from services.local.sandbox import a_citizen, stated

    citizen, tax = stated(a_citizen()), directory / "agencies" / TAX.agency / TAX.system
    endpoints = "" if directory == MESH else f" --endpoints {directory / 'endpoints.json'}"
    at = f"-d {tax}{endpoints}"
    ground = f"-a {agreement_id} -c HS-2026/17 -o {TAX.officers[0]}"
    operator = "" if directory == MESH else f" -d {directory / 'operators' / OPERATORS[0]}"
    story.say("Try in another terminal:")
    for command in (
        f"npd-client whoami {at}",
        f"npd-client lookup {at} {ground} -f full_name,permanent_residence --pin {citizen.pin} "
        f"--name '{citizen.full_name}' --birth-date {citizen.birth_date}",
        f"npd-client watch {at} {ground}",
        f"npd connections{operator}",
        f"npd system suspend tax/core --cause 'trying it out'{operator}",
        f"npd enrolment create tax/core{operator}",
    ):
        story.say(f"  {command}")
    story.say("Ctrl-C stops the mesh and keeps what it holds.")


def _keep(sandbox: "Sandbox", story: "Story") -> None:
    """Wait for Ctrl-C; renew certificates meanwhile."""
    from services.local.errors import LocalError

    while True:
        time.sleep(_RENEWED_EVERY)
        try:
            sandbox.renew_certificates()
        except (LocalError, OSError) as error:
            story.say(f"certificates could not be renewed: {error}")
