"""Households: who leaves, founds or joins one, and who is its head."""

from collections.abc import Callable
from uuid import UUID, uuid4

from services.mesh.core.answers import AnswerKey
from services.mesh.core.caller import Caller
from services.mesh.core.chain import Act, Causation
from services.mesh.core.clock import Clock, legal_date
from services.mesh.core.db import Database
from services.mesh.core.people import KnownPerson
from services.mesh.core.person.stated import StatedIdentity
from services.mesh.core.rights import Access, Mode, Policy
from services.residence.domain import ResidenceKind
from services.residence.household import (
    HeldMembership,
    Household,
    HouseholdAct,
    HouseholdUnknown,
    Joining,
    Member,
    Rehousing,
)
from services.residence.operations.effects import Effects
from services.residence.repository import ResidenceUnit


class HouseholdOperations:
    """Names heads. `require_room` raises Overloaded while too much waits to be handed on."""

    def __init__(
        self,
        database: Database[ResidenceUnit],
        policy: Callable[[], Policy],
        clock: Clock,
        effects: Effects,
        require_room: Callable[[], None],
    ) -> None:
        self._db = database
        self._policy = policy
        self._clock = clock
        self._effects = effects
        self._require_room = require_room

    def name_head(
        self, caller: Caller, access: Access, household_id: UUID, identity: StatedIdentity, key: AnswerKey
    ) -> HouseholdAct:
        """Name one of its members the head of a household; the former head, if there is one, stays a member.

        Raises what Policy.authorise raises, PersonUnknown, IdentityMismatch, HouseholdUnknown, PersonNotInHousehold,
        HeadAlready, Overloaded.
        """
        self._require_room()
        today = legal_date(self._clock.now())
        ground = self._policy().authorise(
            caller.agency_id, caller.system_id, access, Mode.REGISTER, ("household",), today
        )
        with self._db.transaction() as tx, tx.answers.once(caller, key, HouseholdAct) as answer:
            if answer.given:
                return answer.given
            (person,) = tx.people.require(identity)
            before = _inhabited(tx.households.lock([household_id]).get(household_id))
            household = before.headed_by(person.subject_id)
            changed = [member for member in household.members if member not in before.members]
            tx.households.put(household_id, *changed)
            act = Act.begun("residence.name_head", caller, access, self._clock.now())
            told = self._effects.household(household, changed, act.time)
            self._effects.by_officer(tx, act, caller, key.method, ground, person.subject_id, told)
            return answer.give(HouseholdAct(household, act.act_id))

    def adopt(self, tx: ResidenceUnit, person: KnownPerson, held: HeldMembership) -> None:
        """Know a household from the record, as long as this room has no word of its own on where the person lives.

        Each member is adopted by what the record tells of him; the record is told nothing, for it said so itself.
        """
        if tx.residences.of_person(person.subject_id).has_word_on(ResidenceKind.PERMANENT):
            return
        if not held.head_pin:
            tx.households.remove(person.subject_id)
            return
        is_head = held.head_pin == person.pin
        tx.households.ensure(held.household_id)
        tx.households.put(held.household_id, Member.of(person, None if is_head else held.relation, is_head=is_head))

    def tell_anew(self, tx: ResidenceUnit, person: KnownPerson, cause: Causation) -> None:
        """Tell the record of a household anew, because one of its members has another name or number."""
        household_id = tx.households.id_of(person.subject_id)
        if household_id is None:
            return
        household = tx.households.lock([household_id])[household_id]
        now = self._clock.now()
        told = self._effects.household(household, (), now)
        self._effects.by_itself(tx, "residence.renew_household", cause, person.subject_id, told, now)


def rehouse(tx: ResidenceUnit, person: KnownPerson, joining: Joining | None) -> Rehousing:
    """Let a person leave his household, if he is in one, and found or join another, if he wants to.

    The households stay locked until the transaction ends. Raises HouseholdUnknown.
    """
    before, wanted = tx.households.id_of(person.subject_id), joining.household_id if joining else None
    households = tx.households.lock(one for one in (before, wanted) if one is not None)
    left = households.get(before) if before else None
    was_head = left is not None and left.head is not None and left.head.subject_id == person.subject_id
    if left is not None:
        tx.households.remove(person.subject_id)
        left = households[left.household_id] = left.without(person.subject_id)
    if joining is None:
        return Rehousing(left, None, was_head)
    if wanted is None:
        entered = Household(uuid4(), ())
        tx.households.found(entered.household_id)
    else:
        entered = _inhabited(households.get(wanted))
    member = Member.of(person, joining.relation, is_head=wanted is None)
    tx.households.put(entered.household_id, member)
    joined = entered.with_member(member)
    return Rehousing(joined if before == wanted else left, joined, was_head)


def _inhabited(household: Household | None) -> Household:
    if household is None or not household.members:
        raise HouseholdUnknown()
    return household
