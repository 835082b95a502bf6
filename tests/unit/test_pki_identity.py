"""The grammar of URI identities: what parses, what is refused, and that nothing is repaired on the way."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npd_pki.errors import HostNameMalformed, IdentityMalformed, PkiError
from npd_pki.identity import Identity, Kind, agency_uri, mesh_uri, operator_uri, require_host_name

SEGMENT_START = string.ascii_lowercase + string.digits
segments = st.builds(str.__add__, st.sampled_from(SEGMENT_START), st.text(SEGMENT_START + "_-", max_size=62))
labels = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
environments = st.lists(labels, min_size=1, max_size=4).map(".".join)
uris = st.one_of(
    st.builds(mesh_uri, environments, segments),
    st.builds(agency_uri, environments, segments, segments),
    st.builds(operator_uri, environments, segments),
)


def test_each_kind_has_a_host_of_its_own() -> None:
    assert mesh_uri("npd.gov.vn", "civil_status") == "spiffe://mesh.npd.gov.vn/civil_status"
    assert agency_uri("npd.gov.vn", "gdt", "tax-lookup") == "spiffe://agency.npd.gov.vn/gdt/tax-lookup"
    assert operator_uri("npd.gov.vn", "thu") == "spiffe://operator.npd.gov.vn/thu"


@given(uris)
def test_what_was_built_parses_back_to_the_same_uri(uri: str) -> None:
    assert str(Identity.parse(uri)) == uri


@given(st.text(st.sampled_from("aA1_-./:@?#% é") | st.characters(), max_size=80))
def test_whatever_parses_is_spelled_in_its_only_spelling(rest: str) -> None:
    for text in (rest, f"spiffe://{rest}", f"spiffe://mesh.npd.test/{rest}", f"spiffe://agency.{rest}/gdt/tax"):
        try:
            identity = Identity.parse(text)
        except IdentityMalformed:
            continue
        assert str(identity) == text
        assert text.isascii()
        assert text == text.lower()
        assert not set(text.removeprefix("spiffe://")) & set(":@?#% \\")


@given(uris, st.data())
def test_one_foreign_character_anywhere_spoils_a_uri(uri: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(uri)))
    foreign = data.draw(st.sampled_from("AZ é\n\0%?#@:\\~+"))
    with pytest.raises(IdentityMalformed):
        Identity.parse(uri[:place] + foreign + uri[place:])


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://mesh.npd.test/registry",
        "SPIFFE://mesh.npd.test/registry",
        "spiffe://npd.test/registry",
        "spiffe://room.npd.test/registry",
        "spiffe://mesh/registry",
        "spiffe://mesh./registry",
        "spiffe://mesh.npd..test/registry",
        "spiffe://mesh.npd.test.:443/registry",
        "spiffe://mesh.npd.test.",
        "spiffe://mesh.npd.test",
        "spiffe://mesh.npd.test/",
        "spiffe://mesh.npd.test/registry/",
        "spiffe://mesh.npd.test//registry",
        "spiffe://mesh.npd.test/./registry",
        "spiffe://mesh.npd.test/..",
        "spiffe://mesh.npd.test/registry?x=1",
        "spiffe://mesh.npd.test/registry/extra",
        "spiffe://mesh.npd.test/-registry",
        "spiffe://mesh.npd.test/_registry",
        "spiffe://mesh.npd.test/" + "a" * 64,
        "spiffe://mesh.npd_x.test/registry",
        "spiffe://mesh.10.0.0.1/registry",
        "spiffe://agency.npd.test/gdt",
        "spiffe://agency.npd.test//tax",
        "spiffe://operator.npd.test/thu/le",
    ],
)
def test_malformed_uri_is_refused(uri: str) -> None:
    with pytest.raises(IdentityMalformed):
        Identity.parse(uri)


def test_segment_may_have_sixty_three_characters_and_no_more() -> None:
    assert mesh_uri("npd.test", "a" * 63)
    with pytest.raises(IdentityMalformed):
        mesh_uri("npd.test", "a" * 64)


def test_refusal_of_a_segment_says_which_one() -> None:
    with pytest.raises(IdentityMalformed, match="system 'Tax'"):
        agency_uri("npd.test", "gdt", "Tax")


@pytest.mark.parametrize(
    "environment", ["", "NPD.test", "npd.test.", ".npd", "npd_x", "a" * 64, "10.0.0.1", "x." * 122 + "x"]
)
def test_environment_must_be_a_host_name_that_leaves_room_for_every_kind(environment: str) -> None:
    with pytest.raises(HostNameMalformed):
        mesh_uri(environment, "registry")


@pytest.mark.parametrize("name", ["localhost", "civil-status.npd.svc.cluster.local", "1a.test", "a" * 63 + ".test"])
def test_host_names_are_taken_as_they_are(name: str) -> None:
    assert require_host_name(name) == name


@pytest.mark.parametrize("name", ["*.npd.test", "civil_status", "127.0.0.1", "a..b", "-a.test", "a-.test", "a.test\n"])
def test_wildcards_underscores_and_addresses_are_no_host_names(name: str) -> None:
    with pytest.raises(HostNameMalformed):
        require_host_name(name)


def test_identity_knows_its_kind_environment_and_path() -> None:
    identity = Identity.parse("spiffe://agency.npd.test/gdt/tax")
    assert identity == Identity(Kind.AGENCY, "npd.test", ("gdt", "tax"))
    assert identity.host == "agency.npd.test"


def test_every_refusal_can_be_caught_as_one() -> None:
    with pytest.raises(PkiError):
        Identity.parse("registry")
