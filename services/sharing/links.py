"""The links that this room adds to a chain: what it holds, what changed, who has taken it over.

They are derived, not stored: each follows from rows that the room keeps anyway.
"""

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID, uuid5

from sqlalchemy import Connection

from services.mesh.core.caller import CallerKind, SpiffeId
from services.mesh.core.chain import Act
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.rights import Access, Policy
from services.sharing.changes.domain import Change, Fulfilment, reach
from services.sharing.changes.repository import Changes, Followers
from services.sharing.contribution.domain import TakenItem
from services.sharing.contribution.repository import Contributions


class ChainLinks:
    """Reads the links of a chain. `environment` is that of the identities."""

    def __init__(self, environment: str, policy: Callable[[], Policy], clock: Clock) -> None:
        self._environment = environment
        self._policy = policy
        self._clock = clock

    def read(self, connection: Connection, correlation_id: UUID) -> Sequence[Act]:
        """The links of a chain in this room.

        A change is caused by what its source did, an item that waits for its person likewise; an acknowledgement by the
        change. A follower whose mark has passed a change has applied it only if it could see it.
        """
        items = Contributions(connection).of_chain(correlation_id)
        changes = Changes(connection).of_chain(correlation_id)
        fulfilments = Followers(connection).fulfilments([change.change_id for change in changes])
        return [
            *self._holds(items),
            *self._changes(changes, items),
            *self._acknowledgements(correlation_id, changes, fulfilments),
        ]

    def _holds(self, items: Sequence[TakenItem]) -> Iterator[Act]:
        for item in items:
            if item.is_held:
                link_id = uuid5(item.causation.causation_id, f"{item.source} {item.event_id}")
                cause, actor = item.causation, self._identity(item.source)
                yield Act(
                    link_id,
                    cause.correlation_id,
                    cause.causation_id,
                    "sharing.hold",
                    actor,
                    item.access,
                    item.record_time,
                    "HELD",
                )

    def _changes(self, changes: Sequence[Change], items: Sequence[TakenItem]) -> Iterator[Act]:
        grounds: dict[tuple[str, UUID], Access | None] = {
            (item.source, item.causation.causation_id): item.access for item in items
        }
        for change in changes:
            cause, actor = change.causation, self._identity(change.source)
            access = grounds.get((change.source, cause.causation_id))
            outcome = "DISPUTED" if change.disputed else "APPLIED"
            yield Act(
                change.change_id,
                cause.correlation_id,
                cause.causation_id,
                "sharing.change",
                actor,
                access,
                change.record_time,
                outcome,
            )

    def _acknowledgements(
        self, correlation_id: UUID, changes: Sequence[Change], fulfilments: Sequence[Fulfilment]
    ) -> Iterator[Act]:
        seen = reach(self._policy(), legal_date(self._clock.now()), with_lapsed=True)
        paths = {change.change_id: frozenset(change.paths) for change in changes}
        for one in fulfilments:
            if not one.reason and not paths[one.change_id] & seen.get(one.follower, frozenset()):
                continue
            yield Act(
                uuid5(one.change_id, one.follower),
                correlation_id,
                one.change_id,
                "sharing.acknowledge",
                self._identity(one.follower),
                None,
                one.time,
                f"REJECTED {one.reason}" if one.reason else "APPLIED",
            )

    def _identity(self, name: str) -> str:
        kind = CallerKind.AGENCY if "/" in name else CallerKind.ROOM
        return str(SpiffeId(kind, self._environment, tuple(name.split("/"))))
