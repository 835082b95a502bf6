"""Calls the command `npd-pki` in the test's own process and working directory."""

import pytest

from npd_pki import cli


def done(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that is not refused prints."""
    code = cli.main(words)
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence of a command that is refused."""
    code = cli.main(words)
    captured = capsys.readouterr()
    assert code == 1
    assert captured.err.startswith("npd-pki: refused: ")
    assert "Traceback" not in captured.err
    return captured.err.removeprefix("npd-pki: refused: ")


def requested(capsys: pytest.CaptureFixture[str], name: str, *words: str) -> str:
    done(capsys, "key", "new", f"{name}/tls.key", "--unencrypted")
    done(capsys, "request", f"{name}/tls.key", "--out", f"{name}/tls.csr", *words)
    return f"{name}/tls.csr"


def issue_words(request: str, out: str, *more: str, ca: str = "agency", profile: str = "client-tls") -> list[str]:
    words = ["issue", "--ca", f"issuing/{ca}", "--request", request, "--profile", profile, "--out", out]
    return [*words, "--passphrase-file", "issuing.passphrase", *more]
