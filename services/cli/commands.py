"""The commands of `npd`. What a command needs is imported when it runs, so that `--help` answers at once."""

from importlib.metadata import version
from typing import Annotated

import typer

from services.cli import (
    applications,
    approvals,
    authorities,
    certificates,
    chains,
    doctor,
    enrolments,
    mesh,
    operators,
    redelivery,
    restored,
    revocations,
    room,
    set_aside,
)

app = typer.Typer(
    name="npd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, and those can hold keys and personal data
    rich_markup_mode="rich",
)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"npd-mesh {version('npd-mesh')}")
        raise typer.Exit


@app.callback()
def about(
    is_version_asked: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Tell the version and exit.")
    ] = False,
) -> None:
    """Run the National Population Database mesh, and operate it.

    On this machine: `npd up` runs a whole mesh to try things out on, `npd demo` tells what it does.

    In production: `npd check`, `npd migrate`, `npd serve` and, after a restore from a backup, `npd restored`, each for one room and with its NPD_* variables.

    As an operator: `npd connections`, `npd system`, `npd cert`, `npd enrolment`, `npd authority`, `npd approval`, `npd chain`, `npd set-aside` and `npd redeliver`, with an operator's certificate.

    Exit codes: 0 done; 1 refused or failed, the reason is printed; 2 usage or settings; 3 unreachable, or your own certificate is not in order.
    """  # noqa: E501 - the help is wrapped by paragraphs, and a line break would stay


app.command()(mesh.up)
app.command()(mesh.demo)
app.command()(room.serve)
app.command()(room.migrate)
app.command()(room.check)
app.command()(restored.restored)
app.command()(operators.connections)
app.command()(redelivery.redeliver)
app.command()(doctor.doctor)

system = typer.Typer(no_args_is_help=True, help="Suspend or resume an agency's system.")
system.command()(operators.suspend)
system.command()(operators.resume)
app.add_typer(system, name="system")

cert = typer.Typer(no_args_is_help=True, help="Find, apply for and revoke certificates.")
cert.command("list")(certificates.list_)
cert.command()(certificates.show)
cert.command()(applications.apply)
cert.command("applications")(applications.list_)
cert.command("application")(applications.show)
cert.command()(revocations.revoke)
cert.command()(revocations.revoke_all)
cert.command()(enrolments.enable_expired)
cert.command()(mesh.issue)
report = typer.Typer(no_args_is_help=True, help="Report on certificates.")
report.command()(certificates.expiring)
cert.add_typer(report, name="report")
app.add_typer(cert, name="cert")

enrolment = typer.Typer(no_args_is_help=True, help="Let a system enrol at the issuer's door with a one-time token.")
enrolment.command()(enrolments.create)
enrolment.command("list")(enrolments.list_)
enrolment.command()(enrolments.cancel)
app.add_typer(enrolment, name="enrolment")

authority = typer.Typer(no_args_is_help=True, help="Roll issuing CAs over.")
authority.command("list")(authorities.list_)
authority.command()(authorities.prepare)
authority.command()(authorities.activate)
authority.command()(authorities.taint)
authority.command()(authorities.retire)
authority.command()(authorities.revoke)
app.add_typer(authority, name="authority")

chain = typer.Typer(no_args_is_help=True, help="Follow an act through the rooms.")
chain.command()(chains.show)
app.add_typer(chain, name="chain")

aside = typer.Typer(no_args_is_help=True, help="See what rooms could not hand on or apply, and try it again.")
aside.command("list")(set_aside.list_)
aside.command()(set_aside.retry)
app.add_typer(aside, name="set-aside")

approval = typer.Typer(no_args_is_help=True, help="See what needs a second person, and approve or deny it.")
approval.command("list")(approvals.list_)
approval.command()(approvals.show)
approval.command()(approvals.approve)
approval.command()(approvals.deny)
app.add_typer(approval, name="approval")
