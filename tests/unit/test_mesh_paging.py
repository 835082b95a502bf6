"""Pages: their sizes, and tokens that come back as they were given or are refused."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh.core.errors import InvalidField, PageTokenInvalid
from services.mesh.wire.paging import from_token, page_size, to_token

parts = st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), min_size=1, max_size=20)


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (200, 200)])
def test_a_page_has_a_size(asked: int, size: int) -> None:
    assert page_size(asked, default=50, most=200) == size


@pytest.mark.parametrize("asked", [-1, 201, 2**31 - 1, -(2**31)])
def test_an_impossible_size_is_refused(asked: int) -> None:
    with pytest.raises(InvalidField) as refused:
        page_size(asked, default=50, most=200)
    assert refused.value.violations[0].field == "page_size"


@settings(deadline=None)
@given(st.lists(parts, min_size=1, max_size=3))
def test_a_token_comes_back_as_the_key_that_it_was_made_of(key: list[str]) -> None:
    assert from_token(to_token(*key), len(key)) == tuple(key)
    with pytest.raises(PageTokenInvalid):
        from_token(to_token(*key), len(key) + 1)


def test_no_token_is_the_first_page() -> None:
    assert from_token("", 1) == from_token("", 2) == ()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "!!",
        "dGF4",
        " dGF4Cg==",
        "dGF4+/8=",
        "é",
        "٧",
        base64.urlsafe_b64encode(b"tax\n\xff").decode(),
        base64.urlsafe_b64encode(b"tax\nco\0re").decode(),
        base64.urlsafe_b64encode(b"tax\ncore\nmore").decode(),
    ],
)
def test_what_is_no_token_of_the_list_is_refused(token: str) -> None:
    with pytest.raises(PageTokenInvalid) as refused:
        from_token(token, 2)
    assert refused.value.violations[0].field == "page_token"


@settings(deadline=None)
@given(st.text(max_size=30), st.integers(1, 3))
def test_any_text_is_a_token_or_refused(token: str, count: int) -> None:
    try:
        key = from_token(token, count)
    except PageTokenInvalid:
        return
    assert key == () if not token else len(key) == count
