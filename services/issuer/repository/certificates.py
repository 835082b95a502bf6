"""Rows of certificates, and of revocations of others that are not known here."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    DateTime,
    Row,
    Text,
    and_,
    case,
    func,
    literal,
    select,
    tuple_,
    union,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.issuer.domain import Certificate, CertificateName, CertificateState, Profile, Revocation, Wanted
from services.issuer.tables import CERTIFICATES, FOREIGN_REVOCATIONS
from services.mesh.core.authorities import RevocationReason

Place: TypeAlias = tuple[datetime, str, str]
"""Where a certificate stands in the order of their ends: end, issuer key id, serial number."""

_C, _F = CERTIFICATES.c, FOREIGN_REVOCATIONS.c
# In lists the state has to be seen, not the bytes: one byte stands for all of them.
_LIGHT = [*(column for column in _C if column is not _C.der), func.substring(_C.der, 1, 1).label("der")]


class Certificates:
    """The certificates. An intent is put before the signature, its result after it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, *certificates: Certificate) -> None:
        """Know certificates that are new."""
        self._connection.execute(insert(CERTIFICATES), [_row(one) for one in certificates])

    def adopt(self, certificate: Certificate) -> bool:
        """Know a certificate that was issued elsewhere; whether it was new. One known to be revoked comes revoked."""
        row = insert(CERTIFICATES).values(_row(certificate)).on_conflict_do_nothing().returning(_C.serial_number)
        is_new = self._connection.execute(row).first() is not None
        if is_new:
            known = and_(_F.issuer_key_id == _C.issuer_key_id, _F.serial_number == _C.serial_number)
            revoked = {"revoke_time": _F.revoke_time, "revocation_reason": _F.revocation_reason}
            mine = update(CERTIFICATES).values(revoked).where(known, _is(certificate.name), _C.revoke_time.is_(None))
            self._connection.execute(mine)
        return is_new

    def complete(self, name: CertificateName, der: bytes) -> None:
        """Keep the result of an intent."""
        self._connection.execute(update(CERTIFICATES).where(_is(name)).values(der=der))

    def find(self, name: CertificateName, *, lock: bool = False) -> Certificate | None:
        """A certificate; locked until the end of the transaction, if asked."""
        query = CERTIFICATES.select().where(_is(name))
        row = self._connection.execute(query.with_for_update() if lock else query).first()
        return _certificate(row) if row else None

    def newest_of(self, identity: str, profile: Profile) -> Certificate | None:
        """The certificate of an identity and profile that ends last, of those issued and not revoked."""
        mine = and_(_C.identity == identity, _C.profile == profile.name, _C.der.is_not(None), _C.revoke_time.is_(None))
        row = self._connection.execute(CERTIFICATES.select().where(mine).order_by(_C.expire_time.desc()).limit(1))
        found = row.first()
        return _certificate(found) if found else None

    def page(self, wanted: Wanted, now: datetime, after: Place | None, limit: int) -> list[Certificate]:
        """Certificates by their ends, soonest first, without their bytes."""
        query = select(*_LIGHT).where(*_conditions(wanted, now))
        order = (_C.expire_time, _C.issuer_key_id, _C.serial_number)
        if after is not None:
            query = query.where(tuple_(*order) > tuple_(*map(literal, after)))
        return [_certificate(row) for row in self._connection.execute(query.order_by(*order).limit(limit))]

    def count(self, wanted: Wanted, now: datetime) -> int:
        """How many there are."""
        query = select(func.count()).select_from(CERTIFICATES).where(*_conditions(wanted, now))
        return self._connection.execute(query).scalar_one()

    def revocable(self, wanted: Wanted, now: datetime, limit: int, *, by_key: bool) -> tuple[int, list[Certificate]]:
        """How many are neither revoked nor expired, and the first of them, without their bytes.

        `by_key`: with them all others of their keys, for these are what was compromised.
        """
        open_ones = _revocable(wanted, now, by_key=by_key)
        count = self._connection.execute(select(func.count()).select_from(CERTIFICATES).where(*open_ones)).scalar_one()
        query = select(*_LIGHT).where(*open_ones).order_by(_C.issuer_key_id, _C.serial_number).limit(limit)
        return count, [_certificate(row) for row in self._connection.execute(query)]

    def lock_revocable(self, wanted: Wanted, now: datetime, *, by_key: bool) -> list[Certificate]:
        """Those neither revoked nor expired, without their bytes, locked in one order, so that two acts never wait for
        each other in a circle. `by_key` as in `revocable`.
        """
        query = select(*_LIGHT).where(*_revocable(wanted, now, by_key=by_key))
        locked = query.order_by(_C.issuer_key_id, _C.serial_number).with_for_update()
        return [_certificate(row) for row in self._connection.execute(locked)]

    def revoke(self, revocations: Iterable[Revocation]) -> None:
        """Keep revocations of certificates; who is revoked keeps the first."""
        rows = _arrays(revocations)
        mine = and_(_C.issuer_key_id == rows.c.issuer_key_id, _C.serial_number == rows.c.serial_number)
        values = {"revoke_time": rows.c.revoke_time, "revocation_reason": rows.c.revocation_reason}
        self._connection.execute(update(CERTIFICATES).values(values).where(mine, _C.revoke_time.is_(None)))

    def revoke_all_of(self, issuer_key_id: str, reason: RevocationReason, now: datetime) -> int:
        """Revoke all leaves of an issuer that are neither revoked nor expired; returns how many it were."""
        open_ones = (_C.issuer_key_id == issuer_key_id, _C.revoke_time.is_(None), _C.expire_time > now)
        values = {"revoke_time": now, "revocation_reason": reason.name}
        return self._connection.execute(update(CERTIFICATES).where(*open_ones).values(values)).rowcount

    def adopt_revocations(self, revocations: Collection[Revocation]) -> None:
        """Keep revocations that others know of, also of certificates that are not known here."""
        self.revoke(revocations)
        rows = _arrays(revocations)
        known = select(literal(1)).where(
            _C.issuer_key_id == rows.c.issuer_key_id, _C.serial_number == rows.c.serial_number
        )
        foreign = insert(FOREIGN_REVOCATIONS).from_select(
            [column.name for column in _F], select(rows).where(~known.exists())
        )
        self._connection.execute(foreign.on_conflict_do_nothing())

    def revocations_of(self, issuer_key_ids: Collection[str], after: datetime) -> list[Revocation]:
        """What a revocation list of these issuers holds: of certificates that end after an instant, and of those whose
        end is not known here.
        """
        is_compromised = _C.revocation_reason == RevocationReason.KEY_COMPROMISE.name
        key_id = case((is_compromised, _C.key_id), else_="")
        columns = (_C.issuer_key_id, _C.serial_number, _C.revoke_time, _C.revocation_reason, key_id)
        known = select(*columns).where(
            _of_any(_C.issuer_key_id, issuer_key_ids), _C.revoke_time.is_not(None), _C.expire_time > after
        )
        same = and_(_C.issuer_key_id == _F.issuer_key_id, _C.serial_number == _F.serial_number)
        is_known = select(literal(1)).where(same).exists()
        foreign = select(*_F, literal("")).where(_of_any(_F.issuer_key_id, issuer_key_ids), ~is_known)
        return [
            Revocation(CertificateName(row[0], row[1]), row[2], RevocationReason[row[3]], row[4])
            for row in self._connection.execute(known.union_all(foreign))
        ]

    def revoked_names(self, issuer_key_ids: Collection[str]) -> set[CertificateName]:
        """All certificates of issuers that are known here to be revoked, expired or not."""
        mine = select(_C.issuer_key_id, _C.serial_number).where(
            _of_any(_C.issuer_key_id, issuer_key_ids), _C.revoke_time.is_not(None)
        )
        foreign = select(_F.issuer_key_id, _F.serial_number).where(_of_any(_F.issuer_key_id, issuer_key_ids))
        return {CertificateName(*row) for row in self._connection.execute(union(mine, foreign))}

    def unexpired_counts(self, now: datetime) -> dict[str, int]:
        """By issuer: how many of its leaves are neither expired nor revoked."""
        query = select(_C.issuer_key_id, func.count()).where(_C.expire_time > now, _C.revoke_time.is_(None))
        return {row[0]: row[1] for row in self._connection.execute(query.group_by(_C.issuer_key_id))}

    def state_counts(self, now: datetime) -> dict[CertificateState, int]:
        """How many certificates are in each state."""
        columns = [func.count().filter(and_(*_in_state(state, now))) for state in CertificateState]
        return dict(zip(CertificateState, self._connection.execute(select(*columns)).one(), strict=True))

    def intents_since(self, agency_id: str, identity: str, since: datetime) -> int:
        """How many certificates of an agency, or of an operator if none, were to be issued here since an instant."""
        holder = and_(_C.agency_id == agency_id, *([] if agency_id else [_C.identity == identity]))
        mine = and_(holder, _C.intent_time > since, _C.application_id.is_not(None))
        return self._connection.execute(select(func.count()).select_from(CERTIFICATES).where(mine)).scalar_one()

    def soonest_end(self, now: datetime) -> dict[str, datetime]:
        """By profile: when the first certificate ends that is valid now and has no later one of its identity."""
        query = select(_C.profile, func.min(_C.expire_time)).where(_is_last_valid(now)).group_by(_C.profile)
        return {row[0]: row[1] for row in self._connection.execute(query)}

    def expiring(self, now: datetime, before: datetime, limit: int) -> list[Certificate]:
        """Those that end before an instant and have no later one of their identity and profile, soonest first."""
        query = select(*_LIGHT).where(_is_last_valid(now), _C.expire_time <= before)
        ordered = query.order_by(_C.expire_time, _C.issuer_key_id, _C.serial_number).limit(limit)
        return [_certificate(row) for row in self._connection.execute(ordered)]


