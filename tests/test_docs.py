"""The pages say what the code does: tasks, commands and options they name are there, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

import sp_hf
from sp_hf.cli import COMMANDS
from sp_hf.evaluation.command import parser
from sp_hf.evaluation.tasks import TASKS
from sp_hf.objectives import OBJECTIVES

ROOT = Path(__file__).parents[1]
PACKAGE = Path(sp_hf.__file__).parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def anchors(text):
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), f"{page.name}: {target}"


def test_every_task_has_its_protocol():
    named = re.findall(r"^\| \[`([a-z-]+)`\]\(#", EVALUATION, re.MULTILINE)
    assert sorted(named) == sorted(TASKS)


def test_every_objective_has_its_row():
    """That the rows are what scripts/objectives.py makes of the classes: tests/objectives/test_matrix.py, slow."""
    page = (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == sorted(OBJECTIVES.own)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_tasks_of_the_pages_exist(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^(?:\.venv/bin/)?sp-hf (.+)$", text, re.MULTILINE):
        assert line.split()[0] in COMMANDS, line
        tasks = re.search(r"--tasks ((?:[a-z-]+ ?)+?)(?= -|\s*$|\s{2,}|\s#)", line)
        for task in tasks[1].split() if tasks else ():
            assert task in TASKS or task == "all", line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_of_evaluate_exist(page):
    known = {option for action in parser("sp-hf evaluate")._actions for option in action.option_strings}
    prefixes = tuple(f"--{name.replace('-', '_')}_" for name in TASKS)
    for option in re.findall(r"--[a-z_0-9]+", page.read_text(encoding="utf-8")):
        if option.startswith(prefixes):
            assert option in known, f"{page.name}: {option}"


def rooms_of_the_tree():
    """{folder: modules that the README's tree names in it}; deeper folders are named as a whole."""
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("```\nsrc/sp_hf/\n")[1].split("\nrecipes/")[0]
    room, rooms = PACKAGE, {PACKAGE: set()}
    for line in tree.splitlines():
        depth = len(line) - len(line.lstrip())
        folder = re.match(r" {2}([a-z_]+)/", line)
        if depth == 2:
            room = PACKAGE / folder[1] if folder else PACKAGE
        for name in re.findall(r"\b[a-z_*]+\.py\b", line):
            rooms.setdefault(room, set()).update([path.name for path in room.glob(name)] if "*" in name else [name])
        rooms.setdefault(room, set())
    return rooms


def test_the_readme_names_every_module_and_no_other():
    rooms = rooms_of_the_tree()
    assert rooms.keys() - {PACKAGE} == {path.parent for path in PACKAGE.glob("*/__init__.py")}
    for room, named in rooms.items():
        modules = {path.name for path in room.glob("*.py")} - {"__init__.py"}
        assert named - {"__init__.py"} == (modules if named else set()), room.name
