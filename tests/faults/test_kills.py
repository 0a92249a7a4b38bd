"""kill -9 of `lockstep sync` at random moments, then `sync` again: nothing lost, nothing doubled, nothing left behind.

`make soak` runs the long form: LOCKSTEP_KILLS kills. LOCKSTEP_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from tests.faults.kills import FILES, Tally, fresh, one_round, run_forked, wait_for
from tests.project import Project
from tests.summary import LINES

KILLS = int(os.environ.get("LOCKSTEP_KILLS", "12"))


@pytest.mark.timeout(600 + 10 * KILLS)
@pytest.mark.alone  # kills fall into the time that one run took
def test_a_run_that_is_killed_anywhere_is_finished_by_the_next_one(
    project: Project, new_database: Callable[[], str]
) -> None:
    seed = int(os.environ.get("LOCKSTEP_SEED", str(random.SystemRandom().randrange(10**6))))
    chance = random.Random(seed)
    tally = Tally()
    for name, text in FILES.items():
        project.write(name, text)
    assert project.run("init").code == 0
    started = time.monotonic()
    assert wait_for(run_forked(project, "sync")) == 0
    span = time.monotonic() - started
    try:
        while tally.kills < KILLS:
            one_round(fresh(project, new_database()), chance, tally, most=4, span=span)
    finally:
        LINES.append(
            f"kill -9: {tally.kills} kills ({tally.hits} of a session at work, "
            f"{tally.invalid} left an invalid index) on {tally.rounds} databases, seed {seed}"
        )
    assert tally.hits >= tally.kills / 2, "most kills must hit a run at work"
