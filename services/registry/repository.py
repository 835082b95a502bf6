"""The registry's rows, inside a transaction: domain objects in, domain objects out. Decides nothing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ARRAY, BigInteger, Connection, Row, Table, Text, cast, func, literal, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert

from services.mesh.core.answers import Answers
from services.mesh.core.authorities import Authority
from services.mesh.core.contacts import Activity, Backlog, Flow, Lag
from services.mesh.core.db import Database
from services.mesh.core.evidence.log import Log
from services.mesh.core.rights import System
from services.registry.domain import (
    Agency,
    Agreement,
    CertificateName,
    Change,
    LastContact,
    LastFlow,
    LawInForce,
    Officer,
    Page,
    PolicyObject,
    Revocation,
)
from services.registry.rows import (
    READERS,
    agency_of,
    agreement_of,
    authority_of,
    calendar_of,
    clock_of,
    field_of,
    officer_of,
    provision_of,
    purpose_of,
    revocation_of,
    row_of,
    system_of,
)
from services.registry.tables import (
    AGENCIES,
    AGREEMENTS,
    CALENDARS,
    CERTIFICATE_AUTHORITIES,
    CLOCKS,
    CONTACTS,
    FIELDS,
    FLOWS,
    OFFICERS,
    OPERATORS,
    POLICY_REVISION,
    PROVISIONS,
    PURPOSES,
    REVOCATIONS,
    SYSTEMS,
)

T = TypeVar("T")

_WELL_ABOVE = 1_000
CHANNEL = "policy"
"""Channel of NOTIFY on which every commit that raised the revision tells the new one."""


class PolicyRows:
    """The policy's rows. Whoever changes them holds the revision's row, so that revisions follow the commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self) -> None:
        """Wait for the other transaction that changes the policy, if there is one; then no other can until the end."""
        self._connection.execute(select(POLICY_REVISION.c.revision).with_for_update())

    def advance(self) -> int:
        """Raise the revision by one, and tell so at the commit. Returns the revision of the rows that change now."""
        raised = POLICY_REVISION.update().values(revision=POLICY_REVISION.c.revision + 1)
        revision: int = self._connection.execute(raised.returning(POLICY_REVISION.c.revision)).scalar_one()
        self._connection.execute(select(func.pg_notify(CHANNEL, str(revision))))
        return revision

    def put(self, *subjects: PolicyObject, revision: int, removed: bool = False) -> None:
        """Write objects as they are now, at a revision."""
        rows: dict[Table, list[dict[str, object]]] = {}
        for subject in subjects:
            table, values = row_of(subject)
            rows.setdefault(table, []).append({**values, "revision": revision, "removed": removed})
        for table, written in rows.items():
            row = insert(table)
            changed = {column.name: row.excluded[column.name] for column in table.columns if not column.primary_key}
            keys = list(table.primary_key.columns)
            self._connection.execute(row.on_conflict_do_update(index_elements=keys, set_=changed), written)

    def go_on_above(self, revision: int) -> None:
        """Go on a good way above a revision that this store was seen not to have reached: it was restored.

        Whoever holds a revision of before gets a whole snapshot, for now it stands for other changes. The store may
        have reached that revision meanwhile; it goes on all the same, unless it did already.
        """
        above = func.greatest(POLICY_REVISION.c.revision, revision) + _WELL_ABOVE
        raised = POLICY_REVISION.update().where(POLICY_REVISION.c.whole_below <= revision)
        self._connection.execute(raised.values(revision=above, whole_below=above))

    def go_on_restored(self) -> None:
        """Go on a good way above all that this store may have reached before it was restored from a backup.

        Who asks from a revision of before gets a whole snapshot, before anybody can give such a revision anew. By the
        clock, in milliseconds: a count would lead two restores of one backup to the same revisions.
        """
        milliseconds = cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger)
        above = func.greatest(POLICY_REVISION.c.revision + _WELL_ABOVE, milliseconds)
        self._connection.execute(POLICY_REVISION.update().values(revision=above, whole_below=above))

    def since(self, revision: int) -> tuple[int, int, list[Change]]:
        """The revision to build on, the newest, and what changed between; on 0: all that there is. All at one instant.

        The first statement of a transaction, for it fixes the instant.
        """
        self._connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        newest, whole_below = self._connection.execute(
            select(POLICY_REVISION.c.revision, POLICY_REVISION.c.whole_below)
        ).one()
        if newest == revision:
            return revision, newest, []
        is_whole = revision < whole_below or revision > newest or revision == 0
        changes = []
        for table, read in READERS.items():
            wanted = table.c.removed.is_(False) if is_whole else table.c.revision > revision
            rows = self._connection.execute(table.select().where(wanted))
            changes += [Change(read(row), row.removed) for row in rows]
        return 0 if is_whole else revision, newest, changes

    def agency(self, agency_id: str) -> Agency | None:
        """An agency."""
        return self._one(AGENCIES, agency_of, agency_id=agency_id)

    def agencies(self, page: Page) -> list[Agency]:
        """Agencies by id."""
        return self._page(AGENCIES, agency_of, page)

    def system(self, agency_id: str, system_id: str) -> System | None:
        """A system."""
        return self._one(SYSTEMS, system_of, agency_id=agency_id, system_id=system_id)

    def systems(self, page: Page | None = None, *, agency_id: str = "") -> list[System]:
        """Systems by agency and id; of one agency, if it is given."""
        return self._page(SYSTEMS, system_of, page, agency_id=agency_id)

    def on_roster(self, officers: Sequence[Officer]) -> set[Officer]:
        """Those of the officers, all of one agency, who are on its roster."""
        names = [officer.officer_id for officer in officers]
        mine = OFFICERS.c.agency_id == officers[0].agency_id
        rows = OFFICERS.select().where(mine, OFFICERS.c.officer_id.in_(names), OFFICERS.c.removed.is_(False))
        return {officer_of(row) for row in self._connection.execute(rows)}

    def agreement(self, agreement_id: str) -> Agreement | None:
        """An agreement."""
        return self._one(AGREEMENTS, agreement_of, agreement_id=agreement_id)

    def agreements(self, page: Page, *, agency_id: str = "") -> list[Agreement]:
        """Agreements by id; of one agency, if it is given."""
        return self._page(AGREEMENTS, agreement_of, page, agency_id=agency_id)

    def revocation(self, issuer_key_id: str, serial_number: str) -> Revocation | None:
        """A revocation."""
        return self._one(REVOCATIONS, revocation_of, issuer_key_id=issuer_key_id, serial_number=serial_number)

    def revoked(self, certificates: Iterable[CertificateName]) -> set[CertificateName]:
        """Those of the certificates that are revoked."""
        serial_numbers: dict[str, list[str]] = {}
        for certificate in certificates:
            serial_numbers.setdefault(certificate.issuer_key_id, []).append(certificate.serial_number)
        found = set()
        for issuer_key_id, sought in serial_numbers.items():
            # one array, for a statement takes 65,535 parameters at most and an authority may have more leaves
            is_sought = REVOCATIONS.c.serial_number == func.any(literal(sought, ARRAY(Text)))
            rows = select(REVOCATIONS.c.serial_number).where(
                REVOCATIONS.c.issuer_key_id == issuer_key_id, is_sought, REVOCATIONS.c.removed.is_(False)
            )
            found |= {CertificateName(issuer_key_id, each) for each in self._connection.execute(rows).scalars()}
        return found

    def authority(self, key_id: str) -> Authority | None:
        """A certification authority."""
        return self._one(CERTIFICATE_AUTHORITIES, authority_of, key_id=key_id)

    def operators(self) -> set[str]:
        """Names of the operators."""
        return set(self._connection.execute(select(OPERATORS.c.name).where(OPERATORS.c.removed.is_(False))).scalars())

    def law_for(self, provision: str, purpose: str) -> LawInForce:
        """What an agreement with this provision and purpose is measured by, in force or not."""
        return LawInForce(
            provision=self._one(PROVISIONS, provision_of, provision_id=provision),
            purpose=self._one(PURPOSES, purpose_of, code=purpose),
            fields={field.path: field for field in self._page(FIELDS, field_of)},
        )

    def law(self) -> list[PolicyObject]:
        """Provisions, fields, purposes, clocks and calendars."""
        tables: list[tuple[Table, Callable[[Row[Any]], PolicyObject]]]
        tables = [(PROVISIONS, provision_of), (FIELDS, field_of), (PURPOSES, purpose_of)]
        tables += [(CLOCKS, clock_of), (CALENDARS, calendar_of)]
        return [one for table, read in tables for one in self._page(table, read)]

    def _one(self, table: Table, read: Callable[[Row[Any]], T], **key: str) -> T | None:
        mine = [table.c[name] == value for name, value in key.items()]
        row = self._connection.execute(table.select().where(*mine, table.c.removed.is_(False))).first()
        return None if row is None else read(row)

    def _page(
        self, table: Table, read: Callable[[Row[Any]], T], page: Page | None = None, *, agency_id: str = ""
    ) -> list[T]:
        keys = list(table.primary_key.columns)
        rows = table.select().where(table.c.removed.is_(False)).order_by(*(key.collate("C") for key in keys))
        if agency_id:
            rows = rows.where(table.c.agency_id == agency_id)
        if page is not None:
            rows = rows.limit(page.limit)
            if page.after is not None:
                after = tuple_(*(literal(value) for value in page.after))
                rows = rows.where(tuple_(*(key.collate("C") for key in keys)) > after)
        return [read(row) for row in self._connection.execute(rows)]


