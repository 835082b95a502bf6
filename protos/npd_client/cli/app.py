"""The commands of `npd-client`: options in, one call of the client, an answer out."""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from npd.common.v1.access_pb2 import AccessContext
from npd.common.v1.evidence_pb2 import Outcome
from npd.sharing.v1.change_pb2 import Cursor, PullChangesResponse, WatchChangesResponse
from npd_client import receipts
from npd_client.cli import tables
from npd_client.cli.options import (
    AddressOption,
    AgreementOption,
    BirthDateOption,
    CaseOption,
    DirectoryOption,
    EndpointsOption,
    JsonOption,
    LanguageOption,
    NameOption,
    OfficerOption,
    PinOption,
    ask_identity,
    connected,
    ground,
)
from npd_client.cli.outcome import ExitCode, Language, answering
from npd_client.client import Client
from npd_client.errors import Refusal

app = typer.Typer(
    name="npd-client",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, and those hold personal data
    rich_markup_mode="rich",
)


@app.callback()
def about() -> None:
    """Call the National Population Database mesh with your system's certificate.

    Answers go to the standard output, refusals and everything else to the standard error.

    Exit codes: 0 answered; 1 refused, the reason is printed; 2 usage; 3 unreachable, or your own certificate is not in
    order; 4 NO_MATCH, which is an answer: what was stated does not match, nothing was released; 5 a proof does not hold.
    """