def _is(name: CertificateName) -> ColumnElement[bool]:
    return and_(_C.issuer_key_id == name.issuer_key_id, _C.serial_number == name.serial_number)


def _is_last_valid(now: datetime) -> ColumnElement[bool]:
    """Valid now, and no later one of its identity and profile was issued."""
    later = CERTIFICATES.alias()
    order = [tuple_(of.c.expire_time, of.c.intent_time, of.c.serial_number) for of in (later, CERTIFICATES)]
    same = and_(later.c.identity == _C.identity, later.c.profile == _C.profile, order[0] > order[1])
    replaced = select(literal(1)).where(same, later.c.der.is_not(None), later.c.revoke_time.is_(None)).exists()
    return and_(_C.expire_time > now, _C.der.is_not(None), _C.revoke_time.is_(None), ~replaced)


def _conditions(wanted: Wanted, now: datetime, columns: Any = _C) -> Sequence[ColumnElement[bool]]:
    """What is wanted, as conditions on rows."""
    named = {name: getattr(wanted, name) for name in ("agency_id", "system_id", "identity", "key_id", "issuer_key_id")}
    conditions = [columns[name] == value for name, value in named.items() if value]
    if wanted.expire_before is not None:
        conditions += [columns.expire_time > now, columns.expire_time <= wanted.expire_before]
    if wanted.intent_before is not None:
        conditions += [columns.intent_time <= wanted.intent_before]
    if wanted.state is not None:
        conditions += _in_state(wanted.state, now, columns)
    return conditions


