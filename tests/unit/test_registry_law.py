"""The law as data: complete, consistent in itself, and in step with the contract."""

from npd.common.v1 import person_pb2
from services.registry import law

PERSON = [field.name for field in person_pb2.Person.DESCRIPTOR.fields]
ROOMS = {"identity", "residence", "civil_status"}


def test_catalogue_is_the_fields_of_person() -> None:
    assert [field.path for field in law.fields()] == PERSON


def test_every_field_has_a_source_and_a_provision_that_is_known() -> None:
    known = {provision.provision_id for provision in law.provisions()}
    for field in law.fields():
        assert field.provision in known
        assert field.authority
        assert set(field.authority) <= ROOMS | {"agency"}
        assert len(set(field.authority)) == len(field.authority)


def test_medical_database_outranks_identity_for_the_blood_type() -> None:
    (blood_type,) = [field for field in law.fields() if field.path == "blood_type"]
    assert blood_type.authority == ("agency", "identity")
    assert blood_type.sensitive


def test_purposes_rest_on_provisions_in_force_and_name_known_fields() -> None:
    known = {provision.provision_id: provision for provision in law.provisions()}
    for purpose in law.purposes():
        assert known[purpose.provision].validity.covers(purpose.validity.start)
        assert purpose.paths
        assert purpose.paths <= set(PERSON)


def test_purposes_are_those_of_the_classes_of_consumers() -> None:
    purposes = {purpose.code: purpose.paths for purpose in law.purposes()}
    assert purposes["STATE_MANAGEMENT"] == purposes["OWN_DATA"] == purposes["DATABASE_FEED"] == set(PERSON)
    assert purposes["CUSTOMER_IDENTIFICATION"] < purposes["ADMINISTRATIVE_PROCEDURE"] < set(PERSON)


def test_rows_are_named_once() -> None:
    for keys in (
        [provision.provision_id for provision in law.provisions()],
        [field.path for field in law.fields()],
        [purpose.code for purpose in law.purposes()],
    ):
        assert len(keys) == len(set(keys))


def test_nothing_ends_before_it_begins() -> None:
    rows = [row.validity for row in law.provisions()]
    rows += [row.validity for row in law.fields()]
    rows += [row.validity for row in law.purposes()]
    assert all(validity.end is None or validity.start <= validity.end for validity in rows)
