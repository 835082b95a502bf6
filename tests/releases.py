"""Other releases of the mesh's tables, as packages of migrations: one of the past, and ones that are yet to come.

releases = Releases(tmp_path, monkeypatch)
past = releases.make("past", up_to="0002")
later = releases.make("later", declaring="9000")        # one migration more, which declares a floor
migrate(url, (later, "services.sharing"))               # as that release would
"""

import shutil
import sys
from importlib import resources
from pathlib import Path

import pytest

from services.mesh.core.schema import head

MESH = "services.mesh"
LATER = "9001"
"""The revision of the migration that a later release adds."""

_MIGRATION = '''"""Of a release to come."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
{floor}


def upgrade() -> None:
    op.add_column("store", sa.Column("of_a_release_to_come", sa.Text))
'''


class Releases:
    """Makes packages in a directory, which can be imported as long as the test runs."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        monkeypatch.syspath_prepend(str(directory))
        self._monkeypatch = monkeypatch

    def make(self, name: str, *, up_to: str = "", declaring: str | None = None) -> str:
        """The package of a release: with the mesh's migrations up to a number, or with one more.

        `declaring` is the floor that the one more declares; empty: none.
        """
        versions = self._directory / name / "mesh" / "migrations" / "versions"
        versions.mkdir(parents=True)
        for package, place in ((name, versions.parents[2]), (f"{name}.mesh", versions.parents[1])):
            (place / "__init__.py").touch()
            self._monkeypatch.delitem(sys.modules, package, raising=False)  # of an earlier test
        ours = Path(str(resources.files(MESH))) / "migrations" / "versions"
        for migration in ours.glob("[0-9]*.py"):
            if not up_to or migration.name[:4] <= up_to:
                shutil.copy(migration, versions)
        if declaring is not None:
            floor = f'oldest_code = "{declaring}"' if declaring else ""
            content = _MIGRATION.format(revision=LATER, before=head(MESH), floor=floor)
            (versions / f"{LATER}_later.py").write_text(content)
        return f"{name}.mesh"
