"""The commands about one's own certificate: get it, renew it, see how it stands, find out what is wrong with it."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from npd_client import enrolment
from npd_client.channel import RotatingChannel
from npd_client.cli import findings, tables
from npd_client.cli.options import (
    AddressOption,
    DirectoryOption,
    EndpointsOption,
    JsonOption,
    LanguageOption,
    ask_secret,
    own_directory,
    room_address,
)
from npd_client.cli.outcome import Language, answering
from npd_client.credentials import Credentials
from npd_client.doctor import diagnose
from npd_client.pending import KEY_TYPES, Pending
from npd_client.probing import TargetMalformed
from npd_client.renewal import ask_window, renew_signing
from npd_client.renewal import renew as renew_certificate
from npd_client.taking import Taken

DoorOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--door",
        envvar="NPD_CLIENT_DOOR",
        help='Address of the issuer\'s door, host:port; by default "door" of the endpoints file.',
        show_default=False,
        rich_help_panel="Connection",
    ),
]


def enrol(
    ca: Annotated[
        Path | None,
        typer.Option("--ca", help="ca.crt that your PKI administrator gave you: what to trust.", show_default=False),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the token. Otherwise it is asked for.", show_default=False),
    ] = None,
    key_type: Annotated[str, typer.Option("--key-type", help=f"One of {', '.join(KEY_TYPES)}.")] = KEY_TYPES[0],
    csr: Annotated[
        Path | None,
        typer.Option(
            "--csr",
            help="Signing request (PEM) for a key of your own, as from an HSM; no key is made.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also over a certificate that is there.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Ask how the enrolment of this directory stands, and go on with it.")
    ] = False,
    door: DoorOption = None,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Get the first certificate of a system, with the one-time token that the operator handed over.

    The private key is made here and never leaves. If somebody has to approve first, ask again with --resume. After an
    interruption give the same command again: the token is not lost.

    Example: npd-client enrol --door issuer.npd.gov.vn:7107 --ca ca.crt --token-file token -d /etc/npd/tax-core

    Example: npd-client enrol --resume -d /etc/npd/tax-core
    """
    with answering(lang, as_json=as_json):
        place = own_directory(directory)
        if resume:
            done = enrolment.resume(place, door=door or "")
        else:
            if ca is None:
                raise typer.BadParameter("name the roots that your PKI administrator gave you: --ca ca.crt")
            token = token_file.read_text(encoding="utf-8").strip() if token_file else ask_secret("Token")
            done = enrolment.enrol(
                door or room_address("door", endpoints),
                token,
                place,
                roots=ca.read_bytes(),
                key_type=key_type,
                csr=csr.read_bytes() if csr else b"",
                over_existing=replace,
            )
        taken = _facts_of(done.taken) if done.taken else {}
        _print(_facts_of_application(done) | taken, as_json=as_json)
        if done.taken is None and not as_json:
            print(_WAITS[lang], file=sys.stderr)


def renew(
    now: Annotated[bool, typer.Option("--now", help="Also before the window that the issuer tells.")] = False,
    expired: Annotated[
        bool, typer.Option("--expired", help="A certificate that has expired, after an operator enabled it.")
    ] = False,
    signing: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Renew the signing certificate in DIR instead, now, with -d to call by."),
    ] = None,
    door: DoorOption = None,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Renew your certificate, with a new key, if the issuer says that it is time. Running programs take it.

    Needed only where no program with npd-client's Client runs: it renews by itself. Exit code 0: renewed, or not yet.

    Example: npd-client renew -d /etc/npd/tax-core

    Example: npd-client renew --signing /etc/npd/tax-core-signing -d /etc/npd/tax-core

    Example: npd-client renew --expired --door issuer.npd.gov.vn:7107 -d /etc/npd/tax-core
    """
    with answering(lang, as_json=as_json):
        place = own_directory(directory)
        if expired:
            taken = enrolment.renew_expired(door or room_address("door", endpoints), place)
            _print(_facts_of(taken), as_json=as_json)
            return
        with RotatingChannel(address or room_address("issuer", endpoints), place) as channel:
            if signing is not None:
                _print(_facts_of(renew_signing(signing, channel)), as_json=as_json)
                return
            if not now:
                window = ask_window(channel)
                if datetime.now(UTC) < window.start_time:
                    facts = {"renewed": "not yet", "from": _text(window.start_time), "until": _text(window.end_time)}
                    _print(facts, as_json=as_json)
                    return
            _print(_facts_of(renew_certificate(place, channel)), as_json=as_json)


def status(
    door: DoorOption = None,
    directory: DirectoryOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Show how an enrolment under way stands; without one, the certificate of the directory, asking nobody.

    Example: npd-client status -d /etc/npd/tax-core
    """
    with answering(lang, as_json=as_json):
        place = own_directory(directory)
        pending = Pending.read(place)
        if pending is not None and pending.token:
            stands = enrolment.ask_status(place, door=door or "")
            _print(_facts_of_application(stands), as_json=as_json)
            return
        own = Credentials.from_directory(place)
        facts = {
            "identity": own.identity,
            "serial number": f"{own.leaf.serial_number:x}",
            "issuer": own.leaf.issuer.rfc4514_string(),
            "valid from": _text(own.leaf.not_valid_before_utc),
            "valid until": _text(own.expire_time),
        }
        _print(facts, as_json=as_json)


def doctor(
    target: Annotated[
        str, typer.Argument(metavar="[HOST:PORT]", help="The room that does not answer; by default the registry.")
    ] = "",
    door: DoorOption = None,
    directory: DirectoryOption = None,
    endpoints: EndpointsOption = None,
    as_json: JsonOption = False,
    lang: LanguageOption = Language.ENGLISH,
) -> None:
    """Find out why a connection does not come about: files, clock, name, network, server's certificate, mesh's view.

    Exit codes: 0 nothing is wrong; 1 something is; 3 nothing answers at the address.

    Example: npd-client doctor sharing.npd.gov.vn:7005 --door issuer.npd.gov.vn:7107 -d /etc/npd/tax-core
    """
    with answering(lang, as_json=as_json):
        address = target or room_address("registry", endpoints)
        try:
            found = diagnose(address, own_directory(directory), door=door or room_address("door", endpoints, ""))
        except TargetMalformed as error:
            raise typer.BadParameter(str(error)) from None
        findings.show(found, lang, as_json=as_json)
        if code := findings.exit_code(found):
            raise typer.Exit(code)


_WAITS = {
    Language.ENGLISH: "An operator has to approve it: tell him application and key. Then: npd-client enrol --resume",
    Language.VIETNAMESE: "Cần người vận hành phê duyệt; hãy báo mã đơn và khóa. Sau đó: npd-client enrol --resume",
}


def _facts_of_application(stands: enrolment.Enrolment) -> dict[str, str]:
    facts = {"application": stands.application_id, "state": stands.state, "identity": stands.identity}
    if stands.taken is None:
        facts |= {"key": stands.key_id, "approve until": _text(stands.expire_time)}
    return facts


def _facts_of(taken: Taken) -> dict[str, str]:
    return {
        "identity": taken.identity,
        "serial number": taken.serial_number,
        "valid until": _text(taken.expire_time),
    }


def _print(facts: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({label.replace(" ", "_"): fact for label, fact in facts.items()}, ensure_ascii=False))
    else:
        tables.show_facts(facts)


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
