"""Writes Grafana's dashboards as JSON into the component observability; `make dashboards` runs it.

python -m k8s.dashboards.generate
"""

import itertools
import json
import string
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

from k8s.dashboards.questions import BOARDS, Board, Figure

DIRECTORY: Final = Path(__file__).parents[1] / "components/observability/dashboards"
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT, _WIDTH = 7, 6


def rendered() -> dict[str, str]:
    """The dashboards by the names of their files."""
    return {f"{board.uid}.json": _json(board) for board in BOARDS}


def _json(board: Board) -> str:
    dashboard = (
        Dashboard(board.title)
        .uid(board.uid)
        .tags(["npd-mesh"])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_variable("namespace", "label_values(npd_build_info, namespace)"))
    )
    if board.has_room:
        query = 'label_values(npd_build_info{namespace="$namespace"}, room)'
        dashboard.with_variable(_variable("room", query).multi(True).include_all(True).all_value(".+"))
    numbers = itertools.count(1)
    for question in board.questions:
        dashboard.with_row(Row(question.text).id(next(numbers)))
        for figure in question.figures:
            dashboard.with_panel(_panel(figure).id(next(numbers)))
    return json.dumps(dashboard.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _variable(name: str, query: str) -> QueryVariable:
    return QueryVariable(name).datasource(_SOURCE).query(query).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def _panel(figure: Figure) -> Panel:
    legend = VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
    panel = (
        Panel()
        .title(figure.title)
        .description(figure.description)
        .unit(figure.unit)
        .axis_soft_min(0)
        .datasource(_SOURCE)
        .legend(legend)
        .height(_HEIGHT)
        .span(_WIDTH)
    )
    for letter, line in zip(string.ascii_uppercase, figure.lines, strict=False):
        panel.with_target(Dataquery().ref_id(letter).expr(line.query).legend_format(line.legend))
    return panel


def main() -> None:
    """Write all dashboards."""
    for name, text in rendered().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
