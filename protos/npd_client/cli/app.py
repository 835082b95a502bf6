"""The commands of `npd-client`: options in, one call of the client, an answer out."""

import base64
import json
from pathlib import Path
from typing import Annotated

import typer

from npd.common.v1.evidence_pb2 import Outcome
from npd_client import receipts
from npd_client.cli import certificates, tables
from npd_client.cli.claims import claims_of, predicates_of
from npd_client.cli.following import LaneName, follow, keep_place, read_place
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
    ask_claim,
    ask_identity,
    connected,
    ground,
)
from npd_client.cli.outcome import ExitCode, Language, answering

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

    Exit codes:
    0  answered
    1  refused; the reason is printed
    2  usage: an option or a file is missing or malformed
    3  unreachable, or your own certificate is not in order
    4  NO_MATCH, which is an answer: what was stated does not match, and nothing was released
    5  a proof does not hold
    """


@app.command()
def whoami(
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Show whom the mesh takes you for, the state of your system, and until when your certificate is valid.

    Example: npd-client whoami --directory .npd/agencies/tax/core
    """
    with connected(directory, endpoints, address, lang, as_json=as_json) as client:
        answer = client.who_am_i()
        tables.print_json(answer) if as_json else tables.show_identity(answer)


@app.command()
def rights(
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Show what each of your agreements grants now, and if nothing, why.

    Example: npd-client rights --directory .npd/agencies/tax/core
    """
    with connected(directory, endpoints, address, lang, as_json=as_json) as client:
        answer = client.describe_rights()
        tables.print_json(answer) if as_json else tables.show_rights(answer)


@app.command()
def lookup(
    agreement: AgreementOption,
    case: CaseOption,
    officer: OfficerOption,
    field: Annotated[
        list[str],
        typer.Option("--field", "-f", help="Path of Person to read; repeat it, or separate paths by commas."),
    ],
    pin: PinOption = "",
    name: NameOption = "",
    birth_date: BirthDateOption = "",
    provenance: Annotated[bool, typer.Option("--provenance", help="Also say which source told each field.")] = False,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Read granted fields of one citizen, if PIN, full name and birth date match. Exit code 4: they do not (NO_MATCH).

    Example: npd-client lookup -d .npd/agencies/tax/core -a AGREEMENT -c HS-2026/17 -o officer-1 -f permanent_residence

    From a script, without arguments that others can see:
    printf '%s\\n' "$PIN" "$NAME" "$BIRTH_DATE" | npd-client lookup ...
    """
    with connected(directory, endpoints, address, lang, as_json=as_json) as client:
        citizen = ask_identity(pin, name, birth_date)
        paths = [path.strip() for given in field for path in given.split(",") if path.strip()]
        answer = client.get_citizen(
            ground(agreement, case, officer), *citizen, fields=paths, include_provenance=provenance
        )
        if as_json:
            tables.print_json(answer)
        elif answer.outcome == Outcome.OUTCOME_DISCLOSED:
            tables.show_citizen(answer)
        _end_with(answer.outcome, as_json=as_json)


@app.command()
def usage(
    agreement: AgreementOption,
    case: CaseOption,
    officer: OfficerOption,
    pin: PinOption = "",
    name: NameOption = "",
    birth_date: BirthDateOption = "",
    page_size: Annotated[int, typer.Option(help="Uses at most, 1 to 200; 0 means 50.")] = 0,
    page_token: Annotated[str, typer.Option(help="Token of the next page, from an earlier answer.")] = "",
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Show who used a citizen's record, newest first. Exit code 4: what was stated does not match (NO_MATCH).

    Example: npd-client usage -d .npd/agencies/portal/citizen -a AGREEMENT -c REQ-9 -o portal
    """
    with connected(directory, endpoints, address, lang, as_json=as_json) as client:
        citizen = ask_identity(pin, name, birth_date)
        answer = client.find_usage(
            ground(agreement, case, officer), *citizen, page_size=page_size, page_token=page_token
        )
        if as_json:
            tables.print_json(answer)
        elif answer.outcome == Outcome.OUTCOME_DISCLOSED:
            tables.show_usage(answer)
        _end_with(answer.outcome, as_json=as_json)


@app.command()
def watch(
    agreement: AgreementOption,
    case: CaseOption,
    officer: OfficerOption,
    cursor: Annotated[str, typer.Option(help="Go on after this place, INCARNATION:POSITION. Otherwise from now.")] = "",
    cursor_file: Annotated[
        Path | None, typer.Option(help="Keep the place in this file, and go on from there.", show_default=False)
    ] = None,
    from_oldest: Annotated[bool, typer.Option("--from-oldest", help="Begin with the oldest change.")] = False,
    lane: Annotated[LaneName, typer.Option(help="Only this lane; it has a place of its own.")] = LaneName.ALL,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="Tell the mesh that what was printed is received and applied.")
    ] = False,
    limit: Annotated[int, typer.Option(help="End after this many changes; 0 means never.")] = 0,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Follow changes until Ctrl-C, across interruptions, each once. With --json a line for each message.

    Example: npd-client watch -d .npd/agencies/health/insurance -a AGREEMENT -c SYNC -o sync --cursor-file place
    """
    with connected(directory, endpoints, address, lang, as_json=as_json, lasting=True) as client:
        place, access, seen = read_place(cursor, cursor_file), ground(agreement, case, officer), 0
        followed = follow(client, access, place, from_oldest=from_oldest, language=lang, lane=lane.number)
        for message in followed:
            tables.print_json(message, one_line=True) if as_json else tables.show_changes(message)
            if cursor_file is not None:
                keep_place(message.cursor, cursor_file)
            if acknowledge:
                client.acknowledge(access, received=message.cursor, applied=message.cursor, lane=lane.number)
            seen += len(message.changes)
            if limit and seen >= limit:
                return


@app.command()
def prove(
    leaf_hash: Annotated[str, typer.Argument(help="Leaf hash of a receipt, in hex or base64.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, such as answer.tlog-proof.")],
    key: Annotated[
        Path | None, typer.Option("--key", help="Also check the proof with this verifier key.", show_default=False)
    ] = None,
    room: Annotated[
        str, typer.Option(help="Whose log: sharing (disclosures) or registry (acts of authority).")
    ] = "sharing",
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Fetch the proof that an answer of yours stands in the log, as one file, which `verify-proof` checks offline.

    Example: npd-client prove 4be1... --out answer.tlog-proof --key .npd/keys/sharing.vkey -d .npd/agencies/tax/core
    """
    with connected(directory, endpoints, address, lang, as_json=as_json) as client:
        trusted = None if key is None else receipts.read_verifier_key(key)
        proof = receipts.prove(client, _leaf_hash(leaf_hash), out, room=room, verifier_key=trusted)
        facts = {"file": str(out), "index": proof.index, "checked": key is not None}
        print(json.dumps(facts)) if as_json else tables.show_facts({label: str(fact) for label, fact in facts.items()})


@app.command()
def verify(
    agreement: AgreementOption,
    case: CaseOption,
    officer: OfficerOption,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            "--claim",
            help="FIELD=VALUE, such as marital_status=SINGLE; FIELD= claims that there is no value. The value of FIELD "
            "alone is asked for. Repeat it for more.",
            show_default=False,
        ),
    ] = None,
    age_at_least: Annotated[int | None, typer.Option(help="Age in years.", show_default=False)] = None,
    alive: Annotated[
        bool | None, typer.Option("--alive/--not-alive", help="Alive and not declared missing.", show_default=False)
    ] = None,
    resides_in: Annotated[str, typer.Option(help="CODE@LIST of a unit, such as 01@2025-07-01.")] = "",
    nationality: Annotated[str, typer.Option(help="Country code of two capital letters.")] = "",
    pin: PinOption = "",
    name: NameOption = "",
    birth_date: BirthDateOption = "",
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Have claims about one citizen confirmed or contradicted; no value is released. Exit code 4: NO_MATCH.

    Example: npd-client verify -d .npd/agencies/tax/core -a AGREEMENT -c HS-2026/17 -o officer-1 --age-at-least 18
    """
    with connected(directory, endpoints, address, lang, as_json=as_json) as client:
        citizen = ask_identity(pin, name, birth_date)
        claimed, fields = claims_of(claim or [], ask_claim)
        predicates = predicates_of(age_at_least, alive, resides_in, nationality)
        answer = client.verify_citizen(
            ground(agreement, case, officer), *citizen, claimed, fields=fields, predicates=predicates
        )
        if as_json:
            tables.print_json(answer)
        elif answer.outcome == Outcome.OUTCOME_DISCLOSED:
            tables.show_verdicts(answer, predicates)
        _end_with(answer.outcome, as_json=as_json)


@app.command()
def verify_proof(
    proof_file: Annotated[Path, typer.Argument(help="File that `prove` wrote.")],
    key: Annotated[Path, typer.Option("--key", help="Verifier key of the log, such as .npd/keys/sharing.vkey.")],
    leaf_hash: Annotated[
        str, typer.Option(help="Leaf hash of your receipt, so that no other entry is taken for it.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Check a proof file without a network: that the log of this key holds this entry. Exit code 5: it does not hold.

    Example: npd-client verify-proof answer.tlog-proof --key .npd/keys/sharing.vkey --leaf-hash 4be1...
    """
    with answering(as_json=as_json):
        trusted = receipts.read_verifier_key(key)
        proven = receipts.open_proof(proof_file.read_bytes(), trusted, _leaf_hash(leaf_hash) if leaf_hash else None)
        facts = {
            "log_origin": proven.checkpoint.origin,
            "index": proven.index,
            "tree_size": proven.checkpoint.size,
            "leaf_hash": proven.leaf_hash.hex(),
        }
        if as_json:
            print(json.dumps({**facts, "entry": tables.json_of(proven.entry)}, ensure_ascii=False, indent=2))
        else:
            print("PROVEN: the log holds this entry.")
            tables.show_facts({label: str(fact) for label, fact in facts.items()} | dict(tables.flatten(proven.entry)))


app.command()(certificates.enrol)
app.command()(certificates.renew)
app.command()(certificates.status)
app.command()(certificates.doctor)


def _leaf_hash(text: str) -> bytes:
    """32 bytes, as `lookup` prints them (hex) or as proto JSON does (base64)."""
    try:
        leaf_hash = bytes.fromhex(text) if len(text) == 64 else base64.b64decode(text, validate=True)
    except ValueError:
        leaf_hash = b""
    if len(leaf_hash) != 32:
        raise typer.BadParameter("a leaf hash has 32 bytes: 64 hex digits, or 44 characters of base64")
    return leaf_hash


def _end_with(outcome: "Outcome.ValueType", *, as_json: bool) -> None:
    if outcome == Outcome.OUTCOME_NO_MATCH:
        if not as_json:
            print("NO_MATCH: PIN, name and birth date do not belong together. Nothing was released.")
        raise typer.Exit(ExitCode.NO_MATCH)
