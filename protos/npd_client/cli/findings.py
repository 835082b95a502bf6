"""A diagnosis for the human eye or a script, and the exit code that it ends a command with."""

import json

from rich.console import Console

from npd_client.cli.outcome import ExitCode, Language
from npd_client.diagnosis import Diagnosis, Result

_LABELS = {Result.OK: "ok", Result.WARNING: "WARNING", Result.FAILED: "FAILED", Result.SKIPPED: "skipped"}
_STYLES = {Result.WARNING: "yellow", Result.FAILED: "red", Result.SKIPPED: "dim"}


def show(diagnosis: Diagnosis, language: Language = Language.ENGLISH, *, as_json: bool = False) -> None:
    """Print every check: what was found, and what to do."""
    if as_json:
        print(json.dumps(_facts(diagnosis), ensure_ascii=False, indent=2))
        return
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    for check in diagnosis.checks:
        line = f"{_LABELS[check.result]:9}{check.name:20}{check.found.in_language(language)}"
        console.print(line, style=_STYLES.get(check.result))
        if check.remedy.english:
            console.print(f"{'':29}-> {check.remedy.in_language(language)}", style=_STYLES.get(check.result))


def exit_code(diagnosis: Diagnosis) -> ExitCode:
    """0 if nothing failed, 3 if all that failed is that nothing answers there, otherwise 1."""
    if diagnosis.is_sound:
        return ExitCode.ANSWERED
    return ExitCode.UNREACHABLE if diagnosis.is_only_unreachable else ExitCode.REFUSED


def _facts(diagnosis: Diagnosis) -> dict[str, object]:
    checks = [
        {
            "name": check.name,
            "result": check.result.value,
            "found": check.found._asdict(),
            "remedy": check.remedy._asdict(),
        }
        for check in diagnosis.checks
    ]
    return {"sound": diagnosis.is_sound, "checks": checks}
