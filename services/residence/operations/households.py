"""Households: who leaves, founds or joins one, and who is its head."""

from collections.abc import Callable
from dataclasses import replace
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
    HouseholdFull,
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

        How the others are related to the new head nobody has stated. Raises what Policy.authorise raises,
        PersonUnknown, IdentityMismatch, HouseholdUnknown, PersonNotInHousehold, HeadAlready, Overloaded.
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
            tx.households.put(household_id, *household.members)
            tx.households.own(household_id)
            act = Act.begun("residence.name_head", caller, access, self._clock.now())
            told = self._effects.household(household, household.members, act.time)
            self._effects.by_officer(tx, act, caller, key.method, ground, person.subject_id, told)
            return answer.give(HouseholdAct(household, act.act_id))

    def adopt(self, tx: ResidenceUnit, person: KnownPerson, held: HeldMembership) -> None:
        """Know a household from the record, as long as this room has no word of its own on it, or on where he lives.

        Each member is adopted by what the record tells of him; the record is told nothing, for it said so itself. It
        names the head by the number that he had then, so he is looked for by all that he ever had.
        """
        if tx.residences.of_person(person.subject_id).has_word_on(ResidenceKind.PERMANENT):
            return
        head = tx.people.find(held.head_pin) if held.head_pin else None
        before = tx.households.id_of(person.subject_id)
        wanted = (tx.households.id_of(head.subject_id) if head else None) or held.household_id
        if held.head_pin:
            tx.households.adopt(wanted)
        households = tx.households.lock(one for one in (before, wanted) if one is not None)
        if before is not None and not households[before].is_adopted:
            return
        if not held.head_pin:
            tx.households.remove(person.subject_id)
            return
        household = households[wanted].without(person.subject_id)
        if household.is_full:
            return
        is_head = head is not None and head.subject_id == person.subject_id
        if is_head and household.head is not None:
            # of an adopted household the record's last word names the head; of one of our own it does not
            if household.is_adopted:
                tx.households.put(wanted, replace(household.head, is_head=False))
            is_head = household.is_adopted
        tx.households.put(wanted, Member.of(person, None if is_head else held.relation, is_head=is_head))

    def tell_anew(self, tx: ResidenceUnit, person: KnownPerson, cause: Causation) -> None:
        """Tell the record of a household anew, because one of its members has another name or number."""
        household_id = tx.households.id_of(person.subject_id)
        if household_id is None:
            return
        household = tx.households.lock([household_id])[household_id]
        tx.households.own(household_id)
        now = self._clock.now()
        told = self._effects.household(household, (), now)
        self._effects.by_itself(tx, "residence.renew_household", cause, person.subject_id, told, now)


def rehouse(tx: ResidenceUnit, person: KnownPerson, joining: Joining | None) -> Rehousing:
    """Let a person leave his household, if he is in one, and found or join another, if he wants to.

    The households stay locked until the transaction ends, and are told of: from now on they are this room's own. Raises
    HouseholdUnknown, HouseholdFull.
    """
    before, wanted = tx.households.id_of(person.subject_id), joining.household_id if joining else None
    households = tx.households.lock(one for one in (before, wanted) if one is not None)
    left = households.get(before) if before else None
    tx.households.own(*households)
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
        if entered.is_full:
            raise HouseholdFull(object=f"household {wanted}", state="FULL")
    member = Member.of(person, joining.relation, is_head=wanted is None)
    tx.households.put(entered.household_id, member)
    joined = entered.with_member(member)
    return Rehousing(joined if before == wanted else left, joined, was_head)


def _inhabited(household: Household | None) -> Household:
    if household is None or not household.members:
        raise HouseholdUnknown()
    return household
