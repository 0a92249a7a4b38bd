"""Approvals as rules: which answer counts, and for which try of a run it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lockstep.core.approval import Answer, Approval, How, Request, Standing, covering, how_it_stands

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = timedelta(days=1)
REQUEST = Request(
    row=10, at=NOON, run_id="20261130-120000-abcd", attempt=1, environment="prod", plan_digest="p1", change_digest="c1",
    expires_at=NOON + DAY, role="deployer", by="alice@laptop", flow_run=None, what=("001-a.sql",), headline="passed",
    backup="b1",
)  # fmt: skip
YES = Answer(
    row=11, request=10, at=NOON + timedelta(hours=1), standing=Standing.APPROVED, role="bob", by="bob@desk",
    how=How.COMMAND, reason=None, plan_digest="p1", change_digest="c1",
)  # fmt: skip
NO = replace(YES, row=12, standing=Standing.REJECTED)
TWO = replace(REQUEST, two_person=True)


@pytest.mark.parametrize(
    ("request_", "answers", "standing"),
    [
        (REQUEST, [], Standing.WAITING),
        (REQUEST, [YES], Standing.APPROVED),
        (REQUEST, [YES, NO], Standing.APPROVED),  # too late
        (REQUEST, [replace(YES, row=13), NO], Standing.REJECTED),
        (REQUEST, [replace(YES, request=9)], Standing.WAITING),  # of another request
        (REQUEST, [replace(YES, row=9)], Standing.WAITING),  # written before anything was asked
        (REQUEST, [replace(NO, row=9)], Standing.WAITING),
        (REQUEST, [replace(YES, plan_digest="p2")], Standing.WAITING),
        (REQUEST, [replace(YES, change_digest="c2")], Standing.WAITING),
        (REQUEST, [replace(YES, change_digest=None)], Standing.WAITING),
        (REQUEST, [replace(YES, at=NOON + DAY)], Standing.WAITING),  # when it had expired
        (REQUEST, [replace(YES, how=How.PROMPT, role="deployer")], Standing.APPROVED),
        (TWO, [YES], Standing.APPROVED),
        (TWO, [replace(YES, role="deployer")], Standing.WAITING),
        (TWO, [replace(YES, role="starter")], Standing.WAITING),
        (TWO, [replace(YES, how=How.FORM)], Standing.WAITING),
        (TWO, [replace(YES, how=How.PROMPT)], Standing.WAITING),
        (TWO, [replace(NO, role="deployer", how=How.FORM)], Standing.REJECTED),  # anybody may say no
        (TWO, [replace(YES, role="deployer"), replace(YES, row=14)], Standing.APPROVED),
    ],
)
def test_the_first_answer_that_counts_decides(request_: Request, answers: list[Answer], standing: Standing) -> None:
    found = how_it_stands(request_, answers, now=NOON + timedelta(hours=2), starters=["starter"])
    assert found.standing is standing


def test_without_an_answer_it_expires() -> None:
    found = how_it_stands(REQUEST, [], now=NOON + DAY)
    assert (found.standing, found.answer) == (Standing.EXPIRED, None)
    assert how_it_stands(REQUEST, [YES], now=NOON + 2 * DAY).standing is Standing.APPROVED  # it was in time


def stood(standing: Standing, answer: Answer | None = None, **changes: Any) -> Approval:
    return Approval(request=replace(REQUEST, **changes), standing=standing, answer=answer)


APPROVED = stood(Standing.APPROVED, YES)
REJECTED = stood(Standing.REJECTED, NO)


@pytest.mark.parametrize(
    ("asked", "now", "found"),
    [
        ([], {}, None),
        ([APPROVED], {}, 0),
        ([APPROVED], {"attempt": 2}, 0),  # a retry, with a backup of its own
        ([APPROVED], {"plan_digest": "p2"}, None),
        ([APPROVED], {"change_digest": "c2"}, None),
        ([APPROVED], {"now": YES.at + DAY}, 0),
        ([APPROVED], {"now": YES.at + DAY + timedelta(seconds=1)}, None),  # an approval does not hold for ever
        ([APPROVED], {"overridden": "failed"}, None),  # what passed was approved, and it fails now
        ([stood(Standing.APPROVED, YES, overridden="failed")], {"overridden": "failed"}, 0),
        ([stood(Standing.APPROVED, YES, overridden="could not verify")], {"overridden": "failed"}, None),
        ([stood(Standing.APPROVED, YES, overridden="failed")], {}, 0),  # it passes now
        ([APPROVED], {"two_person": True}, None),  # which was not asked for then
        ([stood(Standing.APPROVED, YES, two_person=True)], {"two_person": True}, 0),
        ([stood(Standing.WAITING)], {}, 0),
        ([stood(Standing.WAITING)], {"attempt": 2}, None),
        ([stood(Standing.WAITING)], {"two_person": True}, None),
        ([REJECTED], {}, 0),
        ([REJECTED], {"attempt": 2}, None),
        ([stood(Standing.EXPIRED)], {}, 0),
        ([stood(Standing.EXPIRED)], {"attempt": 2}, None),
        # Asked for other changes in between, and then for the first ones again.
        ([APPROVED, stood(Standing.WAITING, change_digest="c2")], {}, 0),
        ([stood(Standing.WITHDRAWN), stood(Standing.WITHDRAWN, change_digest="c2")], {}, None),
        # Somebody said no to the run after somebody else had said yes.
        ([APPROVED, stood(Standing.REJECTED, NO, change_digest="c2")], {"attempt": 2}, None),
    ],
)
def test_what_a_run_asked_before_speaks_for_it(
    asked: list[Approval], now: Mapping[str, Any], found: int | None
) -> None:
    wanted = {
        "plan_digest": "p1", "change_digest": "c1", "attempt": 1, "two_person": False, "now": NOON + timedelta(hours=2),
        "lasts": DAY,
    }  # fmt: skip
    assert covering(asked, **{**wanted, **now}) == (None if found is None else asked[found])
