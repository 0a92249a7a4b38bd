"""The report of a run carries the end of each changed target's audit log, in the form that `--head` takes; others' texts stay texts."""

from __future__ import annotations

import re
from dataclasses import replace

from lockstep.cli.history import _head
from lockstep.core.rehearsal.markdown import rehearsal_markdown
from lockstep.core.rehearsal.verdict import Note
from lockstep.errors import LockstepError
from lockstep.service.reporting import Outcome, deploy_report, environment_line, revert_report
from lockstep.service.syncing import AuditEnd, EnvironmentResult
from tests.unit.test_rehearsal_report import CASES


def test_the_end_of_a_changed_log_is_in_the_report_as_verify_takes_it() -> None:
    result = EnvironmentResult(environment="prod", target="prod (db/shop)")
    outcome = Outcome(result=result, plan=None, protected=True, dry_run=False)
    assert "audit log" not in environment_line(outcome)
    result.audit = AuditEnd(row=42, hash="ab" * 32)
    text = environment_line(outcome).split("audit log `")[1].split("`")[0]
    head = _head(text)
    assert (head.number, head.hash) == (42, "ab" * 32)


EVIL = (
    "x\n---\ntitle: y\n---\n# head\n| a | b |\n![pixel](http://evil.example/x.png) [go](javascript:alert(1)) <script>alert(1)</script>"
    "\n```\n<img src=x>\n`code` **bold** \x1b[2J\u202e http://evil.example www.evil.example"
)


def outside_of_code(markdown: str) -> str:
    """A report without its blocks and spans of code, and without what is escaped: what Markdown makes something of."""
    text = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+).+?\1", "", re.sub(r"\\[^\n]", "", text))


def test_what_others_wrote_makes_no_markup_in_the_report_of_a_run() -> None:
    error = LockstepError(EVIL, hint=EVIL)
    result = EnvironmentResult(environment=EVIL, target=f"{EVIL} ({EVIL})", backup_key=EVIL, error=error)
    outcome = Outcome(result=result, plan=None, protected=True, dry_run=False)
    rehearsal = CASES["failed"]
    problem = replace(rehearsal.verdict.problems[0], message=EVIL, advice=EVIL, file=EVIL)
    verdict = replace(
        rehearsal.verdict,
        problems=(problem,),
        notes=(Note(file=EVIL, message=EVIL),),
        allowed=(replace(problem, reason=EVIL),),
    )
    hostile = replace(
        rehearsal, environment=EVIL, verdict=verdict, copy=replace(rehearsal.copy, backup=EVIL, notes=(EVIL,), source_version=EVIL),
        ways_back=tuple(replace(one, loses=EVIL, command=EVIL) for one in rehearsal.ways_back),
    )  # fmt: skip
    for made in (
        deploy_report([outcome], run_id=EVIL, reason=EVIL, not_started=[EVIL], error=error),
        revert_report(EVIL, None, None, [], EVIL, run_id=EVIL, reason=EVIL, backup_key=EVIL, error=error),
        environment_line(outcome),
        rehearsal_markdown(hostile),
    ):
        assert not [char for char in made if char != "\n" and not char.isprintable()]
        left = outside_of_code(made)
        for sign in (
            "](",
            "![",
            "<script",
            "<img",
            "://",
            "www.evil",
            "\n---\n",
            "\n# head",
            "\n| a | b |",
        ):
            assert sign not in left, (sign, left)
