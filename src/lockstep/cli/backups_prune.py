"""Remove the backups that retention lets go ([backup] keep), and what interrupted backups left behind.

Kept are the newest ones, the young ones, the newest verified one and those that a run of late refers to; of an
environment whose database cannot be asked for that, nothing is removed.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import detail, error_document, show, show_error, show_json, talk, width
from lockstep.errors import ExitCode

if TYPE_CHECKING:
    from lockstep.service.pruning import Pruned, PrunePlan
    from lockstep.storage.folders import BackupFolder

#: The least age of a leftover, in milliseconds. A backup that is running stores something more often.
LEAST_MS = 3_600_000

EXAMPLES = """\
  lockstep backups prune --dry-run    what would go, and why the rest stays
  lockstep backups prune              every environment
  lockstep backups prune prod --leftovers-older-than 2h"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument(
        "--leftovers-older-than",
        type=_age,
        metavar="AGE",
        help="when nothing was stored for so long, a backup without a manifest is a leftover (default 1d, least 1h)",
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.pruning import LEFTOVERS_AFTER_MS, plan_pruning, prune

    settings = context.settings
    plans = plan_pruning(
        settings,
        settings.chosen(arguments.environments),
        leftovers_after_ms=arguments.leftovers_older_than or LEFTOVERS_AFTER_MS,
    )
    if not context.as_json:
        for plan in plans:
            _show(plan, dry=arguments.dry_run)
    pruned = None
    if not arguments.dry_run and any(plan.doomed for plan in plans):
        pruned = prune(
            settings,
            plans,
            lambda environment, folder: talk(f"{environment}: removed {folder.id}"),
            run=context.new_run(),
            note=talk,
        )
    if context.as_json:
        show_json("backups-prune", _document(plans, pruned, dry=arguments.dry_run))
    elif pruned:
        _show_done(pruned)
    return max((plan.skipped.exit_code for plan in plans if plan.skipped), default=ExitCode.DONE)


def _show(plan: PrunePlan, *, dry: bool) -> None:
    from lockstep.core.size import format_bytes
    from lockstep.core.table import render_table

    if plan.skipped is not None:
        show(f"{plan.environment}: nothing is removed, since its audit log cannot be read")
        show_error(plan.skipped, as_json=False, contacts=[], runbook=None)
        return
    verb = "would be removed" if dry else "to be removed"
    rows = [
        *((folder, verb, "no reason to stay") for folder in plan.backups),
        *((folder, verb, _of_what(folder)) for folder in plan.leftovers),
        *((one.folder, "kept", f"locked until {one.until:%Y-%m-%d %H:%M} UTC") for one in plan.locked),
        *((folder, "kept", "its manifest cannot be read: judge yourself") for folder in plan.unreadable),
        *((folder, "kept", "no manifest yet: running, or interrupted of late") for folder in plan.begun),
    ]
    size = format_bytes(sum(folder.size for folder in plan.doomed))
    show(f"{plan.environment}: {len(plan.doomed)} {verb} ({size}), {len(plan.kept)} kept")
    cells = [[f"  {folder.id}", format_bytes(folder.size), what, why] for folder, what, why in rows]
    if dry:
        kept = plan.kept.items()
        cells += [[f"  {backup}", "", "kept", ", ".join(sorted(r.value for r in why))] for backup, why in kept]
    if cells:
        detail(render_table(["  backup", "size", "what", "why"], cells, width=width()))


def _of_what(folder: BackupFolder) -> str:
    what = "an unfinished upload" if folder.uploads and not folder.objects else "no manifest"
    return f"{what} of an interrupted backup"


def _show_done(pruned: Pruned) -> None:
    from lockstep.core.counting import counted
    from lockstep.core.size import format_bytes

    show(
        f"removed: {counted(pruned.backups, 'backup')}, {counted(pruned.leftovers, 'leftover')}, {format_bytes(pruned.size)}"
    )
    if pruned.hidden:
        talk("note: the bucket keeps old versions; a lifecycle rule must end them before the space is free")


def _document(plans: tuple[PrunePlan, ...], pruned: Pruned | None, *, dry: bool) -> dict[str, Any]:
    return {
        "dry_run": dry,
        "environments": [
            {
                "environment": plan.environment,
                "kept": [
                    {"id": backup, "because": sorted(r.name.lower() for r in why)} for backup, why in plan.kept.items()
                ],
                "backups": [_folder(folder) for folder in plan.backups],
                "leftovers": [_folder(folder) for folder in plan.leftovers],
                "begun": [_folder(folder) for folder in plan.begun],
                "locked": [{**_folder(one.folder), "until": one.until} for one in plan.locked],
                "unreadable": [_folder(folder) for folder in plan.unreadable],
                "skipped": error_document(plan.skipped) if plan.skipped else None,
            }
            for plan in plans
        ],
        "removed": pruned,
    }


def _folder(folder: BackupFolder) -> dict[str, Any]:
    return {"id": folder.id, "size": folder.size, "objects": len(folder.objects), "uploads": len(folder.uploads)}


def _age(text: str) -> int:
    from lockstep.core.duration import parse_duration

    try:
        found = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if found < LEAST_MS:
        raise argparse.ArgumentTypeError(f"'{text}' is less than 1h: a backup that is running could be taken for one")
    return found
