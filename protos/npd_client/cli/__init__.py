"""The command `npd-client`, an extra of the distribution; without typer and rich it only says how to get them."""

import sys


def main() -> None:
    """Run the command line and exit with one of the codes of `npd_client.cli.outcome`."""
    try:
        from npd_client.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print("The command line is an extra: pip install 'npd-client[cli]'", file=sys.stderr)
        sys.exit(2)
    app()