class ContactRows:
    """When systems and rooms were last heard of. Not part of the policy: no revision, no lock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def note(self, contacts: Sequence[LastContact]) -> None:
        """Move times forward, never back. Rows are taken in the order of names, so that two reports never deadlock."""
        ordered = sorted(contacts, key=lambda contact: contact.name)
        if not ordered:
            return
        row = insert(CONTACTS)
        later = {name: func.greatest(CONTACTS.c[name], row.excluded[name]) for name in ("contact_time", "success_time")}
        row = row.on_conflict_do_update(index_elements=[CONTACTS.c.name], set_=later)
        self._connection.execute(row, [_contact_row(contact) for contact in ordered])

    def all(self) -> dict[str, LastContact]:
        """Contacts by name, in its order."""
        rows = self._connection.execute(CONTACTS.select().order_by(CONTACTS.c.name.collate("C")))
        return {row.name: LastContact(row.name, row.contact_time, row.success_time) for row in rows}


class FlowRows:
    """How far messages and changes have flowed, as last reported. Not part of the policy: no revision, no lock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def note(self, room: str, flow: Flow, policy_revision: int) -> None:
        """Take a room's word. The time of a contribution moves forward; of everything else the last word counts."""
        self._lock({room} | {activity.name for activity in flow.activities} | {lag.name for lag in flow.lags})
        self._update(room, {"policy_revision": policy_revision})
        if flow.backlog is not None:
            self._update(room, _backlog_row(flow.backlog))
        for activity in flow.activities:
            self._move_forward(activity)
        for lag in flow.lags:
            self._update(lag.name, _lag_row(lag))

    def all(self) -> dict[str, LastFlow]:
        """What was last reported, by name."""
        return {row.name: _flow(row) for row in self._connection.execute(FLOWS.select())}

    def _lock(self, names: set[str]) -> None:
        """Hold the rows, taken in the order of names, so that two reports never deadlock."""
        row = insert(FLOWS).on_conflict_do_nothing()
        self._connection.execute(row, [{"name": name} for name in sorted(names)])
        mine = select(FLOWS.c.name).where(FLOWS.c.name.in_(names)).order_by(FLOWS.c.name.collate("C"))
        self._connection.execute(mine.with_for_update()).all()

    def _update(self, name: str, values: dict[str, object]) -> None:
        self._connection.execute(FLOWS.update().where(FLOWS.c.name == name).values(values))

    def _move_forward(self, activity: Activity) -> None:
        later = func.greatest(FLOWS.c.contribution_time, activity.contribution_time)
        self._update(activity.name, {"contribution_time": later})


