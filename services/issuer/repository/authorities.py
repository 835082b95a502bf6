"""Rows of authorities, and of the revocation lists that were published in their name."""

from typing import Any

from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import insert

from services.issuer.domain import Authority, RevocationListRow
from services.issuer.tables import AUTHORITIES, REVOCATION_LISTS
from services.mesh.core.authorities import AuthorityState

_A, _L = AUTHORITIES.c, REVOCATION_LISTS.c


class Authorities:
    """The issuing CAs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self) -> None:
        """Wait for the other transaction that changes states, if there is one; readers go on."""
        self._connection.execute(text("LOCK TABLE authorities IN SHARE ROW EXCLUSIVE MODE"))

    def put(self, one: Authority) -> None:
        """Know an authority, or know it as it is now."""
        values = {
            "key_id": one.key_id,
            "host": one.host,
            "state": one.state.name,
            "state_time": one.state_time,
            "certificate": one.certificate,
            "expire_time": one.expire_time,
            "known_revision": one.known_revision,
        }
        row = insert(AUTHORITIES).values(values)
        self._connection.execute(row.on_conflict_do_update(index_elements=[_A.key_id], set_=values))

    def find(self, key_id: str) -> Authority | None:
        """An authority."""
        row = self._connection.execute(AUTHORITIES.select().where(_A.key_id == key_id)).first()
        return _authority(row) if row else None

    def all(self) -> list[Authority]:
        """All authorities, by host, the newest first."""
        query = AUTHORITIES.select().order_by(_A.host, _A.state_time.desc(), _A.key_id)
        return [_authority(row) for row in self._connection.execute(query)]

    def active(self, host: str) -> Authority | None:
        """The one that issues for a host; it stays so until the end of the transaction.

        So nobody counts its leaves for the last time between this and the intent that follows.
        """
        # A query that waited for a rollover sees the end of the former, and not yet the next: that takes another query.
        query = AUTHORITIES.select().where(_A.host == host, _A.state == AuthorityState.ACTIVE.name)
        locked = query.with_for_update(read=True)
        row = self._connection.execute(locked).first() or self._connection.execute(locked).first()
        return _authority(row) if row else None

    def revocation_list(self, key_id: str) -> RevocationListRow | None:
        """The newest list that was published in an authority's name."""
        row = self._connection.execute(REVOCATION_LISTS.select().where(_L.issuer_key_id == key_id)).first()
        return (
            RevocationListRow(row.issuer_key_id, row.number, row.publish_time, row.next_time, row.der) if row else None
        )

    def publish(self, one: RevocationListRow) -> bool:
        """Keep a list if its number is higher than that of the one before; whether it was."""
        values = {
            "issuer_key_id": one.issuer_key_id,
            "number": one.number,
            "publish_time": one.publish_time,
            "next_time": one.next_time,
            "der": one.der,
        }
        row = insert(REVOCATION_LISTS).values(values)
        newer = row.on_conflict_do_update(index_elements=[_L.issuer_key_id], set_=values, where=_L.number < one.number)
        return self._connection.execute(newer.returning(_L.number)).first() is not None


def _authority(row: Row[Any]) -> Authority:
    return Authority(
        key_id=row.key_id,
        host=row.host,
        state=AuthorityState[row.state],
        state_time=row.state_time,
        certificate=row.certificate,
        expire_time=row.expire_time,
        known_revision=row.known_revision,
    )
