"""Prints at the end what tests measured, whichever process of pytest-xdist they ran in."""

from collections.abc import Callable

import pytest

_FIGURES = "figures"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Prints a line of figures in the summary."""

    def told(line: str) -> None:
        record_property(_FIGURES, line)

    return told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print them."""
    reports = [report for key in ("passed", "failed") for report in terminalreporter.stats.get(key, ())]
    lines = [str(line) for report in reports for key, line in report.user_properties if key == _FIGURES]
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(lines))
