"""The method table of this room: its modules' tables, joined."""

from services.mesh.core.methods import Methods
from services.sharing.changes.policy import METHODS as CHANGES
from services.sharing.contribution.policy import METHODS as CONTRIBUTION
from services.sharing.lookup.policy import METHODS as LOOKUP
from services.sharing.usage.policy import METHODS as USAGE
from services.sharing.verification.policy import METHODS as VERIFICATION

METHODS: Methods = {**CONTRIBUTION, **LOOKUP, **CHANGES, **USAGE, **VERIFICATION}