class Transaction:
    """The registry's unit of work."""

    def __init__(self, connection: Connection, log: Log) -> None:
        self.answers = Answers(connection)
        self.log = log
        self.policy = PolicyRows(connection)
        self.contacts = ContactRows(connection)
        self.flows = FlowRows(connection)


class Store:
    """Opens transactions, and tells after each commit that there may be entries for the log."""

    def __init__(self, database: Database[Transaction], committed: Callable[[], None]) -> None:
        self._database = database
        self._committed = committed

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction: committed when the block ends, rolled back when it raises. Raises StoreUnavailable."""
        with self._database.transaction() as tx:
            yield tx
        self._committed()

    @contextmanager
    def unrecorded(self) -> Iterator[Transaction]:
        """One transaction that writes nothing to the log. Raises StoreUnavailable."""
        with self._database.transaction() as tx:
            yield tx


def _contact_row(contact: LastContact) -> dict[str, object]:
    return {"name": contact.name, "contact_time": contact.contact_time, "success_time": contact.success_time}


def _backlog_row(backlog: Backlog) -> dict[str, object]:
    return {
        "backlog_count": backlog.count,
        "oldest_backlog_time": backlog.oldest_time,
        "set_aside_count": backlog.set_aside_count,
    }


def _lag_row(lag: Lag) -> dict[str, object]:
    return {
        "unapplied_count": lag.unapplied_count,
        "oldest_unapplied_time": lag.oldest_time,
        "rejected_count": lag.rejected_count,
    }


def _flow(row: Row[Any]) -> LastFlow:
    contribution_time: datetime | None = row.contribution_time
    backlog = lag = None
    if row.backlog_count is not None:
        backlog = Backlog(row.backlog_count, row.oldest_backlog_time, row.set_aside_count)
    if row.unapplied_count is not None:
        lag = Lag(row.name, row.unapplied_count, row.oldest_unapplied_time, row.rejected_count)
    return LastFlow(contribution_time, backlog, lag, row.policy_revision or 0)
