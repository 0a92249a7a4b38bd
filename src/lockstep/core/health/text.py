"""The health of one environment as text: worst first, grouped by check, long lists cut with a count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from lockstep.core.counting import counted
from lockstep.core.health.checks import BY_ID
from lockstep.core.health.findings import Finding, Hidden, Severity

SHOWN = 5  # findings of one check and severity; --all shows every one

Paint = Callable[[str, Severity], str]


def summary(findings: Sequence[Finding], *, checks: int, hidden: Sequence[Hidden], ignored: int) -> str:
    """Return what there is in one line: `1 critical, 3 warnings; 27 checks, 2 not judged`."""
    counts = []
    for severity, one, many in (
        (Severity.CRITICAL, "critical", "critical"),
        (Severity.WARNING, "warning", "warnings"),
        (Severity.INFO, "to know", "to know"),
    ):
        if count := sum(finding.severity is severity for finding in findings):
            counts.append(f"{count} {one if count == 1 else many}")
    words = [", ".join(counts) or "nothing found", counted(checks, "check")]
    if unjudged := len({one.check for one in hidden}):
        words[1] += f", {unjudged} of them not judged in full"
    if ignored:
        words[1] += f", {counted(ignored, 'finding')} ignored by lockstep.toml"
    return "; ".join(words)


def listing(findings: Sequence[Finding], *, everything: bool, paint: Paint) -> Iterator[str]:
    """Yield the findings line by line. They come sorted."""
    for (severity, check), group in groupby(findings, key=lambda f: (f.severity, f.check)):
        members = list(group)
        yield ""
        yield f"{paint(severity.value, severity)}  {check}: {BY_ID[check].summary}"
        yield f"  {BY_ID[check].why}"
        shown = members if everything else members[:SHOWN]
        for finding in shown:
            yield f"    {finding.object}: {finding.text}"
            yield from (f"        {line}" for line in (finding.fix or "").splitlines())
        if rest := len(members) - len(shown):
            yield f"    and {rest} more: --all"


def unjudged(hidden: Sequence[Hidden]) -> Iterator[str]:
    """Yield what could not be judged, and what would let it; several checks with one reason in one line."""
    if not hidden:
        return
    yield ""
    yield "not judged, or only in part"
    reasons: dict[tuple[str, str | None], list[str]] = {}
    for one in hidden:
        checks = reasons.setdefault((one.why, one.fix), [])
        if one.check not in checks:
            checks.append(one.check)
    for (why, fix), checks in reasons.items():
        yield f"  {', '.join(checks)}: {why}"
        if fix:
            yield f"      {fix}"
