"""Rows of certificates and of blocked keys."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Row, and_, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from services.issuer.domain import (
    Certificate,
    CertificateName,
    CertificateState,
    Profile,
    RevocationReason,
    Wanted,
)
from services.issuer.tables import BLOCKED_KEYS, CERTIFICATES

Place: TypeAlias = tuple[datetime, str, str]
"""Where a certificate stands in the order of their ends: end, issuer key id, serial number."""

_C = CERTIFICATES.c
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
        """Know a certificate that was issued elsewhere; whether it was new."""
        row = insert(CERTIFICATES).values(_row(certificate)).on_conflict_do_nothing().returning(_C.serial_number)
        return self._connection.execute(row).first() is not None

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

    def lock_revocable(self, wanted: Wanted, now: datetime) -> list[Certificate]:
        """Those neither revoked nor expired, locked in one order, so that two acts never wait for each other."""
        open_ones = (*_conditions(wanted, now), _C.revoke_time.is_(None), _C.expire_time > now)
        query = CERTIFICATES.select().where(*open_ones).order_by(_C.issuer_key_id, _C.serial_number).with_for_update()
        return [_certificate(row) for row in self._connection.execute(query)]

    def revoke(self, certificates: Iterable[Certificate]) -> None:
        """Keep the revocations of certificates."""
        for one in certificates:
            assert one.revocation_reason is not None  # noqa: S101 - a revocation has a reason
            values = {"revoke_time": one.revoke_time, "revocation_reason": one.revocation_reason.name}
            self._connection.execute(update(CERTIFICATES).where(_is(one.name)).values(values))

    def revoked_of(self, issuer_key_id: str, after: datetime) -> list[Certificate]:
        """The revoked certificates of an issuer that end after an instant: what a revocation list holds."""
        mine = and_(_C.issuer_key_id == issuer_key_id, _C.revoke_time.is_not(None), _C.expire_time > after)
        query = select(*_LIGHT).where(mine).order_by(_C.serial_number)
        return [_certificate(row) for row in self._connection.execute(query)]

    def intents_since(self, agency_id: str, since: datetime) -> int:
        """How many certificates of an agency were to be issued since an instant."""
        mine = and_(_C.agency_id == agency_id, _C.intent_time > since)
        return self._connection.execute(select(func.count()).select_from(CERTIFICATES).where(mine)).scalar_one()

    def soonest_end(self, now: datetime) -> dict[str, datetime]:
        """By profile: when the first certificate ends that is valid now and has no later one of its identity."""
        query = select(_C.profile, func.min(_C.expire_time)).where(_is_last_valid(now)).group_by(_C.profile)
        return {row[0]: row[1] for row in self._connection.execute(query)}

    def expiring(self, now: datetime, before: datetime, limit: int) -> list[Certificate]:
        """Those that end before an instant and have no later one of their identity and profile, by agency."""
        query = select(*_LIGHT).where(_is_last_valid(now), _C.expire_time <= before)
        ordered = query.order_by(_C.agency_id, _C.expire_time, _C.issuer_key_id, _C.serial_number).limit(limit)
        return [_certificate(row) for row in self._connection.execute(ordered)]


class BlockedKeys:
    """Keys that were reported as compromised. None is ever taken off."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def block(self, key_id: str, blocker: str, now: datetime) -> None:
        """Block a key for ever; one that is blocked stays as it is."""
        row = insert(BLOCKED_KEYS).values(key_id=key_id, block_time=now, blocker=blocker)
        self._connection.execute(row.on_conflict_do_nothing())

    def holds(self, key_id: str) -> bool:
        """Whether a key is blocked."""
        return (
            self._connection.execute(BLOCKED_KEYS.select().where(BLOCKED_KEYS.c.key_id == key_id)).first() is not None
        )


def _is(name: CertificateName) -> ColumnElement[bool]:
    return and_(_C.issuer_key_id == name.issuer_key_id, _C.serial_number == name.serial_number)


def _is_last_valid(now: datetime) -> ColumnElement[bool]:
    """Valid now, and no later one of its identity and profile was issued."""
    later = CERTIFICATES.alias()
    same = and_(later.c.identity == _C.identity, later.c.profile == _C.profile, later.c.expire_time > _C.expire_time)
    replaced = select(literal(1)).where(same, later.c.der.is_not(None), later.c.revoke_time.is_(None)).exists()
    return and_(_C.expire_time > now, _C.der.is_not(None), _C.revoke_time.is_(None), ~replaced)


def _conditions(wanted: Wanted, now: datetime) -> Sequence[ColumnElement[bool]]:
    """What is wanted, as conditions on rows."""
    named = {name: getattr(wanted, name) for name in ("agency_id", "system_id", "identity", "key_id", "issuer_key_id")}
    conditions = [_C[name] == value for name, value in named.items() if value]
    if wanted.expire_before is not None:
        conditions += [_C.expire_time > now, _C.expire_time <= wanted.expire_before]
    if wanted.intent_before is not None:
        conditions += [_C.intent_time <= wanted.intent_before]
    if wanted.state is not None:
        conditions += _in_state(wanted.state, now)
    return conditions


def _in_state(state: CertificateState, now: datetime) -> list[ColumnElement[bool]]:
    match state:
        case CertificateState.REVOKED:
            return [_C.revoke_time.is_not(None)]
        case CertificateState.EXPIRED:
            return [_C.revoke_time.is_(None), _C.expire_time <= now]
        case CertificateState.ISSUED:
            return [_C.revoke_time.is_(None), _C.expire_time > now, _C.der.is_not(None)]
        case CertificateState.INTENT:
            return [_C.revoke_time.is_(None), _C.expire_time > now, _C.der.is_(None)]


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
