"""Required fields and payload hashes, by the descriptors of the contract itself."""

from collections.abc import Callable

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.type.date_pb2 import Date

from npd.common.v1 import access_pb2, evidence_pb2, person_pb2
from npd.registry.v1 import agency_pb2, agreement_pb2
from npd.sharing.v1 import change_pb2, contribution_pb2, lookup_pb2
from services.mesh.core.errors import FieldRequired
from services.mesh.wire.payload import payload_hash, require_fields

ACCESS = access_pb2.AccessContext(agreement_id="a", case_reference="c", officer_id="o")


def lookup() -> lookup_pb2.GetCitizenRequest:
    """Every required field, and no other."""
    identity = person_pb2.StatedIdentity(pin="1", full_name="x", birth_date=Date(year=1990))
    return lookup_pb2.GetCitizenRequest(access=ACCESS, identity=identity, read_mask=FieldMask(paths=["pin"]))


def missing(request: Message) -> list[str]:
    """The fields that a request is refused for."""
    try:
        require_fields(request)
    except FieldRequired as refused:
        return [violation.field for violation in refused.violations]
    return []


def test_a_request_with_every_required_field_passes() -> None:
    assert missing(lookup()) == []


def test_all_missing_fields_are_named_at_once() -> None:
    assert missing(lookup_pb2.GetCitizenRequest()) == ["access", "identity", "read_mask"]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda request: request.ClearField("read_mask"), ["read_mask"]),
        (lambda request: request.access.ClearField("officer_id"), ["access.officer_id"]),
        (lambda request: request.identity.ClearField("birth_date"), ["identity.birth_date"]),
        (lambda request: request.ClearField("identity"), ["identity"]),
        (lambda request: setattr(request.identity, "pin", ""), ["identity.pin"]),
    ],
)
def test_a_missing_field_is_named_by_its_path(
    spoil: Callable[[lookup_pb2.GetCitizenRequest], None], named: list[str]
) -> None:
    request = lookup()
    spoil(request)
    assert missing(request) == named


def test_a_present_but_empty_message_misses_its_own_fields() -> None:
    request = lookup()
    request.access.CopyFrom(access_pb2.AccessContext())
    assert missing(request) == ["access.agreement_id", "access.case_reference", "access.officer_id"]


def test_a_message_that_is_not_required_is_looked_into_only_if_it_is_there() -> None:
    request = contribution_pb2.ContributeRequest(request_id="r", items=[contribution_pb2.ContributionItem()])
    assert missing(request) == []
    request.access.agreement_id = "a"
    assert missing(request) == ["access.case_reference", "access.officer_id"]


def test_items_of_a_list_are_not_looked_into() -> None:
    request = contribution_pb2.ContributeRequest(request_id="r", items=[contribution_pb2.ContributionItem()])
    assert missing(request) == []
    assert "event_id" in missing(request.items[0])


def test_an_empty_list_an_unspecified_enum_and_zero_are_missing() -> None:
    assert missing(contribution_pb2.ContributeRequest(request_id="r")) == ["items"]
    assert missing(agreement_pb2.Grant(fields=FieldMask(paths=["pin"]))) == ["mode"]
    assert missing(evidence_pb2.GetConsistencyProofRequest()) == ["old_size"]


def test_output_only_and_optional_fields_are_never_missing() -> None:
    system = agency_pb2.System(agency_id="tax", system_id="core", name="Core")
    assert missing(agency_pb2.RegisterSystemRequest(request_id="r", system=system)) == []
    assert missing(change_pb2.PullChangesRequest(access=ACCESS)) == []
    assert missing(evidence_pb2.GetCheckpointRequest()) == []


def test_the_payload_hash_is_that_of_the_content() -> None:
    request, other = lookup(), lookup()
    assert payload_hash(request) == payload_hash(other)
    assert len(payload_hash(request)) == 32
    other.include_provenance = True
    assert payload_hash(request) != payload_hash(other)
