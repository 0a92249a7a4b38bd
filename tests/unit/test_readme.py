"""The folder map in README.md is true in both directions, and the set-up that it names is the set-up that is checked."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def mapped() -> list[str]:
    """The paths in the map's first columns."""
    section = README.split("## Folder map")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def ignored() -> set[str]:
    return {line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}


def holds_files(folder: Path) -> bool:
    """Whether version control would keep this folder: it does not keep an empty one."""
    return any(p.is_file() and "__pycache__" not in p.parts for p in folder.rglob("*"))


def test_every_path_of_the_map_exists() -> None:
    wrong = [path for path in mapped() if not (ROOT / path).exists() or path.endswith("/") != (ROOT / path).is_dir()]
    assert wrong == []
    assert [path for path in mapped() if path.endswith("/") and not holds_files(ROOT / path)] == []


def test_every_folder_is_mapped() -> None:
    top = [f for f in ROOT.iterdir() if f.is_dir() and (not f.name.startswith(".") or f.name == ".ci")]
    top = [f for f in top if f.name not in {*ignored(), "src"} and not f.name.endswith(".egg-info") and holds_files(f)]
    packages = [f for f in (ROOT / "src/lockstep").rglob("*") if f.is_dir() and f.name != "__pycache__"]
    folders = {f"{f.relative_to(ROOT)}/" for f in [*top, ROOT / "src/lockstep", *packages]}
    assert sorted(folders - set(mapped())) == []


def test_every_module_of_the_working_layers_is_mapped() -> None:
    modules = {
        str(f.relative_to(ROOT))
        for layer in ("service", "postgres")
        for f in (ROOT / "src/lockstep" / layer).glob("*.py")
        if f.name != "__init__.py"
    }
    assert sorted(modules - set(mapped())) == []


def test_nothing_is_mapped_twice() -> None:
    assert sorted(mapped()) == sorted(set(mapped()))


def test_every_test_folder_that_the_map_names_exists() -> None:
    row = re.search(r"^\| `tests/` \|(.*)\|$", README, re.MULTILINE)
    assert row
    folders = {f.name for f in (ROOT / "tests").iterdir() if f.is_dir() and f.name != "__pycache__"}
    assert set(re.findall(r"`(\w+)`", row[1])) == folders


def test_make_knows_every_target_that_the_pages_name() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = README + (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"`make (?:[A-Z]+=\S+ )?([a-z]+)`", pages)) <= targets


def test_the_debian_packages_that_set_up_asks_for_are_in_one_line() -> None:
    asked = set(re.findall(r"apt-get install ([\w-]+)\"", (ROOT / "tools/setup-venv.sh").read_text()))
    line = re.search(r"`apt-get install ([^`]+)`", README)
    assert line and asked and asked <= set(line[1].split())


def test_no_page_names_a_path_of_one_machine() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found = [
        f"{page.name}: {path}"
        for page in pages
        for path in re.findall(r"(?<![\w.])/(?:home|root|work|Users|tmp)/\S*", page.read_text())
    ]
    assert found == []
