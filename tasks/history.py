"""How long things took, as tables and pictures in the orchestrator's UI; and the page for those who do not look there.

Neither is the record: that is the audit log of each environment. What cannot be stored is told and fails no run.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_image_artifact, create_table_artifact

from lockstep.service.page.history import Drawn, history_artifacts
from lockstep.service.page.report import report
from tasks.boundary import step
from tasks.run import current, safe


def report_history(environments: Sequence[str] | None = None, *, pictures: bool = True) -> None:
    """Store the charts of these environments, or of all of the run, each as a table and a picture. Never raises."""
    try:
        _report_history(list(environments if environments is not None else current().names), pictures)
    except Exception as error:
        current().progress.note("history", f"it could not be stored: {safe(error).message}")


@step("history", "history", retry=False)
def _report_history(environments: list[str], pictures: bool) -> None:
    run = current()
    # What did not answer a minute ago is not asked again.
    asked = [name for name in environments if name not in run.looks or run.looks[name].error is None]
    found = history_artifacts(run.settings, [run.environment(name) for name in asked], pictures=pictures)
    for name, error in found.unread:
        run.progress.note(name, f"its history could not be read: {error.message}")
    for one in found.drawn:
        _store(one)


def _store(one: Drawn) -> None:
    """A key per chart, so that the UI shows how it changed from run to run."""
    create_table_artifact(one.rows, key=one.key, description=one.text)
    if one.picture is not None:
        create_image_artifact(one.picture, key=f"{one.key}-chart", description=one.text)


def write_page() -> None:
    """Write the page where `[report] html` wants it. Never raises: how the databases are is another matter."""
    try:
        if current().settings.report_place and not current().whole:
            current().progress.note("page", "not written: it is about all environments")
        elif current().settings.report_place:
            _write_page()
    except Exception as error:
        current().progress.note("page", f"it was not written: {safe(error).message}")


@step("page", "page")
def _write_page() -> None:
    run = current()
    place = run.settings.report_place
    assert place is not None
    done = report(run.settings, run.environments, run.folder, place, base=run.settings.folder, seen=run.overview)
    run.progress.note("page", f"written: {done.place}")
