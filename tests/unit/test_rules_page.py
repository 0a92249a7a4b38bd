"""docs/reference/rules.md says of every rule what the code says: an example that breaks it, and the safe way."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.core.locking.hazards import RULES, find_hazards
from lockstep.core.locking.known import Known
from lockstep.core.locking.lock_modes import Mode
from lockstep.core.locking.locks import script_locks
from lockstep.core.migration import SqlFile
from lockstep.core.rehearsal.rules import BINDING
from lockstep.core.rehearsal.rules import RULES as REHEARSAL
from lockstep.core.statements import parse_script

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "rules.md").read_text()
SECTIONS = {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in PAGE.split("\n## ")[1:]}


def test_the_page_has_every_rule_in_the_codes_order() -> None:
    assert list(SECTIONS) == [*RULES, *REHEARSAL, "Rules of the linter"]


@pytest.mark.parametrize("rule", REHEARSAL)
def test_the_section_of_a_measured_rule_says_what_it_finds_and_what_to_do(rule: str) -> None:
    section = " ".join(SECTIONS[rule].split())
    assert section.startswith(f"{REHEARSAL[rule][0].upper()}{REHEARSAL[rule][1:]}. ")
    assert "Instead: " in section
    assert ("No file can accept it." in section) == (rule in BINDING)


def test_the_linter_knows_the_rules_that_the_page_lists(tmp_path: Path) -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", SECTIONS["Rules of the linter"], re.MULTILINE)
    assert len(listed) == len(set(listed)) > 20 and not set(listed) & set(RULES)
    (tmp_path / "a.sql").write_text("SELECT 1;\n")
    program = Path(sys.executable).parent / "squawk"
    excluded = [word for rule in listed for word in ("--exclude", rule)]
    done = subprocess.run([program, *excluded, str(tmp_path / "a.sql")], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize("rule", RULES)
def test_the_example_of_a_rule_breaks_it_and_has_the_rewrite_of_the_page(rule: str) -> None:
    section = SECTIONS[rule]
    example, *rewrite = re.findall(r"^```sql\n(.*?)\n```$", section, re.DOTALL | re.MULTILINE)
    before, _, text = example.rpartition("-- this file\n")
    known = Known()
    script_locks(parse_script(before, "000-before.sql"), known)
    (finding,) = find_hazards(SqlFile(name="001-a.sql", text=text, checksum=""), known)
    assert finding.rule == rule
    (advice,) = re.findall(r"^Safe: (.*)[.:]$", section, re.MULTILINE)
    assert finding.hint == ":\n".join([advice, *rewrite])
    assert " ".join(section.split()).startswith(f"{RULES[rule][0].upper()}{RULES[rule][1:]}. ")


def test_the_page_says_what_each_mode_blocks() -> None:
    listed = re.findall(r"^\| ([A-Z ]+) \| ([a-z ]+) \|$", PAGE, re.MULTILINE)
    assert listed == [(mode.value, mode.blocks) for mode in Mode]
