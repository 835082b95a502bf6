"""Rows of applications. The state of one that needs a second person is read from its approval."""

from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from services.issuer.domain import Application, ApplicationState, CertificateName, Origin, Profile
from services.issuer.tables import APPLICATIONS
from services.mesh.core.tables import APPROVALS

Place: TypeAlias = tuple[datetime, UUID]
"""Where an application stands in the order of their times: time, id."""

_A = APPLICATIONS.c


class Applications:
    """The applications for certificates, of all origins."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, one: Application) -> bool:
        """Know an application; whether it was new."""
        values = {
            "application_id": one.application_id,
            "origin": one.origin.name,
            "identity": one.identity,
            "profile": one.profile.name,
            "profile_version": one.profile_version,
            "csr": one.csr,
            "csr_digest": one.csr_digest,
            "key_id": one.key_id,
            "applicant": one.applicant,
            "apply_time": one.apply_time,
            "expire_time": one.expire_time,
            "needs_approval": one.needs_approval,
        }
        row = insert(APPLICATIONS).values(values).on_conflict_do_nothing().returning(_A.application_id)
        return self._connection.execute(row).first() is not None

    def find(self, application_id: UUID, now: datetime, *, lock: bool = False) -> Application | None:
        """An application; locked until the end of the transaction, if asked."""
        if lock:
            mine = select(_A.application_id).where(_A.application_id == application_id).with_for_update()
            self._connection.execute(mine)
        row = self._connection.execute(_query(now).where(_A.application_id == application_id)).first()
        return _application(row) if row else None

    def page(
        self, state: ApplicationState | None, agency_host_path: str, now: datetime, after: Place | None, limit: int
    ) -> list[Application]:
        """Applications that were applied for or enrolled, newest first; `agency_host_path` begins their identities."""
        query = _query(now).where(_A.origin != Origin.RENEWED.name)
        if agency_host_path:
            query = query.where(_A.identity.startswith(agency_host_path, autoescape=True))
        if state is not None:
            query = query.where(_state(now) == state.name)
        if after is not None:
            query = query.where(tuple_(_A.apply_time, _A.application_id) < tuple_(*map(literal, after)))
        newest = query.order_by(_A.apply_time.desc(), _A.application_id.desc()).limit(limit)
        return [_application(row) for row in self._connection.execute(newest)]

    def approved(self, now: datetime, limit: int) -> list[UUID]:
        """Those that a second person has approved and that are not issued yet, oldest first."""
        query = select(_A.application_id).outerjoin(APPROVALS, APPROVALS.c.approval_id == _A.application_id)
        waiting = query.where(_A.serial_number.is_(None), _A.needs_approval, _A.expire_time > now)
        due = waiting.where(_state(now) == ApplicationState.APPROVED.name)
        return list(self._connection.execute(due.order_by(_A.apply_time).limit(limit)).scalars())

    def applied_since(self, applicants: str, since: datetime) -> int:
        """How many applications were made since an instant by those whose identities begin with `applicants`."""
        mine = and_(_A.applicant.startswith(applicants, autoescape=True), _A.apply_time > since)
        return self._connection.execute(select(func.count()).select_from(APPLICATIONS).where(mine)).scalar_one()

    def complete(self, application_id: UUID, name: CertificateName) -> None:
        """The certificate of an application was issued."""
        values = {"issuer_key_id": name.issuer_key_id, "serial_number": name.serial_number}
        mine = _A.application_id == application_id
        self._connection.execute(update(APPLICATIONS).where(mine).values(values))


def _query(now: datetime) -> Select[Any]:
    columns = (*_A, _state(now).label("state"), APPROVALS.c.reason)
    return select(*columns).outerjoin(APPROVALS, APPROVALS.c.approval_id == _A.application_id)


def _state(now: datetime) -> ColumnElement[str]:
    """Of an application: issued, or as its approval stands, or, where none is needed, approved."""
    decided = APPROVALS.c.state
    return case(
        (_A.serial_number.is_not(None), ApplicationState.ISSUED.name),
        (and_(_A.needs_approval, decided == "DENIED"), ApplicationState.DENIED.name),
        (or_(_A.expire_time <= now, decided == "EXPIRED"), ApplicationState.EXPIRED.name),
        (and_(_A.needs_approval, or_(decided.is_(None), decided == "PENDING")), ApplicationState.PENDING.name),
        else_=ApplicationState.APPROVED.name,
    )


def _application(row: Row[Any]) -> Application:
    name = CertificateName(row.issuer_key_id, row.serial_number) if row.serial_number else None
    return Application(
        application_id=row.application_id,
        origin=Origin[row.origin],
        identity=row.identity,
        profile=Profile[row.profile],
        profile_version=row.profile_version,
        csr=row.csr,
        csr_digest=row.csr_digest,
        key_id=row.key_id,
        applicant=row.applicant,
        apply_time=row.apply_time,
        expire_time=row.expire_time,
        needs_approval=row.needs_approval,
        state=ApplicationState[row.state],
        reason=row.reason or "",
        certificate=name,
    )
