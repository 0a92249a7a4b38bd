"""What every command starts from: the settings of the project that it was called in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from lockstep.errors import LockstepError

if TYPE_CHECKING:
    from lockstep.config import Settings
    from lockstep.core.migration import Folder
    from lockstep.postgres.entries import RunInfo


@dataclass
class Context:
    """One call of the command line."""

    project: Path
    as_json: bool

    @cached_property
    def settings(self) -> Settings:
        """The project's settings. Raises ConfigError."""
        from lockstep.config import load_settings, pass_on
        from lockstep.core import privacy

        settings = load_settings(self.project)
        pass_on(settings)
        privacy.hide(partial(_secrets, settings))
        if settings.display.timezone is not None:
            from lockstep.cli.terminal import choose_zone, manner
            from lockstep.cli.zone import configured_zone

            if not manner.zoned:
                chosen, zone = configured_zone(settings)
                choose_zone(chosen=chosen, zone=zone)
        return settings

    @cached_property
    def folder(self) -> Folder:
        """The project's migrations. Raises MigrationFileError."""
        from lockstep.service.project import read_folder

        return read_folder(self.settings)

    def new_run(self) -> RunInfo:
        from lockstep.postgres.entries import RunInfo
        from lockstep.service.run import new_run_id

        return RunInfo(run_id=new_run_id())

    def choose_zone(self, given: str | None) -> None:
        """Choose the zone of times for people, as far as this call says which. Raises UsageError."""
        if given is None and not os.environ.get("LOCKSTEP_TIMEZONE") and not os.environ.get("TZ"):
            return
        from lockstep.cli.terminal import choose_zone
        from lockstep.cli.zone import asked_zone

        chosen, zone = asked_zone(given)
        choose_zone(chosen=chosen, zone=zone)

    def people(self) -> tuple[list[str], str | None]:
        """Contacts and runbook for failures; nothing when the configuration itself is broken."""
        try:
            return self.settings.project.contacts, self.settings.project.runbook
        except LockstepError:
            return [], None


def _secrets(settings: Settings) -> tuple[str, ...]:
    from lockstep.service.redaction import known_secrets  # late: most calls quote nothing

    return known_secrets(settings)
