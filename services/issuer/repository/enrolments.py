"""Rows of enrolments, and of expired certificates whose renewal was enabled."""

from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Connection, Row, literal, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from services.issuer.domain import CertificateName, Enrolment, ExpiredRenewal, Profile
from services.issuer.tables import ENROLMENTS, EXPIRED_RENEWALS

Place: TypeAlias = tuple[datetime, UUID]
"""Where an enrolment stands in the order of their times: time, id."""

_E, _R = ENROLMENTS.c, EXPIRED_RENEWALS.c


class Enrolments:
    """Who may come to the door."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, one: Enrolment) -> bool:
        """Know an enrolment; False if its token is known already."""
        values = {
            "token_digest": one.token_digest,
            "enrolment_id": one.enrolment_id,
            "identity": one.identity,
            "profile": one.profile.name,
            "creator": one.creator,
            "create_time": one.create_time,
            "expire_time": one.expire_time,
            "application_id": one.application_id,
            "is_cancelled": one.is_cancelled,
        }
        row = insert(ENROLMENTS).values(values).on_conflict_do_nothing().returning(_E.enrolment_id)
        return self._connection.execute(row).first() is not None

    def of_token(self, token_digest: bytes, *, lock: bool = False) -> Enrolment | None:
        """The enrolment of a token; locked until the end of the transaction, if asked."""
        query = ENROLMENTS.select().where(_E.token_digest == token_digest)
        row = self._connection.execute(query.with_for_update() if lock else query).first()
        return _enrolment(row) if row else None

    def find(self, enrolment_id: UUID) -> Enrolment | None:
        """An enrolment, locked until the end of the transaction."""
        query = ENROLMENTS.select().where(_E.enrolment_id == enrolment_id).with_for_update()
        row = self._connection.execute(query).first()
        return _enrolment(row) if row else None

    def change(self, one: Enrolment) -> None:
        """Keep what became of an enrolment."""
        values = {"application_id": one.application_id, "is_cancelled": one.is_cancelled}
        self._connection.execute(update(ENROLMENTS).where(_E.token_digest == one.token_digest).values(values))

    def page(self, identities: str, after: Place | None, limit: int) -> list[Enrolment]:
        """Enrolments, newest first; only those whose identity begins with `identities`."""
        query = ENROLMENTS.select().order_by(_E.create_time.desc(), _E.enrolment_id.desc()).limit(limit)
        if identities:
            query = query.where(_E.identity.startswith(identities, autoescape=True))
        if after is not None:
            query = query.where(tuple_(_E.create_time, _E.enrolment_id) < tuple_(*map(literal, after)))
        return [_enrolment(row) for row in self._connection.execute(query)]

    def enable(self, one: ExpiredRenewal) -> None:
        """Let an expired certificate be renewed once; enabling it again takes the place of the former."""
        values = {
            "issuer_key_id": one.name.issuer_key_id,
            "serial_number": one.name.serial_number,
            "enabler": one.enabler,
            "expire_time": one.expire_time,
            "application_id": one.application_id,
        }
        row = insert(EXPIRED_RENEWALS).values(values)
        self._connection.execute(
            row.on_conflict_do_update(index_elements=[_R.issuer_key_id, _R.serial_number], set_=values)
        )

    def enabled(self, name: CertificateName) -> ExpiredRenewal | None:
        """The renewal that was enabled, locked until the end of the transaction."""
        mine = EXPIRED_RENEWALS.select().where(
            _R.issuer_key_id == name.issuer_key_id, _R.serial_number == name.serial_number
        )
        row = self._connection.execute(mine.with_for_update()).first()
        return ExpiredRenewal(name, row.enabler, row.expire_time, row.application_id) if row else None


def _enrolment(row: Row[Any]) -> Enrolment:
    return Enrolment(
        enrolment_id=row.enrolment_id,
        token_digest=row.token_digest,
        identity=row.identity,
        profile=Profile[row.profile],
        creator=row.creator,
        create_time=row.create_time,
        expire_time=row.expire_time,
        application_id=row.application_id,
        is_cancelled=row.is_cancelled,
    )
