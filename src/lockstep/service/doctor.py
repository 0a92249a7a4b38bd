"""`doctor`: is this machine, this project, each environment and each server behind it set up for what Lockstep does?

Read-only, but for a probe object in the bucket that is removed again. It works when much is broken: sections are
looked at side by side, each in a thread of its own that nobody waits for longer than PATIENCE.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from lockstep.config import Environment, Settings
from lockstep.core.checkup import Checkup, Section, problem
from lockstep.errors import ConfigError, ExitCode
from lockstep.postgres.entries import RunInfo
from lockstep.service.checkup.findings import Findings

PATIENCE = 45.0  # seconds for everything; each single answer has less, so this is for what nobody foresaw
LEAVE = 5.0  # seconds that the store's section gets to remove its probe when we are told to end

Work = Callable[[], None]


def examine(settings: Settings | ConfigError, environments: Sequence[Environment], run: RunInfo) -> Checkup:
    """Look at everything, and return what was found. Raises nothing that a check met.

    Where the configuration cannot be read, `settings` is why, and the machine alone is looked at.
    """
    parts: list[tuple[Findings, Work]] = []

    def add(findings: Findings, work: Callable[[Findings], None]) -> None:
        parts.append((findings, lambda: work(findings)))

    add(Findings("machine"), _machine)
    add(Findings("project"), lambda f: _project(f, settings, environments))
    store = Findings("backups")
    if not isinstance(settings, ConfigError):
        for environment in environments:
            add(
                Findings(environment.name, environment=True),
                lambda f, one=environment: _environment(f, settings, one, run),  # type: ignore[misc]
            )
        add(store, lambda f: _backups(f, settings, environments))
        add(Findings("Prefect"), lambda f: _prefect(f, settings))
    late = _side_by_side(parts, patient_with=store)
    return Checkup(
        sections=tuple(
            Section(
                name=findings.name,
                environment=findings.environment,
                checks=(*findings.checks, *([_LATE] if findings in late else [])),
            )
            for findings, _ in parts
        )
    )


_LATE = problem("time", f"no answer within {PATIENCE:.0f} s: the rest was not checked", None, ExitCode.UNREACHABLE)


def _side_by_side(parts: Sequence[tuple[Findings, Work]], *, patient_with: Findings) -> list[Findings]:
    """Run all parts at once; return those that did not end in time."""
    threads = []
    for findings, work in parts:

        def guarded(findings: Findings = findings, work: Work = work) -> None:
            with findings.checking("this section"):
                work()

        # A daemon: one that hangs must not keep the command from ending.
        threads.append((findings, threading.Thread(target=guarded, name=f"doctor-{findings.name}", daemon=True)))
    for _, thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    try:
        for _, thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    except BaseException:  # Ctrl-C, SIGTERM
        for findings, thread in threads:
            if findings is patient_with:
                thread.join(LEAVE)
        raise
    return [findings for findings, thread in threads if thread.is_alive()]


# Each imports what it needs when it is looked at: the store's libraries alone take longer than all the rest.


def _machine(findings: Findings) -> None:
    from lockstep.service.checkup.machine import check_machine

    check_machine(findings)


def _project(findings: Findings, settings: Settings | ConfigError, environments: Sequence[Environment]) -> None:
    from lockstep.service.checkup.alerts import check_places
    from lockstep.service.checkup.project import check_configuration, check_project

    check_configuration(findings, settings)
    if not isinstance(settings, ConfigError):
        check_project(findings, settings, environments)
        with findings.checking("alerts"):
            check_places(findings, settings)


def _environment(findings: Findings, settings: Settings, environment: Environment, run: RunInfo) -> None:
    from lockstep.service.checkup.environment import check_environment

    check_environment(findings, settings, environment, run)


def _backups(findings: Findings, settings: Settings, environments: Sequence[Environment]) -> None:
    from lockstep.service.checkup.backups import check_backups

    check_backups(findings, settings, environments)


def _prefect(findings: Findings, settings: Settings) -> None:
    from lockstep.service.checkup.prefect import check_prefect

    check_prefect(findings, settings)
