"""Draws architecture.yaml: a .dot and a .svg per view beside this file. Needs graphviz's `dot` for the latter.

`python docs/diagrams/draw.py`, or `make diagrams`. Each picture names the text it was drawn of, so that a test can
tell whether it is current without drawing anything.
"""

import hashlib
import html
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml

FOLDER = Path(__file__).parent
MODEL = FOLDER / "architecture.yaml"
FILLS = {
    "person": ("#08427b", "white"),
    "system": ("#1168bd", "white"),
    "container": ("#2b78c5", "white"),
    "store": ("#2b78c5", "white"),
    "component": ("#9cc8f3", "black"),
    "external": ("#6b6b6b", "white"),
}
SHAPES = {"store": "cylinder", "person": "box"}
WIDTH = 26


def texts(model: dict[str, Any]) -> dict[str, str]:
    """The text of each view in graphviz's language, by the view's name. Raises KeyError on an unknown element."""
    return {name: _view(view, model["elements"]) for name, view in model["views"].items()}


def digest(text: str) -> str:
    """What a picture says of the text that it was drawn of."""
    return hashlib.sha256(text.encode()).hexdigest()


def draw(text: str, picture: Path) -> None:
    """Writes the picture. Raises subprocess.CalledProcessError."""
    done = subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, text=True, check=True)
    picture.write_text(f"{done.stdout.rstrip()}\n<!-- drawn of {digest(text)} -->\n", encoding="utf-8")


def _view(view: dict[str, Any], elements: dict[str, Any]) -> str:
    lines = [
        "digraph view {",
        '  graph [fontname="Helvetica", fontsize=15, labelloc=t, rankdir=TB, nodesep=0.5, ranksep=0.75, pad=0.3,',
        f'         bgcolor=white, label="{view["title"]}\\n "];',
        '  node [fontname="Helvetica", fontsize=11, shape=box, style="filled,rounded", penwidth=0,',
        '        margin="0.18,0.12"];',
        '  edge [fontname="Helvetica", fontsize=10, color="#555555", fontcolor="#333333", arrowsize=0.7];',
    ]
    lines += [f"  {_node(name, elements)}" for name in view["outside"]]
    for boundary, names in view["inside"].items():
        if names != [boundary]:
            lines.append(f'  subgraph "cluster_{boundary}" {{')
            lines.append(f'    graph [label="{boundary}", style=dashed, color="#777777", labeljust=l, fontsize=13];')
        lines += [f"    {_node(name, elements)}" for name in names]
        if names != [boundary]:
            lines.append("  }")
    for one, other, what, *way in view["relations"]:
        said = "<br/>".join(html.escape(line) for line in wrap(what, WIDTH))
        label = f'<table border="0" cellspacing="4"><tr><td bgcolor="white">{said}</td></tr></table>'  # hides borders
        for name in (one, other):
            elements[name]
        lines.append(f'  "{one}" -> "{other}" [{"constraint=false, " if "up" in way else ""}label=<{label}>];')
    return "\n".join([*lines, "}", ""])


def _node(name: str, elements: dict[str, Any]) -> str:
    element = elements[name]
    fill, ink = FILLS[element["kind"]]
    kind = {"store": "container", "external": "system"}.get(element["kind"], element["kind"])
    made = f": {element['with']}" if "with" in element else ""
    about = "<br/>".join(html.escape(line) for line in wrap(element["about"], WIDTH + 4))
    label = (
        f"<b>{html.escape(element['name'])}</b><br/>"
        f'<font point-size="9">[{html.escape(kind + made)}]</font><br/><br/>{about}'
    )
    shape = SHAPES.get(element["kind"], "box")
    style = "style=filled, " if shape == "cylinder" else ""
    return f'"{name}" [shape={shape}, {style}fillcolor="{fill}", fontcolor="{ink}", label=<{label}>];'


def main() -> None:
    """Draws all."""
    if shutil.which("dot") is None:
        sys.exit("graphviz is missing: apt-get install graphviz")
    for name, text in texts(yaml.safe_load(MODEL.read_text(encoding="utf-8"))).items():
        (FOLDER / f"{name}.dot").write_text(text, encoding="utf-8")
        draw(text, FOLDER / f"{name}.svg")


if __name__ == "__main__":
    main()
