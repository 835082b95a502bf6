"""The sentences that a refused caller reads, by reason and language."""

from collections.abc import Mapping
from functools import cache
from importlib import resources

import yaml

from services.mesh.core.errors import MeshError

LANGUAGES = ("vi", "en")


@cache
def catalogue() -> Mapping[str, Mapping[str, str]]:
    """The texts of messages.yaml: reason -> language -> sentence with braces for metadata."""
    text = resources.files(__package__).joinpath("messages.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Mapping[str, str]] = yaml.safe_load(text)
    return loaded


def sentence(error: MeshError, language: str = "en", **more: str) -> str:
    """What is wrong and what to do next, in one of LANGUAGES. Metadata that is absent reads as a dash."""
    template = catalogue()[error.reason][language]
    return template.format_map(_Facts({**error.metadata, **more}))


class _Facts(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "-"
