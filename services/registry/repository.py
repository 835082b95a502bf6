"""The registry's rows, inside a transaction: domain objects in, domain objects out. Decides nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Table, func, literal, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert

from services.mesh.core.agreements import Signature
from services.mesh.core.answers import Answers
from services.mesh.core.clock import Validity
from services.mesh.core.db import Database
from services.mesh.core.evidence.log import Log
from services.mesh.core.rights import FieldDefinition, Provision, Purpose, State, System
from services.registry.domain import (
    Agency,
    Agreement,
    Change,
    LastContact,
    LawInForce,
    Officer,
    Operator,
    Page,
    PolicyObject,
    Revocation,
    RevocationReason,
    Side,
)
from services.registry.tables import (
    AGENCIES,
    AGREEMENTS,
    CONTACTS,
    FIELDS,
    OFFICERS,
    OPERATORS,
    POLICY_REVISION,
    PROVISIONS,
    PURPOSES,
    REVOCATIONS,
    SYSTEMS,
)

T = TypeVar("T")

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
            table, values = _row_of(subject)
            rows.setdefault(table, []).append({**values, "revision": revision, "removed": removed})
        for table, written in rows.items():
            row = insert(table)
            changed = {column.name: row.excluded[column.name] for column in table.columns if not column.primary_key}
            keys = list(table.primary_key.columns)
            self._connection.execute(row.on_conflict_do_update(index_elements=keys, set_=changed), written)

    def since(self, revision: int) -> tuple[int, list[Change]]:
        """The newest revision, and what changed after `revision` (after 0: all that there is). All at one instant.

        The first statement of a transaction, for it fixes the instant.
        """
        self._connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        newest: int = self._connection.execute(select(POLICY_REVISION.c.revision)).scalar_one()
        if newest == revision:
            return newest, []
        is_whole = revision == 0 or revision > newest
        changes = []
        for table, read in _READERS.items():
            wanted = table.c.removed.is_(False) if is_whole else table.c.revision > revision
            rows = self._connection.execute(table.select().where(wanted))
            changes += [Change(read(row), row.removed) for row in rows]
        return newest, changes

    def agency(self, agency_id: str) -> Agency | None:
        """An agency."""
        return self._one(AGENCIES, _agency, agency_id=agency_id)

    def agencies(self, page: Page) -> list[Agency]:
        """Agencies by id."""
        return self._page(AGENCIES, _agency, page)

    def system(self, agency_id: str, system_id: str) -> System | None:
        """A system."""
        return self._one(SYSTEMS, _system, agency_id=agency_id, system_id=system_id)

    def systems(self, page: Page | None = None, *, agency_id: str = "") -> list[System]:
        """Systems by agency and id; of one agency, if it is given."""
        return self._page(SYSTEMS, _system, page, agency_id=agency_id)

    def on_roster(self, officers: Sequence[Officer]) -> set[Officer]:
        """Those of the officers, all of one agency, who are on its roster."""
        names = [officer.officer_id for officer in officers]
        mine = OFFICERS.c.agency_id == officers[0].agency_id
        rows = OFFICERS.select().where(mine, OFFICERS.c.officer_id.in_(names), OFFICERS.c.removed.is_(False))
        return {_officer(row) for row in self._connection.execute(rows)}

    def agreement(self, agreement_id: str) -> Agreement | None:
        """An agreement."""
        return self._one(AGREEMENTS, _agreement, agreement_id=agreement_id)

    def agreements(self, page: Page, *, agency_id: str = "") -> list[Agreement]:
        """Agreements by id; of one agency, if it is given."""
        return self._page(AGREEMENTS, _agreement, page, agency_id=agency_id)

    def revocation(self, issuer_key_id: str, serial_number: str) -> Revocation | None:
        """A revocation."""
        return self._one(REVOCATIONS, _revocation, issuer_key_id=issuer_key_id, serial_number=serial_number)

    def operators(self) -> set[str]:
        """Names of the operators."""
        return set(self._connection.execute(select(OPERATORS.c.name).where(OPERATORS.c.removed.is_(False))).scalars())

    def law_for(self, provision: str, purpose: str) -> LawInForce:
        """What an agreement with this provision and purpose is measured by, in force or not."""
        return LawInForce(
            provision=self._one(PROVISIONS, _provision, provision_id=provision),
            purpose=self._one(PURPOSES, _purpose, code=purpose),
            fields={field.path: field for field in self._page(FIELDS, _field)},
        )

    def law(self) -> list[PolicyObject]:
        """Provisions, fields and purposes."""
        tables: list[tuple[Table, Callable[[Row[Any]], PolicyObject]]]
        tables = [(PROVISIONS, _provision), (FIELDS, _field), (PURPOSES, _purpose)]
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


class Transaction:
    """The registry's unit of work."""

    def __init__(self, connection: Connection, log: Log) -> None:
        self.answers = Answers(connection)
        self.log = log
        self.policy = PolicyRows(connection)
        self.contacts = ContactRows(connection)


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


