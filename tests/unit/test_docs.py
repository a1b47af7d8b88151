"""The pages say what is there: each link leads somewhere, each alert has its section of the handbook, and no other."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from services.cli.main import app

TREE = Path(__file__).parents[2]
SKIPPED = {".venv", ".dinrail", "node_modules", "site"}
PAGES = sorted(path for path in TREE.rglob("*.md") if not SKIPPED & set(path.relative_to(TREE).parts))
RULES = TREE / "monitoring" / "prometheus" / "rules" / "dinrail.yml"


def prose(page: Path) -> str:
    """The page without what stands in code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: "" if "](" in code[0] else code[0], text)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Of each heading, as web pages of repositories make them: lower case, blanks as hyphens, no other signs."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", prose(page), flags=re.MULTILINE)
    found: list[str] = []
    for heading in headings:
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))
def test_every_link_of_a_page_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)

    assert broken == []


def test_every_page_is_named_by_the_readme_or_by_a_page_that_is() -> None:
    reached, new = set(), {TREE / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        targets = (target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)))
        new |= {
            file
            for target in targets
            if target.endswith(".md") and (file := (page.parent / target).resolve()).exists() and file not in reached
        }

    assert sorted(path.name for path in (TREE / "docs").glob("*.md") if path not in reached) == []


def test_each_alert_has_its_section_of_the_handbook_and_names_it() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    page = TREE / "docs" / "incidents.md"
    sections = re.split(r"^## +(\w+)$", page.read_text(), flags=re.MULTILINE)
    told = dict(zip(sections[1::2], sections[2::2], strict=True))

    assert len(alerts) > 20
    assert sorted(told) == sorted(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook"] == f"docs/incidents.md#{name.lower()}"
        assert all(f"**{part}**: " in told[name] for part in ("Means", "Look", "Do")), name


def test_the_unit_for_systemd_runs_a_command_that_there_is_on_a_page_that_there_is() -> None:
    unit = (TREE / "examples" / "systemd" / "dinrail.service").read_text()
    (command,) = re.findall(r"^ExecStart=\S+/dinrail (.*)$", unit, flags=re.MULTILINE)
    (page,) = re.findall(r"^Documentation=file:///opt/dinrail/(.*)$", unit, flags=re.MULTILINE)

    assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0
    assert (TREE / page).is_file()
    assert "/opt/dinrail" in (TREE / page).read_text()
