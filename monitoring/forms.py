"""What Grafana wants around a panel, a variable and a dashboard."""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

METRICS = {"type": "prometheus", "uid": "dinrail-prometheus"}
HISTORY = {"type": "influxdb", "uid": "dinrail-history"}
VICTORIA = {"type": "prometheus", "uid": "dinrail-victoria"}
"""As provisioning/datasources names them."""
WIDTH = 24

GOOD, DOUBTFUL, BAD, NONE = "green", "yellow", "red", "text"


def metrics(expression: str, legend: str = "", *, at_once: bool = False, source: Json = METRICS) -> Json:
    """A PromQL query. at_once: its value at the end of the time range alone."""
    kind: Json = {"instant": True, "range": False, "format": "table"} if at_once else {"range": True}
    return {"datasource": source, "expr": expression, "legendFormat": legend or "__auto", **kind}


def history(query: str, alias: str = "", *, table: bool = False) -> Json:
    """An InfluxQL query. alias: $tag_device stands for the tag `device`."""
    form: Json = {"resultFormat": "table"} if table else {"resultFormat": "time_series", "alias": alias}
    return {"datasource": HISTORY, "query": query, "rawQuery": True, **form}


def panel(
    kind: str,
    title: str,
    *queries: Json,
    about: str,
    wide: int = 12,
    high: int = 8,
    unit: str = "short",
    states: dict[int, tuple[str, str]] | None = None,
    bound: tuple[float, str] | None = None,
    transformations: Sequence[Json] = (),
    minimum: float | None = None,
) -> Json:
    """about: what an operator reads out of it. states: texts and colours of numbers. bound: from where on a colour."""
    steps: list[Json] = [{"color": GOOD if bound else NONE, "value": None}]
    if bound:
        steps.append({"color": bound[1], "value": bound[0]})
    defaults: Json = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}, "mappings": []}
    if states:
        texts = {str(value): {"text": text, "color": colour} for value, (text, colour) in states.items()}
        defaults["mappings"] = [{"type": "value", "options": texts}]
    if minimum is not None:
        defaults["min"] = minimum
    shown: dict[str, Json] = {
        "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"},
        "timeseries": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                       "tooltip": {"mode": "multi", "sort": "desc"}},
        "state-timeline": {"showValue": "auto", "mergeValues": True, "legend": {"showLegend": False}},
        "table": {"showHeader": True},
    }  # fmt: skip
    if kind == "timeseries":
        defaults["custom"] = {"spanNulls": False, "fillOpacity": 10, "lineWidth": 1, "showPoints": "auto"}
    elif kind == "state-timeline":
        defaults["color"] = {"mode": "thresholds"}
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": queries[0]["datasource"],
        "targets": [{"refId": chr(ord("A") + at), **query} for at, query in enumerate(queries)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": shown[kind],
        "transformations": list(transformations),
        "gridPos": {"w": wide, "h": high},
    }


def columns(names: dict[str, str]) -> list[Json]:
    """Of a table: the queries' answers beside one another, of them these columns in this order, under these names."""
    order = {name: at for at, name in enumerate(names)}
    return [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": list(names)}}},
        {"id": "organize", "options": {"indexByName": order, "renameByName": names}},
    ]


def variable(name: str, query: str, source: Json, *, label: str) -> Json:
    """One or more of what the query finds, or all."""
    asked: Any = query if source is HISTORY else {"query": query, "refId": name, "qryType": 1}
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": source,
        "query": asked,
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(uid: str, title: str, about: str, panels: Sequence[Json], variables: Sequence[Json] = ()) -> Json:
    """Panels are laid out from left to right, and below when a line is full."""
    x = y = line = 0
    for number, one in enumerate(panels, start=1):
        place = one["gridPos"]
        if x + place["w"] > WIDTH:
            x, y, line = 0, y + line, 0
        place["x"], place["y"] = x, y
        x, line = x + place["w"], max(line, place["h"])
        one["id"] = number
    others = {"type": "dashboards", "title": "dinrail", "tags": ["dinrail"], "keepTime": True, "includeVars": True}
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["dinrail"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "timezone": "browser",
        "links": [{**others, "asDropdown": True, "icon": "external link", "targetBlank": False}],
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "panels": list(panels),
    }
