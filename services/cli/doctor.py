"""The command by which an operator finds out why a connection to a room does not come about."""

from typing import Annotated

import typer

from services.cli.options import DirectoryOption, EndpointsOption, JsonOption


def doctor(
    target: Annotated[
        str, typer.Argument(metavar="[HOST:PORT]", help="The room that does not answer; by default the registry.")
    ] = "",
    door: Annotated[
        str | None,
        typer.Option(
            "--door",
            envvar="NPDCTL_DOOR",
            help="Address of the issuer's door, host:port; by default that of the endpoints file.",
            show_default=False,
            rich_help_panel="Connection",
        ),
    ] = None,
    vietnamese: Annotated[bool, typer.Option("--vi", help="Print it in Vietnamese.")] = False,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find out why a connection does not come about: files, clock, name, network, server's certificate, mesh's view.

    Exit codes: 0 nothing is wrong; 1 something is; 3 nothing answers at the address.

    Example: npd doctor localhost:7005
    """
    from npd_client.cli import findings
    from npd_client.cli.outcome import Language
    from npd_client.doctor import diagnose
    from npd_client.probing import TargetMalformed
    from services.cli.options import own_addresses
    from services.cli.outcome import told

    with told(as_json=as_json):
        place, addresses = own_addresses(directory, endpoints)
        try:
            found = diagnose(target or addresses["registry"], place, door=door or addresses.get("door", ""))
        except TargetMalformed as error:
            raise typer.BadParameter(str(error)) from None
        except KeyError:
            raise typer.BadParameter("name the room's address, HOST:PORT: no endpoints file names a registry") from None
        findings.show(found, Language.VIETNAMESE if vietnamese else Language.ENGLISH, as_json=as_json)
        if code := findings.exit_code(found):
            raise typer.Exit(code)
