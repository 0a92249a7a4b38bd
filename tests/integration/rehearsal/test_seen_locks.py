"""docs/reference/locks-seen.md is what the tracer sees, on PostgreSQL 15 and 17; every row of it was read beside the manual."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.core.locking.known import Known
from lockstep.core.locking.lock_report import FileLocks
from lockstep.core.locking.locks import script_locks
from lockstep.core.rehearsal.corrections import corrections
from lockstep.core.statements import parse_script
from lockstep.postgres.throwaway import RESTORE, ThrowawayServer
from tests.integration.rehearsal.lock_forms import base
from tests.integration.rehearsal.seen_locks import HEADER, Sighting, forms, prepare, row, sight

PG15 = Path("/usr/lib/postgresql/15/bin")
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "locks-seen.md"
GOLDEN = Path(__file__).parent / "golden"


def sightings(programs: Path) -> dict[str, Sighting]:
    with ThrowawayServer(programs, settings=RESTORE) as server:
        prepare(server)
        return {form.statement + form.before: sight(server, form) for form in forms(server)}


@pytest.fixture(scope="module")
def seen17(pg_bin: Path) -> Iterator[dict[str, Sighting]]:
    yield sightings(pg_bin)


@pytest.fixture(scope="module")
def seen15() -> Iterator[dict[str, Sighting]]:
    yield sightings(PG15)


@pytest.fixture(params=["seen17", pytest.param("seen15", marks=pytest.mark.postgresql15)])
def seen(request: pytest.FixtureRequest) -> tuple[str, dict[str, Sighting]]:
    found: dict[str, Sighting] = request.getfixturevalue(request.param)
    return request.param[-2:], found


@pytest.mark.slow
def test_what_is_seen_is_what_the_table_says(
    seen: tuple[str, dict[str, Sighting]], golden: Callable[[str, str], None]
) -> None:
    major, found = seen
    golden(f"locks-seen-{major}.md", HEADER + "".join(row(one) for one in found.values()))


@pytest.mark.slow
def test_what_the_text_promises_is_what_is_seen(seen: tuple[str, dict[str, Sighting]]) -> None:
    _, found = seen
    differences = {one.form.statement: tuple(corrected(one)) for one in found.values()}
    assert {name: lines for name, lines in differences.items() if lines} == {
        one.form.statement: (one.form.static,) for one in found.values() if one.form.static
    }


def corrected(sighting: Sighting) -> list[str]:
    form, known = sighting.form, Known()
    for text in (base(), form.before):
        script_locks(parse_script(text, "000-base.sql"), known)
    script = parse_script(form.statement, "001-form.sql", transactional=not form.outside)
    predicted = FileLocks(file=sighting.file.name, statements=script_locks(script, known))
    trace = replace(sighting.file, statements=(sighting.seen,))
    return [note.message for note in corrections([trace], [predicted])]


BEGIN, END = "<!-- seen: pytest --refresh-golden tests/integration/rehearsal/test_seen_locks.py -->\n", "<!-- end -->\n"


@pytest.mark.slow
def test_the_page_is_made_of_what_was_seen(request: pytest.FixtureRequest) -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    expected = page_table((GOLDEN / "locks-seen-17.md").read_text(), (GOLDEN / "locks-seen-15.md").read_text())
    if request.config.getoption("--refresh-golden"):
        PAGE.write_text(before + BEGIN + expected + END + after)
    else:
        assert table == expected


def page_table(newer: str, older: str) -> str:
    """One table of two: what differs stands twice, with the version beside it."""
    old = {line.split(" | ")[0]: line for line in older.splitlines()}
    lines = []
    for line in newer.splitlines():
        name = line.split(" | ")[0]
        same = old.get(name) == line
        lines.append(line if same else line.replace(name, f"{name} (17)", 1))
        if not same and name in old:
            lines.append(old[name].replace(name, f"{name} (15)", 1))
    return "\n".join(lines) + "\n"
