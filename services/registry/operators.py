"""Records operators offline, before any can call. Nothing goes into the log: its keys are the room's alone."""

from collections.abc import Sequence

from services.mesh.core.address import StoreAddress
from services.registry.domain import Operator
from services.registry.formats import require_identifier
from services.registry.repository import PolicyRows


def record(store: StoreAddress | str, names: Sequence[str]) -> list[str]:
    """Put operators on the list in a database; returns those who were not on it.

    Raises InvalidField for a name that no certificate can carry.
    """
    wanted = [require_identifier("operator", name) for name in names]
    with StoreAddress.of(store).engine_for_once().begin() as connection:
        policy = PolicyRows(connection)
        policy.lock()
        known = policy.operators()
        added = [name for name in dict.fromkeys(wanted) if name not in known]
        if added:
            policy.put(*map(Operator, added), revision=policy.advance())
        return added
