"""Names of the synthetic population: plausible, NFC, and as irregular as names are."""

import unicodedata
from collections import Counter
from datetime import date
from functools import cache
from random import Random

import pytest

from npd.common.v1 import person_pb2
from services.local import data, names
from services.local.population import Population

SEXES = (person_pb2.SEX_MALE, person_pb2.SEX_FEMALE)


@cache
def people() -> tuple[person_pb2.Person, ...]:
    population = Population(seed=11, size=6_000, as_of=date(2026, 9, 1))
    return tuple(citizen.person for citizen in population)


def names_of(person: person_pb2.Person) -> list[person_pb2.PersonName]:
    return [person.full_name, *person.other_names] + [
        parent.name for parent in (person.father, person.mother) if parent.HasField("name")
    ]


def test_every_text_is_nfc_and_single_spaced() -> None:
    for person in people():
        for text in (
            *(name.full for name in names_of(person)),
            person.permanent_residence.detail_text,
            person.current_residence.detail_text,
        ):
            assert unicodedata.is_normalized("NFC", text)
            assert text == " ".join(text.split())
            assert 0 < len(text) <= 200


def test_the_full_name_joins_the_parts() -> None:
    for person in people():
        for name in names_of(person):
            parts = [part for part in (name.family, name.middle, name.given) if part]
            assert name.full in (" ".join(parts), " ".join(reversed(parts)))


def test_family_names_are_as_frequent_as_they_are_known_to_be() -> None:
    families = Counter(person.full_name.family for person in people())
    assert families.most_common(1)[0][0] == "Nguyễn"
    assert 0.2 < families["Nguyễn"] / len(people()) < 0.4
    assert {"Trần", "Lê", "Phạm", "Hoàng", "Huỳnh", "Vũ", "Võ"} <= set(families)


def test_names_of_one_part_occur_and_belong_to_groups_that_have_them() -> None:
    alone = [person for person in people() if not person.full_name.family]
    traditions = {row["code"]: row["tradition"] for row in data.rows("ethnic_group_homes.csv")}
    assert len(alone) > 10
    assert all(person.full_name.given == person.full_name.full for person in alone)
    assert {traditions[person.ethnicity.code] for person in alone} <= {
        "ede", "mnong", "giarai", "kontum", "bana", "coho",
    }  # fmt: skip


def test_both_tone_placements_occur() -> None:
    given = {person.full_name.given for person in people()}
    assert {"Hòa", "Hoà", "Thủy", "Thuỷ"} <= given


def test_a_child_shares_its_family_name_with_a_parent() -> None:
    children = [person for person in people() if person.HasField("father") and person.full_name.family]
    assert len(children) > 1_000
    for child in children:
        assert child.full_name.family in (child.father.name.family, child.mother.name.family)


def test_some_have_other_names_and_some_fathers_are_unknown() -> None:
    assert any(person.other_names for person in people())
    assert any(person.HasField("mother") and not person.HasField("father") for person in people())
    assert not any(person.HasField("father") and not person.HasField("mother") for person in people())


@pytest.mark.parametrize("row", list(data.rows("ethnic_group_homes.csv")), ids=lambda row: row["code"])
def test_every_ethnic_group_has_names_for_both_sexes(row: dict[str, str]) -> None:
    traditions = (names.KINH_NORTH, names.KINH_SOUTH) if row["tradition"] == names.KINH else (row["tradition"],)
    for tradition in traditions:
        for sex in SEXES:
            assert names.load_names().draw(Random(1), tradition, sex, 1990).full


def test_thi_is_the_middle_name_of_old_women_more_often_than_of_girls() -> None:
    def share(birth_year: int) -> float:
        random = Random(5)
        drawn = [
            names.load_names().draw(random, names.KINH_NORTH, person_pb2.SEX_FEMALE, birth_year).middle
            for _ in range(500)
        ]
        return drawn.count("Thị") / len(drawn)

    assert share(1945) > 0.6 > 0.4 > share(2018)


def test_every_group_of_the_list_of_2008_occurs_in_the_tables() -> None:
    groups = {row["code"] for row in data.rows("ethnic_groups_2008.csv")}
    assert groups == {row["code"] for row in data.rows("ethnic_group_homes.csv")}
    assert len(groups) == 54


def test_an_unknown_tradition_has_no_names() -> None:
    with pytest.raises(KeyError):
        names.load_names().draw(Random(1), "none", person_pb2.SEX_MALE, 1990)
