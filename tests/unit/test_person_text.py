"""Text as it is compared: what is only another way of writing a name, and what is another name."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh.core.person.text import comparable, name_key, stored, unaccented

TONES = "\u0300\u0301\u0309\u0303\u0323"
LETTERS = "aăâeêioôơuưyAĂÂEÊIOÔƠUƯYbcdđghklmnpqrstvxBCDĐGHKLMNPQRSTVX"
syllables = st.builds(
    lambda start, toned, tone, end: unicodedata.normalize("NFC", start + toned + tone + end),
    st.text(LETTERS, max_size=3),
    st.sampled_from("aăâeêioôơuưyAĂÂEÊIOÔƠUƯY"),
    st.sampled_from(["", *TONES]),
    st.text(LETTERS, max_size=3),
)
names = st.lists(syllables, min_size=1, max_size=5).map(" ".join)
SAME = [
    ("Nguyễn Thị Hòa", unicodedata.normalize("NFD", "Nguyễn Thị Hòa"), "decomposed"),
    ("Trần Thị Hòa", "Trần Thị Hoà", "tone placement"),
    ("Lê Thúy", "Lê Thuý", "tone placement"),
    ("Võ Khỏe", "Võ Khoẻ", "tone placement"),
    ("Nguyễn Thị Thủy Tiên", "Nguyễn Thị Thuỷ Tiên", "tone placement"),
    ("Đặng Văn Đức", "\u00d0ặng Văn \u00d0ức", "ETH for D with stroke"),
    ("Đặng Văn Đức", "\u0189ặng Văn \u0189ức", "African D for D with stroke"),
    ("đặng văn đức", "\u00f0ặng văn \u0256ức", "small look-alikes"),
    ("Nguyễn Văn An", "NGUYỄN VĂN AN", "capitals of a card"),
    ("Nguyễn Văn An", "nguyễn văn an", "small letters"),
    ("Nguyễn Văn An", "  Nguyễn\u00a0 Văn\tAn \n", "white space"),
    ("Nguyễn Văn An", "Ngu\u200byễn\ufeff V\u00adăn A\u2060n\u200d", "zero width"),
    ("H'Mông", "H\u2019Mông", "typographic apostrophe"),
    ("H'Mông", "H' mông", "blank after the apostrophe"),
    ("H'Mông", "H\u02bcMÔNG", "modifier apostrophe"),
    ("Gia-rai", "Gia - Rai", "blanks around the hyphen"),
    ("Gia-rai", "GIA\u2013RAI", "en dash"),
    ("Y Krông", "Y KRÔNG", "one-part names of the highlands"),
]
OTHER = [
    *(("Hoa", toned) for toned in ("Hòa", "Hóa", "Hỏa", "Hõa", "Họa")),
    ("Hòa", "Hóa"),
    ("Hoàn", "Hoan"),
    ("Đức", "Dức"),
    ("Sơn", "Son"),
    ("Ân", "Ăn"),
    ("Mông", "H'Mông"),
    ("Văn An", "Vănan"),
    ("Hoà-Binh", "Hoa-Bình"),
    ("Hòa Binh", "Hoa Bình"),
    ("Hoà", "Hoa1"),
    ("Thúy", "Thúi"),
]


@pytest.mark.parametrize(("one", "other", "why"), SAME)
def test_another_way_of_writing_is_the_same_name(one: str, other: str, why: str) -> None:
    assert name_key(one) == name_key(other), why


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_another_name_is_not_the_same(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


def test_tone_placement_matters_to_comparison_of_text_but_not_of_names() -> None:
    assert comparable("Hòa") != comparable("Hoà")
    assert name_key("Hòa") == name_key("Hoà")


@pytest.mark.parametrize("blank", ["", " ", "\u200b", "\u00a0\ufeff\t", "\u00ad \u2060"])
def test_what_looks_blank_is_blank(blank: str) -> None:
    assert name_key(blank) == comparable(blank) == ""


@pytest.mark.parametrize(("text", "plain"), [("Nguyễn Thị Hoà", "nguyen thi hoa"), ("Đặng Ðức", "dang duc")])
def test_unaccented_text_has_plain_letters(text: str, plain: str) -> None:
    assert unaccented(text) == plain


def test_text_is_stored_as_written_but_composed() -> None:
    assert stored(unicodedata.normalize("NFD", "  Hoà\u200b  ")) == "  Hoà\u200b  "


@settings(deadline=None)
@given(names, st.sampled_from(["NFC", "NFD"]), st.booleans())
def test_form_and_capitals_never_matter(name: str, form: str, shout: bool) -> None:
    written = unicodedata.normalize(form, name.upper() if shout else name.lower())  # type: ignore[arg-type]
    assert name_key(written) == name_key(name)
    assert comparable(written) == comparable(name)


@settings(deadline=None)
@given(names, st.data())
def test_invisible_signs_and_more_blanks_never_matter(name: str, data: st.DataObject) -> None:
    written = ""
    for sign in name:
        written += sign + data.draw(st.sampled_from(["", "\u200b", "\u00ad", "\ufeff"]))
        written += data.draw(st.sampled_from(["", " ", "\u00a0", "\t"])) if sign == " " else ""
    assert name_key(f" {written} ") == name_key(name)


@settings(deadline=None)
@given(syllables, st.data())
def test_the_tone_may_stand_on_any_letter_of_its_syllable(syllable: str, data: st.DataObject) -> None:
    signs = unicodedata.normalize("NFD", syllable)
    tones, letters = [sign for sign in signs if sign in TONES], [sign for sign in signs if sign not in TONES]
    place = data.draw(st.integers(1, len(letters)))
    moved = unicodedata.normalize("NFC", "".join([*letters[:place], *tones, *letters[place:]]))
    assert name_key(moved) == name_key(syllable)


@settings(deadline=None)
@given(names, names)
def test_names_with_one_key_differ_in_no_letter(one: str, other: str) -> None:
    if name_key(one) == name_key(other):
        assert unaccented(one) == unaccented(other)


@settings(deadline=None)
@given(st.lists(syllables, min_size=1, max_size=4), st.sampled_from([" ", "-", "'"]), st.data())
def test_a_tone_belongs_to_its_syllable(parts: list[str], joint: str, data: st.DataObject) -> None:
    bare = [without_tone(part) for part in parts]
    here, there = (data.draw(st.integers(0, len(parts) - 1)) for _ in range(2))
    tone = data.draw(st.sampled_from(TONES))
    keys = [name_key(joint.join([*bare[:place], bare[place] + tone, *bare[place + 1 :]])) for place in (here, there)]
    assert (keys[0] == keys[1]) == (here == there)


def without_tone(syllable: str) -> str:
    kept = (sign for sign in unicodedata.normalize("NFD", syllable) if sign not in TONES)
    return unicodedata.normalize("NFC", "".join(kept))


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_can_be_compared(text: str) -> None:
    assert comparable(text) == comparable(stored(text)) == comparable(f" {text}\u200b ")
    assert name_key(text) == name_key(stored(text))
    assert unaccented(text) == unaccented(stored(text))
