"""The report of a run carries the end of each changed target's audit log, in the form that `--head` takes."""

from __future__ import annotations

from lockstep.cli.history import _head
from lockstep.service.reporting import Outcome, environment_line
from lockstep.service.syncing import AuditEnd, EnvironmentResult


def test_the_end_of_a_changed_log_is_in_the_report_as_verify_takes_it() -> None:
    result = EnvironmentResult(environment="prod", target="prod (db/shop)")
    outcome = Outcome(result=result, plan=None, protected=True, dry_run=False)
    assert "audit log" not in environment_line(outcome)
    result.audit = AuditEnd(row=42, hash="ab" * 32)
    text = environment_line(outcome).split("audit log `")[1].split("`")[0]
    head = _head(text)
    assert (head.number, head.hash) == (42, "ab" * 32)
