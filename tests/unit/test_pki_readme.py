"""The example in pki/README.md runs as it stands."""

import re
import stat
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "pki" / "README.md"


def test_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(README), "exec"), {})  # noqa: S102 - our own file is what is under test
    assert {path.name for path in (tmp_path / "registry").iterdir()} == {"tls.crt", "tls.key", "ca.crt"}
    assert stat.S_IMODE((tmp_path / "pki" / "root" / "ca.key").stat().st_mode) == 0o600
