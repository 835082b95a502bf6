"""Dashboards: checked in as generated, and every query finds figures of a real run."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.dashboards.generate import rendered
from tests.k8s.recording import METRIC, OBSERVABILITY, Recording, evaluate

pytestmark = pytest.mark.timeout(300)  # the first test waits for the run

CHOSEN = {"$namespace": "npd", "$room": ".+", "$__rate_interval": "5m"}
BOARDS = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (OBSERVABILITY / "dashboards").iterdir()}


def queries(board: Mapping[str, Any]) -> list[str]:
    """The queries of a dashboard, with what one chooses in it filled in."""
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    for variable, value in CHOSEN.items():
        found = [query.replace(variable, value) for query in found]
    return found


def test_dashboards_are_as_the_generator_writes_them() -> None:
    checked_in = {path.name: path.read_text(encoding="utf-8") for path in (OBSERVABILITY / "dashboards").iterdir()}
    assert rendered() == checked_in, "run make dashboards"


def test_every_dashboard_is_handed_to_grafana() -> None:
    component = yaml.safe_load((OBSERVABILITY / "kustomization.yaml").read_text(encoding="utf-8"))
    (generator,) = component["configMapGenerator"]
    assert set(generator["files"]) == {f"dashboards/{name}" for name in BOARDS}
    assert generator["options"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_finds_something_in_a_real_run(name: str, recording: Recording, tmp_path: Path) -> None:
    asked = queries(BOARDS[name])
    assert asked
    assert not any("$" in query for query in asked)
    used = frozenset(metric for query in asked for metric in METRIC.findall(query))
    assert used - recording.names == frozenset()
    rules = [{"alert": f"Query{number}", "expr": f"absent({query})"} for number, query in enumerate(asked)]
    groups = {"groups": [{"name": name, "rules": rules}]}
    evaluate(tmp_path, groups, recording.series(used, minutes=15), {"ALERTS": []}, at=15)


@pytest.mark.parametrize("name", BOARDS)
def test_lines_are_named_by_labels_that_they_have(name: str, recording: Recording, tmp_path: Path) -> None:
    targets = [target for panel in BOARDS[name]["panels"] for target in panel.get("targets", ())]
    legends = [re.findall(r"{{(\w+)}}", target["legendFormat"]) for target in targets]
    rules, claims = list[dict[str, str]](), dict[str, list[str]]()
    for number, (query, labels) in enumerate(zip(queries(BOARDS[name]), legends, strict=True)):
        for label in labels:
            rules.append({"alert": f"Query{number}{label}", "expr": f"group by ({label}) ({query})"})
            claims[f'ALERTS{{alertname="Query{number}{label}", {label}=""}}'] = []
    groups = {"groups": [{"name": name, "rules": rules}]}
    used = frozenset(metric for query in queries(BOARDS[name]) for metric in METRIC.findall(query))
    evaluate(tmp_path, groups, recording.series(used, minutes=15), claims, at=15)


def test_a_query_that_finds_nothing_would_show(recording: Recording, tmp_path: Path) -> None:
    rules = [{"alert": "Query", "expr": 'absent(npd_set_aside{lane="VITAL"})'}]
    series = recording.series({"npd_set_aside"}, minutes=15)
    expected = ['ALERTS{alertname="Query", alertstate="firing", lane="VITAL"}']
    evaluate(tmp_path, {"groups": [{"name": "rules", "rules": rules}]}, series, {"ALERTS": expected}, at=15)


@pytest.mark.parametrize("name", BOARDS)
def test_panels_can_be_told_apart_and_name_their_lines(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        targets = panel.get("targets", ())
        assert len({target["refId"] for target in targets}) == len(targets)
        assert all(target["legendFormat"] for target in targets), panel["title"]


def test_every_metric_of_a_room_is_drawn_somewhere(recording: Recording) -> None:
    drawn = {metric for board in BOARDS.values() for query in queries(board) for metric in METRIC.findall(query)}
    made_of_others = ("_count", "_sum", "_created", "npd_followers_behind")
    assert {name for name in recording.names if not name.endswith(made_of_others)} - drawn == set()
