"""docs/reference/health.md says of every check what the code says, in the code's order."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.core.health.checks import CHECKS, Check
from lockstep.core.health.judging import NEEDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "health.md").read_text()
SECTIONS = {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in PAGE.split("\n## ")[1:]}


def test_the_page_has_every_check_in_the_codes_order() -> None:
    assert list(SECTIONS) == [check.id for check in CHECKS]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_the_page_says_what_a_check_finds_and_why_as_the_report_does(check: Check) -> None:
    text = " ".join(SECTIONS[check.id].replace("`", "").split())
    assert text.startswith(f"{check.summary} {check.why}")


def test_every_check_is_said_to_be_unjudged_where_its_part_could_not_be_read() -> None:
    assert {check for checks in NEEDS.values() for check in checks} == {check.id for check in CHECKS}
