"""What somebody does next who begins: said where nothing is there yet, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockstep.config import Settings


def first_step(folder: Path) -> str:
    """Return the next command for somebody who calls `lockstep` alone. Looks at names of files, connects to nothing."""
    from lockstep.errors import LockstepError

    here = folder.resolve()
    if not any((place / "lockstep.toml").is_file() for place in (here, *here.parents)):
        return "next: lockstep new-project DIR starts a project; in one that exists, go to its folder"
    from lockstep.config import load_settings

    try:
        settings = load_settings(folder)
    except LockstepError as error:
        return f"next: lockstep.toml has to be mended first: {error.message}"
    if text := before_first_use(settings):
        return f"next: {text}"
    return "next: lockstep status"


def before_first_use(settings: Settings) -> str | None:
    """Return what is to be done before any command can do something here; None: nothing."""
    if not settings.environments:
        return 'there is no environment yet: write [environments.dev] with url = "${DATABASE_URL}" into lockstep.toml'
    missing = [settings.missing_variables(one) for one in settings.environments.values()]
    if all(missing):
        names = ", ".join(dict.fromkeys(name for each in missing for name in each))
        env, example = settings.folder / ".env", settings.folder / ".env.example"
        if not env.exists() and example.exists():
            return f"cp .env.example .env, and fill it in ({names} are not set)"
        return f"no environment's address is known yet: put {names} into {env}"
    return None


def after_init(*, first: str, migrations: int) -> str:
    """Return what comes after the ledger was made."""
    if not migrations:
        return 'next: lockstep new "what it does" starts the first migration'
    return f"next: lockstep plan {first} shows what would run, lockstep sync {first} runs it"
