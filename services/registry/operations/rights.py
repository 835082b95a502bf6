"""Tells a caller what it may do, by the very decisions that refuse and admit everywhere in the mesh."""

from collections.abc import Callable
from datetime import date

from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.errors import MeshError
from services.mesh.core.rights import Agreement, Policy
from services.registry.domain import AgreementRights, Rights, Standing


class RightsOperations:
    """Reads the policy that this room itself decides by; nothing is written."""

    def __init__(self, policy: Callable[[], Policy], clock: Clock) -> None:
        self._policy = policy
        self._clock = clock

    def who_am_i(self, caller: Caller) -> Standing:
        """Who the caller is."""
        policy = self._policy()
        agency = policy.agencies.get(caller.agency_id)
        system = policy.systems.get((caller.agency_id, caller.system_id))
        return Standing(caller, "" if agency is None else agency.name, system)

    def describe_rights(self, caller: Caller) -> Rights:
        """What each agreement of the calling system grants today, by id."""
        policy, day = self._policy(), legal_date(self._clock.now())
        mine = [
            agreement
            for _, agreement in sorted(policy.agreements.items())
            if caller.kind is CallerKind.AGENCY
            and (agreement.agency_id, agreement.system_id) == (caller.agency_id, caller.system_id)
        ]
        return Rights(tuple(_rights(policy, agreement, day) for agreement in mine), policy.revision)


def _rights(policy: Policy, agreement: Agreement, day: date) -> AgreementRights:
    try:
        policy.require_system_active(agreement.agency_id, agreement.system_id)
        policy.require_agreement(agreement.agency_id, agreement.system_id, agreement.agreement_id, day)
        modes = {mode: policy.usable_paths(agreement, mode, day) for mode in agreement.grants}
    except MeshError as refusal:
        return AgreementRights(agreement, refusal.reason, {})
    return AgreementRights(agreement, "", modes)
