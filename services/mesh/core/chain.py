"""Acts and the chains they form: what a room did, who had it done, and because of what. No personal data."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row

from services.mesh.core.caller import Caller
from services.mesh.core.errors import Kind, MeshError
from services.mesh.core.rights import Access
from services.mesh.core.tables import CHAIN_LINKS

LINKS_LIMIT = 1000


class ActUnknown(MeshError):
    """There is no such act, or it is not known here."""

    kind, reason = Kind.NOT_FOUND, "ACT_UNKNOWN"


@dataclass(frozen=True, slots=True)
class Causation:
    """A place in a chain: the chain's id, and the link that directly caused what carries this."""

    correlation_id: UUID
    causation_id: UUID


@dataclass(frozen=True, slots=True)
class Act:
    """Something that was done: a link of a chain.

    `name` says what ("civil_status.register_death"), `actor` is the identity URI of who had it done, `access` his
    ground; None for what a room did by itself. `outcome` stands where that is not plain.
    """

    act_id: UUID
    correlation_id: UUID
    causation_id: UUID | None
    name: str
    actor: str
    access: Access | None
    time: datetime
    outcome: str = ""

    @classmethod
    def begun(
        cls, name: str, caller: Caller, access: Access | None, time: datetime, follows: UUID | None = None
    ) -> "Act":
        """An act of a caller, by which a chain begins, or which joins that of the act that it follows by law."""
        act_id = uuid4()
        return cls(act_id, follows or act_id, follows, name, caller.identity, access, time)

    @classmethod
    def caused(cls, name: str, actor: str, by: Causation, time: datetime, outcome: str = "") -> "Act":
        """An act of a room by itself, because of a link elsewhere."""
        return cls(uuid4(), by.correlation_id, by.causation_id, name, actor, None, time, outcome)

    @property
    def causation(self) -> Causation:
        """What follows directly from this act carries this."""
        return Causation(self.correlation_id, self.act_id)

    @property
    def ground(self) -> Access | None:
        """The ground as it goes to other rooms: with who acted as its origin."""
        if self.access is None:
            return None
        return Access(self.access.agreement_id, self.access.case_reference, self.access.officer_id, self.actor)


class Chain:
    """The links that this room made, inside a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, act: Act) -> None:
        """Write an act into its chain, in the transaction that does it."""
        access = act.access
        row = {
            "link_id": act.act_id,
            "correlation_id": act.correlation_id,
            "causation_id": act.causation_id,
            "act": act.name,
            "actor": act.actor,
            "agreement_id": access.agreement_id if access else None,
            "case_reference": access.case_reference if access else None,
            "officer_id": access.officer_id if access else None,
            "link_time": act.time,
            "outcome": act.outcome,
        }
        self._connection.execute(CHAIN_LINKS.insert(), row)

    def links(self, correlation_id: UUID) -> list[Act]:
        """The links of a chain that were made here, oldest first."""
        mine = CHAIN_LINKS.select().where(CHAIN_LINKS.c.correlation_id == correlation_id)
        rows = mine.order_by(CHAIN_LINKS.c.link_time, CHAIN_LINKS.c.link_id).limit(LINKS_LIMIT)
        return [_act(row) for row in self._connection.execute(rows)]


def _act(row: Row) -> Act:  # type: ignore[type-arg]
    access = Access(row.agreement_id, row.case_reference, row.officer_id) if row.agreement_id else None
    return Act(
        row.link_id, row.correlation_id, row.causation_id, row.act, row.actor, access, row.link_time, row.outcome
    )
