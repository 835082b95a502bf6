"""Where a room's store is: what is refused before anybody dials, and that no refusal tells a password."""

from pathlib import Path

import pytest

from services.mesh.core.address import StoreAddress
from services.mesh.core.config import SettingsInvalid

URL = "postgresql+psycopg://npd:hush-hush@localhost/npd"
BARE = "postgresql+psycopg://npd@localhost/npd?sslmode=verify-full&sslrootcert=/etc/npd/database/ca.crt"

MALFORMED = {
    "empty": "",
    "no URL": "hush-hush",
    "another driver": "postgresql://npd:hush-hush@localhost/npd",
    "another database": "mysql+pymysql://npd:hush-hush@localhost/npd",
    "no such driver": "hush-hush+psycopg://npd:hush-hush@localhost/npd",
    "a port that is no number": "postgresql+psycopg://npd:hush-hush@localhost:hush-hush/npd",
    "a password without a host": "postgresql+psycopg://npd:hush-hush",
    "an address without its end": "postgresql+psycopg://npd:hush-hush@[::1/npd",
    "no database": "postgresql+psycopg://npd:hush-hush@localhost",
    "an unescaped @": "postgresql+psycopg://npd:p@hush-hush@localhost/npd",
    "an unescaped @ and ?": "postgresql+psycopg://npd:p@hush?hush@localhost/npd",
    "an unknown parameter": "postgresql+psycopg://npd:hush-hush@localhost/npd?sslmod=hush-hush",
    "a port among the parameters that is none": "postgresql+psycopg://npd@localhost/npd?port=hush-hush",
}


@pytest.mark.parametrize("url", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_url_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^NPD_DATABASE_URL_FILE: ") as refused:
        StoreAddress.of(url)
    assert "hush" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("query", ["", "?password=hush-hush", "?passfile=/run/hush-hush"])
def test_a_password_stands_in_one_place(tmp_path: Path, query: str) -> None:
    (tmp_path / "password").write_text("hush-hush\n")
    url = f"postgresql+psycopg://npd@localhost/npd{query}" if query else URL
    StoreAddress.of(url)
    with pytest.raises(SettingsInvalid, match=r"^NPD_DATABASE_URL_FILE: its URL holds a password") as refused:
        StoreAddress.of(url, tmp_path / "password")
    assert "hush" not in str(refused.value)


def test_a_password_beside_its_url_is_read_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"^NPD_DATABASE_PASSWORD_FILE: .*No such file"):
        StoreAddress.of(BARE, tmp_path / "password")
    (tmp_path / "password").write_text("hush-hush\n")
    assert "hush" not in repr(StoreAddress.of(BARE, tmp_path / "password"))
    assert "hush" not in repr(StoreAddress.of(URL))
