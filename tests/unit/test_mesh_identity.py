"""Identity URIs: one strict spelling, whatever a certificate says."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npd_pki.identity import Identity, agency_uri, mesh_uri, operator_uri
from services.mesh.core.caller import CallerKind, IdentityMalformed, SpiffeId
from tests.certificates import malformed_uris

ENV = "test.npd.example"

segments = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
labels = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
environments = st.lists(labels, min_size=1, max_size=4).map(".".join)
uris = (
    st.builds(mesh_uri, environments, segments)
    | st.builds(agency_uri, environments, segments, segments)
    | st.builds(operator_uri, environments, segments)
)


@pytest.mark.parametrize(
    ("uri", "kind", "path"),
    [
        ("spiffe://mesh.test.npd.example/sharing", CallerKind.ROOM, ("sharing",)),
        ("spiffe://agency.test.npd.example/tax/core", CallerKind.AGENCY, ("tax", "core")),
        ("spiffe://operator.test.npd.example/lan", CallerKind.OPERATOR, ("lan",)),
    ],
)
def test_each_kind_of_identity_is_read(uri: str, kind: CallerKind, path: tuple[str, ...]) -> None:
    identity = SpiffeId.parse(uri)
    assert identity == SpiffeId(kind, ENV, path)
    assert identity.host == f"{kind.value}.{ENV}"


@pytest.mark.parametrize("fault", malformed_uris(ENV))
def test_every_other_spelling_is_refused(fault: str) -> None:
    with pytest.raises(IdentityMalformed):
        SpiffeId.parse(malformed_uris(ENV)[fault])


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://",
        "spiffe:///tax/core",
        "spiffe:/agency.test.npd.example/tax/core",
        "spiffe://agency./tax/core",
        "spiffe://agency.test..example/tax/core",
        "spiffe://agency.-test.example/tax/core",
        "spiffe://agency.test.example./tax/core",
        "spiffe://agency.test.npd.example/tax/-core",
        "spiffe://agency.test.npd.example/tax/co.re",
        "spiffe://agency.test.npd.example/tax/../core",
        "spiffe://agency.test.npd.example/tax/" + "c" * 64,
        "spiffe://agency.test.npd.example/tax/core\n",
        "spiffe://agency.test.npd.example\n/tax/core",
        "spiffe://agency.test.npd.example/tax/cơ",
        "spiffe://agency.test.npd.example/tax/٣",
        " spiffe://agency.test.npd.example/tax/core",
        "SPIFFE://agency.test.npd.example/tax/core",
        "spiffe://mesh.test.npd.example/sharing/extra",
        "spiffe://operator.test.npd.example/",
    ],
)
def test_what_only_looks_like_an_identity_is_refused(uri: str) -> None:
    with pytest.raises(IdentityMalformed):
        SpiffeId.parse(uri)


@settings(deadline=None)
@given(uris)
def test_what_the_pki_issues_is_read_back_the_same(uri: str) -> None:
    identity, issued = SpiffeId.parse(uri), Identity.parse(uri)
    assert str(identity) == uri
    assert (identity.host, identity.path) == (issued.host, issued.path)


@settings(deadline=None)
@given(uris, st.integers(min_value=0), st.sampled_from([*string.printable, "é", "\u200b", "%2f", "//", "/.", ".."]))
def test_a_sign_put_in_or_left_out_is_never_repaired(uri: str, place: int, sign: str) -> None:
    at = place % (len(uri) + 1)
    for changed in (uri[:at] + sign + uri[at:], uri[:at] + uri[at + 1 :]):
        try:
            identity = SpiffeId.parse(changed)
        except IdentityMalformed:
            continue
        assert str(identity) == changed


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_exactly_or_refused(text: str) -> None:
    for uri in (text, f"spiffe://agency.{text}", f"spiffe://agency.test.npd.example/{text}"):
        try:
            identity = SpiffeId.parse(uri)
        except IdentityMalformed:
            continue
        assert str(identity) == uri
