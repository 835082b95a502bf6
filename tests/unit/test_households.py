"""Families and households of the synthetic population: what one record says of another, the other says of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from random import Random

import pytest
from google.type import date_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from npd.common.v1 import person_pb2
from services.local.block import EARLIEST_DAY, age_on
from services.local.households import Human, Relation, Settlement, settle
from services.local.population import BLOCK, CAPACITY, Population

AS_OF = date(2026, 9, 1)
SEXES = (person_pb2.SEX_MALE, person_pb2.SEX_FEMALE)
MARRIED = person_pb2.MARITAL_STATUS_MARRIED
HEAD, SPOUSE, CHILD, PARENT = (relation.value for relation in list(Relation)[:4])

People = dict[str, person_pb2.Person]

blocks = st.builds(
    lambda seed, as_of, block: by_pin(Population(seed, CAPACITY, as_of), block),
    st.integers(-(2**40), 2**40),
    st.dates(EARLIEST_DAY, date(2040, 12, 31)),
    st.integers(0, CAPACITY // BLOCK - 1),
)
ages = st.integers(0, 109 * 365)


def by_pin(population: Population, block: int) -> People:
    """The people of one whole block."""
    people = [population.citizen(index).person for index in range(block * BLOCK, (block + 1) * BLOCK)]
    return {person.pin: person for person in people}


@cache
def sample() -> People:
    """Some thousand people for the tests that look at all of them; they fill their blocks."""
    assert 4_000 % BLOCK == 0
    return {citizen.person.pin: citizen.person for citizen in Population(seed=7, size=4_000, as_of=AS_OF)}


def listed(person: person_pb2.Person) -> list[person_pb2.RelatedPerson]:
    """Everybody in the household of a person."""
    return [person.household.head, *person.household.members]


def named(person: person_pb2.Person) -> Iterator[person_pb2.RelatedPerson]:
    """Everybody with a PIN whom a record names."""
    family = (person.mother, person.father, *person.spouses, *person.children)
    return (other for other in (*listed(person), *family) if other.pin)


def pins(people: Sequence[person_pb2.RelatedPerson]) -> list[str]:
    return [person.pin for person in people]


def earliest(birth: date_pb2.Date) -> date:
    return date(birth.year, birth.month or 1, birth.day or 1)


def latest(birth: date_pb2.Date) -> date:
    return date(birth.year, birth.month or 12, birth.day or 28)


@settings(max_examples=40)
@given(people=blocks)
def test_whoever_a_record_names_by_pin_is_a_person_of_the_same_block_under_the_same_name(people: People) -> None:
    for person in people.values():
        for other in named(person):
            assert other.name == people[other.pin].full_name
            assert other.nationality == "VN"
            assert not other.old_id_number


@settings(max_examples=40)
@given(people=blocks)
def test_everybody_of_a_household_lists_the_same_people_himself_among_them_once(people: People) -> None:
    for person in people.values():
        assert pins(listed(person)).count(person.pin) == 1
        assert len(set(pins(listed(person)))) == len(listed(person))
        for other in listed(person):
            assert people[other.pin].household == person.household


@settings(max_examples=40)
@given(people=blocks)
def test_a_household_has_one_head_and_everybody_in_it_the_relation_that_his_family_says(people: People) -> None:
    for person in people.values():
        head, relation = people[person.household.head.pin], person.relation_to_head
        assert relation.list_version == "provisional"
        assert relation.code in set(Relation)
        assert (relation.code == HEAD) == (person.pin == head.pin)
        assert (relation.code == SPOUSE) == (person.pin in pins(head.spouses))
        assert (relation.code == CHILD) == (person.pin in pins(head.children))
        assert (relation.code == PARENT) == (person.pin in (head.mother.pin, head.father.pin))


@settings(max_examples=40)
@given(people=blocks)
def test_a_household_lives_at_one_address_declared_when_all_of_it_were_on_record(people: People) -> None:
    for person in people.values():
        assert person.permanent_residence == people[person.household.head.pin].permanent_residence


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), as_of=st.dates(EARLIEST_DAY, date(2040, 12, 31)))
def test_an_address_is_not_declared_before_its_people_are_registered(seed: int, as_of: date) -> None:
    for citizen in Population(seed, BLOCK, as_of):
        registered_on = (citizen.register_time + timedelta(hours=7)).date()
        assert registered_on <= earliest(citizen.person.permanent_residence.as_of_date) <= as_of


@settings(max_examples=40)
@given(people=blocks)
def test_spouses_are_two_people_who_name_each_other_and_both_are_married(people: People) -> None:
    for person in people.values():
        assert len(person.spouses) == (person.marital_status == MARRIED)
        for spouse in person.spouses:
            other = people[spouse.pin]
            assert pins(other.spouses) == [person.pin]
            assert {person.sex, other.sex} == set(SEXES)
            assert other.household == person.household


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), as_of=st.dates(EARLIEST_DAY, date(2040, 12, 31)))
def test_nobody_is_married_divorced_or_widowed_before_the_marriageable_age(seed: int, as_of: date) -> None:
    for citizen in Population(seed, BLOCK, as_of):
        person = citizen.person
        marriageable = 20 if person.sex == person_pb2.SEX_MALE else 18
        if person.marital_status != person_pb2.MARITAL_STATUS_SINGLE:
            assert age_on(as_of, earliest(person.birth_date)) >= marriageable


@settings(max_examples=40)
@given(people=blocks)
def test_parents_and_children_name_each_other(people: People) -> None:
    for person in people.values():
        for child in person.children:
            parent = people[child.pin].mother if person.sex == person_pb2.SEX_FEMALE else people[child.pin].father
            assert parent.pin == person.pin
        for parent in (person.mother, person.father):
            if parent.pin:
                assert pins(people[parent.pin].children).count(person.pin) == 1


@settings(max_examples=40)
@given(people=blocks)
def test_mothers_are_women_fathers_are_men_and_both_are_old_enough(people: People) -> None:
    for person in people.values():
        for parent, sex in ((person.mother, person_pb2.SEX_FEMALE), (person.father, person_pb2.SEX_MALE)):
            if parent.pin:
                assert people[parent.pin].sex == sex
                years = person.birth_date.year - people[parent.pin].birth_date.year
                assert 18 <= years <= (46 if sex == person_pb2.SEX_FEMALE else 63)
                assert age_on(earliest(person.birth_date), latest(people[parent.pin].birth_date)) >= 15


@settings(max_examples=40)
@given(people=blocks)
def test_family_names_are_handed_down_and_a_family_is_of_one_ethnic_group(people: People) -> None:
    for person in people.values():
        parents = [people[parent.pin] for parent in (person.mother, person.father) if parent.pin]
        if len(parents) == 2:
            assert person.full_name.family in [parent.full_name.family for parent in parents]
        assert all(parent.ethnicity == person.ethnicity for parent in parents)


def test_children_of_one_mother_are_twins_or_born_months_apart() -> None:
    families = [
        [sample()[child.pin].birth_date for child in person.children]
        for person in sample().values()
        if len(person.children) > 1
    ]
    assert len(families) > 200
    for births in families:
        known = sorted(earliest(birth) for birth in births if birth.day)
        gaps = [(later - sooner).days for sooner, later in pairwise(known)]
        assert all(gap == 0 or gap >= 270 for gap in gaps)


def test_households_are_of_many_sizes_and_some_people_live_alone() -> None:
    sizes = Counter(len(listed(person)) for person in sample().values() if person.relation_to_head.code == HEAD)
    assert 2.5 < len(sample()) / sum(sizes.values()) < 4.5
    assert {1, 2, 3, 4, 5, 6} <= set(sizes)
    assert max(sizes) <= BLOCK


def test_every_relation_to_a_head_occurs_and_women_head_households_too() -> None:
    assert {person.relation_to_head.code for person in sample().values()} == set(Relation)
    heads = Counter(person.sex for person in sample().values() if person.relation_to_head.code == HEAD)
    assert min(heads.values()) > len(sample()) / 20


def test_most_grown_ups_are_married_and_most_minors_live_with_a_parent() -> None:
    grown = [person for person in sample().values() if 1950 < person.birth_date.year < 1995]
    assert 0.5 < sum(person.marital_status == MARRIED for person in grown) / len(grown) < 0.8
    minors = [person for person in sample().values() if person.birth_date.year > AS_OF.year - 18]
    assert sum(person.relation_to_head.code == CHILD for person in minors) > 0.8 * len(minors)


def test_only_a_size_within_a_block_leaves_people_with_family_outside_the_population() -> None:
    def strangers(size: int) -> set[str]:
        people = [citizen.person for citizen in Population(7, size, AS_OF)]
        return {other.pin for person in people for other in named(person)} - {person.pin for person in people}

    assert not strangers(10 * BLOCK)
    assert strangers(10 * BLOCK + 7) <= set(by_pin(Population(7, CAPACITY, AS_OF), 10))
    assert strangers(10 * BLOCK + 7)


def test_blocks_fill_the_greatest_population() -> None:
    assert CAPACITY % BLOCK == 0


def humans(given_ages: Sequence[tuple[int, "person_pb2.Sex.ValueType"]]) -> list[Human]:
    births = [(AS_OF - timedelta(days=days), sex) for days, sex in given_ages]
    return [Human(sex, birth, age_on(AS_OF, birth)) for birth, sex in births]


def housed(settlement: Settlement) -> list[int]:
    return sorted(place for household in settlement.households for place, _ in household.relations())


@settings(max_examples=300)
@given(seed=st.integers(0, 1000), given_ages=st.lists(st.tuples(ages, st.sampled_from(SEXES)), max_size=30))
def test_everybody_is_settled_once_whoever_he_is(
    seed: int, given_ages: list[tuple[int, "person_pb2.Sex.ValueType"]]
) -> None:
    people = humans(given_ages)
    settlement = settle(Random(seed), people)
    assert housed(settlement) == list(range(len(people)))
    assert len(settlement.statuses) == len(people)
    coupled = sorted(place for household in settlement.households for pair in household.couples() for place in pair)
    assert coupled == [place for place, status in enumerate(settlement.statuses) if status == MARRIED]


@settings(max_examples=200)
@given(seed=st.integers(0, 1000), given_ages=st.lists(st.tuples(ages, st.sampled_from(SEXES)), max_size=30))
def test_minors_live_with_a_grown_up_where_there_is_one(
    seed: int, given_ages: list[tuple[int, "person_pb2.Sex.ValueType"]]
) -> None:
    people = humans(given_ages)
    if not any(human.age >= 18 for human in people):
        return
    for household in settle(Random(seed), people).households:
        assert people[household.head].age >= 18


@pytest.mark.parametrize("seed", range(20))
def test_children_without_any_grown_up_keep_house_together_under_the_eldest(seed: int) -> None:
    children = humans([(3000, SEXES[0]), (5000, SEXES[1]), (1000, SEXES[0])])
    (household,) = settle(Random(seed), children).households
    assert household.head == 1
    assert sorted(household.others) == [0, 2]


@pytest.mark.parametrize("seed", range(20))
def test_nobody_marries_far_out_of_his_generation(seed: int) -> None:
    people = humans([(70 * 366, SEXES[0]), (30 * 366, SEXES[1]), (25 * 366, SEXES[0]), (50 * 366, SEXES[1])])
    assert MARRIED not in settle(Random(seed), people).statuses
