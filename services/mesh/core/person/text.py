"""Text as it is stored and as it is compared. Source: DOMAIN.md 5.3."""

import re
import unicodedata

_ZERO_WIDTH = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_LOOK_ALIKES = str.maketrans(
    {
        "\u00d0": "\u0110",  # ETH, seen on government pages for D with stroke
        "\u00f0": "\u0111",
        "\u0189": "\u0110",  # AFRICAN D
        "\u0256": "\u0111",
        "\u2019": "'",
        "\u2018": "'",
        "\u02bc": "'",
        "\u0060": "'",
        "\u00b4": "'",
        "\u2010": "-",
        "\u2011": "-",
        "\u2012": "-",
        "\u2013": "-",
    }
)
_SPACED_HYPHEN = re.compile(r"\s*-\s*")
_SPACED_APOSTROPHE = re.compile(r"'\s*")
_SYLLABLE = re.compile(r"[^ '-]+")
# grave, acute, hook above, tilde, dot below
_TONES = frozenset("\u0300\u0301\u0309\u0303\u0323")


def stored(text: str) -> str:
    """Text as it is stored: NFC, as written otherwise."""
    return unicodedata.normalize("NFC", text)


def comparable(text: str) -> str:
    """Text as it is compared: without zero-width characters, look-alikes, case, and extra white space."""
    text = unicodedata.normalize("NFC", text.translate(_ZERO_WIDTH)).translate(_LOOK_ALIKES)
    text = _SPACED_APOSTROPHE.sub("'", _SPACED_HYPHEN.sub("-", text))
    return unicodedata.normalize("NFC", " ".join(text.split()).casefold())


def name_key(name: str) -> str:
    """A name as identities are matched by: comparable, and with the tone of each syllable wherever it is written.

    "Hòa" and "Hoà" have one key, "Hoa" another: a match never ignores diacritics.
    """
    return _SYLLABLE.sub(lambda found: _syllable_key(found[0]), comparable(name))


def unaccented(text: str) -> str:
    """Text without diacritics: tells a difference of diacritics from one of substance; never matches an identity."""
    plain = unicodedata.normalize("NFD", comparable(text)).replace("\u0111", "d")
    return "".join(sign for sign in plain if not unicodedata.combining(sign))


def _syllable_key(syllable: str) -> str:
    """The tone, then the letters: nothing that anybody writes reads like another syllable's key."""
    signs = unicodedata.normalize("NFD", syllable)
    tones = "".join(sign for sign in signs if sign in _TONES)
    return tones + unicodedata.normalize("NFC", "".join(sign for sign in signs if sign not in _TONES))
