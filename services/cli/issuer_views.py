"""Answers of the issuer as tables and as CSV. A cell of a CSV file is never taken for a formula by who opens it."""

import csv
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from npd.issuer.v1 import authority_pb2, certificate_pb2, enrolment_pb2
from npd.registry.v1 import policy_pb2, revocation_pb2
from services.cli.views import console, time_text

_COLUMNS = (
    "identity",
    "profile",
    "state",
    "start_time",
    "expire_time",
    "issuer_key_id",
    "serial_number",
    "key_id",
    "revoke_time",
    "revocation_reason",
    "application_id",
)
_STYLES = {
    "ISSUED": "green",
    "ACTIVE": "green",
    "OPEN": "yellow",
    "PENDING": "yellow",
    "PREPARED": "yellow",
    "INTENT": "yellow",
    "TAINTED": "yellow",
    "REVOKED": "red",
    "DENIED": "red",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SHORT = 16


def state_of(certificate: certificate_pb2.Certificate) -> str:
    """Its state in a word."""
    return certificate_pb2.CertificateState.Name(certificate.state).removeprefix("CERTIFICATE_STATE_")


def profile_of(profile: "certificate_pb2.CertificateProfile.ValueType") -> str:
    """What it is for, as commands spell it."""
    return certificate_pb2.CertificateProfile.Name(profile).removeprefix("CERTIFICATE_PROFILE_").lower()


def application_state_of(application: certificate_pb2.Application) -> str:
    """Its state in a word."""
    return certificate_pb2.ApplicationState.Name(application.state).removeprefix("APPLICATION_STATE_")


def authority_state_of(authority: authority_pb2.Authority) -> str:
    """Its state in a word; one whose files lie ready and that was not prepared has none yet."""
    name = policy_pb2.AuthorityState.Name(authority.state).removeprefix("AUTHORITY_STATE_")
    return "NOT PREPARED" if name == "UNSPECIFIED" else name


def show_certificates(certificates: Sequence[certificate_pb2.Certificate], *, more: int = 0) -> None:
    """Certificates, a line each; `more` were left out."""
    shown, now = console(), datetime.now(UTC)
    if not certificates:
        shown.print("No certificate.")
        return
    table = _table("identity", "for", "state", "expires", "", "serial number")
    table.columns[0].overflow = table.columns[5].overflow = "fold"
    for one in certificates:
        state = state_of(one)
        reason = _reason_of(one).lower()
        table.add_row(
            one.identity.partition("://")[2],
            profile_of(one.profile),
            Text.assemble((state, _STYLES.get(state, "")), f"\n{reason}" if reason else ""),
            time_text(one.expire_time)[:10],
            _left(one.expire_time, now),
            one.serial_number,
        )
    shown.print(table)
    shown.print(f"{len(certificates) + more:,} in all" + (f", {more:,} of them not shown" if more else ""))


def show_certificate(one: certificate_pb2.Certificate) -> None:
    """All that is known of a certificate."""
    facts = {
        "identity": one.identity,
        "for": profile_of(one.profile),
        "state": state_of(one),
        "valid from": time_text(one.start_time),
        "until": time_text(one.expire_time),
        "serial number": one.serial_number,
        "issuer key id": one.issuer_key_id,
        "key id": one.key_id,
        "application": one.application_id,
        "revoked": time_text(one.revoke_time),
        "reason": _reason_of(one).lower(),
    }
    _show_facts(facts)


def write_csv(certificates: Iterable[certificate_pb2.Certificate]) -> None:
    """Certificates for a spreadsheet, with all facts, times in UTC."""
    _write_rows(_COLUMNS, (_facts_of(one) for one in certificates))


def show_expiring(agencies: Iterable[certificate_pb2.ExpiringAtAgency]) -> None:
    """What expires soon, by agency, with whom to call."""
    shown, now, is_empty = console(), datetime.now(UTC), True
    for agency in agencies:
        is_empty = False
        title = f"{agency.agency_id}: {agency.agency_name}" if agency.agency_id else "Operators"
        shown.print(title, style="bold")
        if agency.agency_id:
            shown.print(f"contact: {agency.contact or 'none was given'}", soft_wrap=True)
        table = _table("identity", "for", "expires", "", "serial number")
        for one in agency.certificates:
            cells = (one.identity.partition("://")[2], profile_of(one.profile), time_text(one.expire_time)[:10])
            table.add_row(*cells, _left(one.expire_time, now), one.serial_number)
        shown.print(table)
    if is_empty:
        shown.print("Nothing expires so soon that has no successor yet.")


def write_expiring_csv(agencies: Iterable[certificate_pb2.ExpiringAtAgency]) -> None:
    """What expires soon for a spreadsheet: a line for each certificate, with whom to call."""
    rows = (
        (agency.agency_id, agency.agency_name, agency.contact, *_facts_of(one))
        for agency in agencies
        for one in agency.certificates
    )
    _write_rows(("agency_id", "agency_name", "contact", *_COLUMNS), rows)


def show_applications(applications: Sequence[certificate_pb2.Application]) -> None:
    """Applications, a line each."""
    if not applications:
        console().print("No application.")
        return
    table = _table("application", "identity", "for", "state", "applied", "by")
    table.columns[0].no_wrap = True
    for one in applications:
        state = application_state_of(one)
        table.add_row(
            one.application_id,
            one.identity.partition("://")[2],
            profile_of(one.profile),
            Text(state, _STYLES.get(state, "")),
            time_text(one.apply_time)[:16],
            one.applicant.partition("://")[2] or one.applicant,
        )
    console().print(table)


def show_application(one: certificate_pb2.Application) -> None:
    """All that is known of an application."""
    facts = {
        "application": one.application_id,
        "identity": one.identity,
        "for": f"{profile_of(one.profile)}, version {one.profile_version}",
        "state": application_state_of(one),
        "reason": one.reason,
        "applied": time_text(one.apply_time),
        "by": one.applicant,
        "decided until": time_text(one.expire_time),
        "key id": one.key_id,
        "request digest": one.csr_digest.hex(),
    }
    _show_facts(facts)


def show_enrolments(enrolments: Sequence[enrolment_pb2.Enrolment]) -> None:
    """Enrolments, a line each."""
    if not enrolments:
        console().print("No enrolment.")
        return
    table = _table("enrolment", "identity", "for", "state", "until", "by")
    table.columns[0].no_wrap = True
    for one in enrolments:
        state = enrolment_state_of(one)
        cells = (one.enrolment_id, one.identity.partition("://")[2], profile_of(one.profile))
        table.add_row(
            *cells, Text(state, _STYLES.get(state, "")), time_text(one.expire_time)[:16], one.creator.rpartition("/")[2]
        )
    console().print(table)


def enrolment_state_of(enrolment: enrolment_pb2.Enrolment) -> str:
    """Its state in a word."""
    return enrolment_pb2.EnrolmentState.Name(enrolment.state).removeprefix("ENROLMENT_STATE_")


def show_authorities(authorities: Sequence[authority_pb2.Authority]) -> None:
    """Authorities, a line each; the first digits of a key id are enough to name one."""
    if not authorities:
        console().print("No authority: neither files nor records of one are here.")
        return
    table = _table("key id", "host", "state", "since", "expires", "unexpired", "key here", "not heard by")
    for one in authorities:
        state = authority_state_of(one)
        table.add_row(
            one.key_id[:_SHORT],
            one.host,
            Text(state, _STYLES.get(state, "")),
            time_text(one.state_time)[:16],
            time_text(one.expire_time)[:10],
            f"{one.unexpired_count:,}",
            "yes" if one.has_key else "no",
            ", ".join(one.unacknowledged_rooms),
        )
    table.columns[5].justify = "right"
    console().print(table)


def authority_sentence(one: authority_pb2.Authority) -> str:
    """An authority's state in a sentence."""
    return (
        f"authority {one.key_id[:_SHORT]} of {one.host} is {authority_state_of(one)} since {time_text(one.state_time)}"
    )


def _table(*headings: str) -> Table:
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    table.columns[-1].overflow = "fold"
    return table


def _show_facts(facts: dict[str, str]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    console().print(table)


def _facts_of(one: certificate_pb2.Certificate) -> tuple[str, ...]:
    return (
        one.identity,
        profile_of(one.profile),
        state_of(one),
        _instant(one.start_time),
        _instant(one.expire_time),
        one.issuer_key_id,
        one.serial_number,
        one.key_id,
        _instant(one.revoke_time),
        _reason_of(one),
        one.application_id,
    )


def _write_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    written = csv.writer(sys.stdout, lineterminator="\n")
    written.writerow(columns)
    written.writerows([_plain(cell) for cell in row] for row in rows)


def _plain(cell: str) -> str:
    """A spreadsheet runs what begins like a formula; agencies choose their own names and contacts."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _reason_of(one: certificate_pb2.Certificate) -> str:
    if not one.revocation_reason:
        return ""
    return revocation_pb2.RevocationReason.Name(one.revocation_reason).removeprefix("REVOCATION_REASON_")


def _instant(moment: Timestamp) -> str:
    return moment.ToJsonString() if moment.seconds else ""


def _left(moment: Timestamp, now: datetime) -> str:
    """How long until an instant; nothing for one that is past."""
    seconds = moment.seconds - now.timestamp()
    if seconds <= 0:
        return ""
    return f"in {seconds / 86_400:.0f} d" if seconds >= 172_800 else f"in {seconds / 3600:.0f} h"
