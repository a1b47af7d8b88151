"""What Grafana makes of our dashboards: their queries with the variables put in, asked of the servers themselves."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

ROOT = Path(__file__).parents[1]
DASHBOARDS = ROOT / "monitoring" / "grafana" / "dashboards"


@dataclass(frozen=True)
class Query:
    """One query of a dashboard. panel: its title, or `variable NAME`; ref: the query's letter in the panel."""

    dashboard: str
    panel: str
    ref: str
    kind: str
    text: str
    target: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Names it in the dashboard."""
        return f"{self.panel} {self.ref}"


def dashboard(name: str) -> dict[str, Any]:
    """The dashboard of this file."""
    return dict(json.loads((DASHBOARDS / f"{name}.json").read_text()))


def queries(name: str) -> Iterator[Query]:
    """All that the dashboard asks: for its panels and for its variables."""
    made = dashboard(name)
    for panel in made["panels"]:
        for target in panel["targets"]:
            text = target.get("query") or target["expr"]
            yield Query(name, panel["title"], target["refId"], target["datasource"]["type"], text, target)
    for variable in made["templating"]["list"]:
        text = variable["definition"]
        yield Query(name, "variable", variable["name"], variable["datasource"]["type"], text, variable)


@dataclass(frozen=True)
class Choice:
    """Time and variables as somebody has chosen them; a variable that is not named stands for all.

    begin_s, end_s: seconds since 1970. step_s: of an interval; rate_s: of $__rate_interval.
    """

    begin_s: int
    end_s: int
    step_s: int = 10
    rate_s: int = 40
    chosen: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def put_into(self, query: Query) -> str:
        """The query as it is sent."""
        text = query.text.replace("$timeFilter", f"time >= {self.begin_s * 1000}ms and time <= {self.end_s * 1000}ms")
        text = text.replace("$__rate_interval", f"{self.rate_s}s").replace("$__interval", f"{self.step_s}s")
        text = text.replace("$__range", f"{self.end_s - self.begin_s}s")
        for variable in dashboard(query.dashboard)["templating"]["list"]:
            names = self.chosen.get(variable["name"])
            value = variable["allValue"] if names is None else f"({'|'.join(map(re.escape, names))})"
            text = re.sub(rf"\${variable['name']}\b", lambda _, value=value: value, text)
        assert not re.search(r"\$[A-Za-z_{]", text), f"what Grafana knows nothing of: {text}"
        return text


Series = tuple[dict[str, str], dict[int, Any]]
"""Labels, and values by seconds since 1970."""


def asked_of_influxdb(server: str, database: str, text: str) -> list[Series]:
    """One entry for each series; a list at each time where there are several columns."""
    answer = urllib3.request("POST", f"{server}/query?db={database}&epoch=s", fields={"q": text})
    (result,) = json.loads(answer.data)["results"]
    assert "error" not in result, f"{text}: {result['error']}"
    found = []
    for series in result.get("series", []):
        columns = series["columns"][1:]
        rows = {at: row if len(columns) > 1 else row[0] for at, *row in series["values"]}
        found.append((series.get("tags", {}), rows))
    return found


def tag_values(server: str, database: str, text: str) -> list[str]:
    """What a variable offers."""
    answer = urllib3.request("POST", f"{server}/query?db={database}", fields={"q": text})
    (result,) = json.loads(answer.data)["results"]
    assert "error" not in result, f"{text}: {result['error']}"
    return sorted({value for series in result.get("series", []) for _, value in series["values"]})


def asked_of_prometheus(server: str, query: Query, choice: Choice) -> list[Series]:
    """As Grafana asks: at the end of the time, or step by step over all of it."""
    text = choice.put_into(query)
    if query.target.get("instant"):
        fields = {"query": text, "time": str(choice.end_s)}
        found = _result(server, "query", fields)
        return [(one["metric"], {int(one["value"][0]): float(one["value"][1])}) for one in found]
    fields = {"query": text, "start": str(choice.begin_s), "end": str(choice.end_s), "step": str(choice.step_s)}
    found = _result(server, "query_range", fields)
    return [(one["metric"], {int(at): float(value) for at, value in one["values"]}) for one in found]


def label_values(server: str, text: str, choice: Choice) -> list[str]:
    """What a variable of the form label_values(selector, label) offers."""
    asked = re.fullmatch(r"label_values\((.+), (\w+)\)", text)
    assert asked, f"not understood: {text}"
    fields = {"match[]": asked[1], "start": str(choice.begin_s), "end": str(choice.end_s)}
    answer = urllib3.request("GET", f"{server}/api/v1/label/{asked[2]}/values", fields=fields)
    assert answer.status == 200, answer.data
    return sorted(json.loads(answer.data)["data"])


def _result(server: str, path: str, fields: Mapping[str, str]) -> list[dict[str, Any]]:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = urllib3.request("POST", f"{server}/api/v1/{path}", body=urlencode(fields), headers=form)
    said = json.loads(answer.data)
    assert said["status"] == "success", f"{fields['query']}: {said}"
    return list(said["data"]["result"])
