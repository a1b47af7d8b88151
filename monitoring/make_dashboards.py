"""Writes grafana/dashboards/*.json: python -m monitoring.make_dashboards [FOLDER]"""

import json
import sys
from pathlib import Path

from monitoring.plant_dashboards import plant, plant_in_victoria
from monitoring.service_dashboards import completeness, devices, pipelines, services


def main(folder: Path) -> None:
    """Writes every dashboard."""
    for made in (plant(), plant_in_victoria(), devices(), pipelines(), completeness(), services()):
        path = folder / f"{made['uid'].removeprefix('dinrail-')}.json"
        path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "grafana" / "dashboards")