def _row_of(subject: PolicyObject) -> tuple[Table, dict[str, object]]:
    """Where an object stands, and its columns."""
    match subject:
        case Agency(agency_id, name):
            return AGENCIES, {"agency_id": agency_id, "name": name}
        case System():
            return SYSTEMS, {
                "agency_id": subject.agency_id,
                "system_id": subject.system_id,
                "name": subject.name,
                "state": subject.state.value,
                "cause": subject.cause,
                "state_time": subject.state_time,
            }
        case Officer(agency_id, officer_id):
            return OFFICERS, {"agency_id": agency_id, "officer_id": officer_id}
        case Agreement():
            return AGREEMENTS, _agreement_row(subject)
        case Revocation():
            return REVOCATIONS, {
                "issuer_key_id": subject.issuer_key_id,
                "serial_number": subject.serial_number,
                "reason": subject.reason.value,
                "revoke_time": subject.revoke_time,
            }
        case Operator(name):
            return OPERATORS, {"name": name}
        case FieldDefinition():
            own: dict[str, object] = {"path": subject.path, "provision": subject.provision}
            own |= {"sensitive": subject.sensitive, "authority": list(subject.authority)}
            return FIELDS, own | _validity_row(subject.validity)
        case Purpose():
            own = {"code": subject.code, "title": subject.title, "provision": subject.provision}
            return PURPOSES, own | {"paths": sorted(subject.paths)} | _validity_row(subject.validity)
        case Provision():
            own = {"provision_id": subject.provision_id, "citation": subject.citation, "summary": subject.summary}
            return PROVISIONS, own | _validity_row(subject.validity)


def _agreement_row(agreement: Agreement) -> dict[str, object]:
    row: dict[str, object] = {
        "agreement_id": agreement.agreement_id,
        "agency_id": agreement.agency_id,
        "system_id": agreement.system_id,
        "terms": agreement.terms,
    }
    for side in Side:
        signature = agreement.signatures.get(side)
        row[f"{side.value}_chain"] = None if signature is None else list(signature.chain)
        row[f"{side.value}_sign_time"] = None if signature is None else signature.sign_time
        row[f"{side.value}_signature"] = None if signature is None else signature.signature
        row[f"{side.value}_suspends"] = agreement.suspended_by.get(side)
    return row


def _validity_row(validity: Validity) -> dict[str, object]:
    return {"start_date": validity.start, "end_date": validity.end}


def _contact_row(contact: LastContact) -> dict[str, object]:
    return {"name": contact.name, "contact_time": contact.contact_time, "success_time": contact.success_time}


def _agency(row: Row[Any]) -> Agency:
    return Agency(row.agency_id, row.name)


def _system(row: Row[Any]) -> System:
    return System(row.agency_id, row.system_id, row.name, State(row.state), row.cause, row.state_time)


def _officer(row: Row[Any]) -> Officer:
    return Officer(row.agency_id, row.officer_id)


def _agreement(row: Row[Any]) -> Agreement:
    columns = row._mapping
    signatures = {
        side: Signature(
            tuple(columns[f"{side.value}_chain"]),
            columns[f"{side.value}_sign_time"],
            columns[f"{side.value}_signature"],
        )
        for side in Side
        if columns[f"{side.value}_signature"] is not None
    }
    causes = {side: columns[f"{side.value}_suspends"] for side in Side}
    suspended_by = {side: cause for side, cause in causes.items() if cause is not None}
    return Agreement(row.agreement_id, row.agency_id, row.system_id, row.terms, signatures, suspended_by)


def _revocation(row: Row[Any]) -> Revocation:
    return Revocation(row.issuer_key_id, row.serial_number, RevocationReason(row.reason), row.revoke_time)


def _operator(row: Row[Any]) -> Operator:
    return Operator(row.name)


def _field(row: Row[Any]) -> FieldDefinition:
    validity = Validity(row.start_date, row.end_date)
    return FieldDefinition(row.path, row.provision, row.sensitive, tuple(row.authority), validity)


def _purpose(row: Row[Any]) -> Purpose:
    validity = Validity(row.start_date, row.end_date)
    return Purpose(row.code, row.title, row.provision, frozenset(row.paths), validity)


def _provision(row: Row[Any]) -> Provision:
    return Provision(row.provision_id, row.citation, row.summary, Validity(row.start_date, row.end_date))


_READERS: Mapping[Table, Callable[[Row[Any]], PolicyObject]] = {
    AGENCIES: _agency,
    SYSTEMS: _system,
    OFFICERS: _officer,
    AGREEMENTS: _agreement,
    REVOCATIONS: _revocation,
    OPERATORS: _operator,
    FIELDS: _field,
    PURPOSES: _purpose,
    PROVISIONS: _provision,
}