def _revocable(wanted: Wanted, now: datetime, *, by_key: bool) -> Sequence[ColumnElement[bool]]:
    """Neither revoked nor expired, and wanted; with `by_key` also what has the key of one that is."""
    chosen = and_(*_conditions(wanted, now))
    if by_key:
        those = CERTIFICATES.alias("those")
        keys = select(those.c.key_id).where(*_conditions(wanted, now, those.c), *_open(now, those.c))
        chosen = _C.key_id.in_(keys)
    return (chosen, *_open(now, _C))


def _open(now: datetime, columns: Any) -> Sequence[ColumnElement[bool]]:
    return (columns.revoke_time.is_(None), columns.expire_time > now)


def _of_any(column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
    return column == func.any(literal(list(values), ARRAY(Text)))


def _arrays(revocations: Iterable[Revocation]) -> Any:
    """Revocations as a table of the statement: arrays, since a statement takes 65,535 parameters at most."""
    rows = list(revocations)
    columns = (
        literal([one.name.issuer_key_id for one in rows], ARRAY(Text)),
        literal([one.name.serial_number for one in rows], ARRAY(Text)),
        literal([one.revoke_time for one in rows], ARRAY(DateTime(timezone=True))),
        literal([one.reason.name for one in rows], ARRAY(Text)),
    )
    return func.unnest(*columns).table_valued(*(column.name for column in _F)).render_derived("revoked")


def _in_state(state: CertificateState, now: datetime, columns: Any = _C) -> list[ColumnElement[bool]]:
    match state:
        case CertificateState.REVOKED:
            return [columns.revoke_time.is_not(None)]
        case CertificateState.EXPIRED:
            return [columns.revoke_time.is_(None), columns.expire_time <= now]
        case CertificateState.ISSUED:
            return [*_open(now, columns), columns.der.is_not(None)]
        case CertificateState.INTENT:
            return [*_open(now, columns), columns.der.is_(None)]


def _row(one: Certificate) -> dict[str, object]:
    return {
        "issuer_key_id": one.name.issuer_key_id,
        "serial_number": one.name.serial_number,
        "identity": one.identity,
        "agency_id": one.agency_id,
        "system_id": one.system_id,
        "profile": one.profile.name,
        "key_id": one.key_id,
        "start_time": one.start_time,
        "expire_time": one.expire_time,
        "intent_time": one.intent_time,
        "der": one.der or None,
        "application_id": one.application_id,
        "revoke_time": one.revoke_time,
        "revocation_reason": one.revocation_reason.name if one.revocation_reason else None,
    }


def _certificate(row: Row[Any]) -> Certificate:
    return Certificate(
        name=CertificateName(row.issuer_key_id, row.serial_number),
        identity=row.identity,
        agency_id=row.agency_id,
        system_id=row.system_id,
        profile=Profile[row.profile],
        key_id=row.key_id,
        start_time=row.start_time,
        expire_time=row.expire_time,
        intent_time=row.intent_time,
        der=row.der or b"",
        application_id=row.application_id,
        revoke_time=row.revoke_time,
        revocation_reason=RevocationReason[row.revocation_reason] if row.revocation_reason else None,
    )
