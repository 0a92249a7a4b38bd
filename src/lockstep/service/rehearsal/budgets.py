"""What a deploy to one environment may cost others, from the settings."""

from __future__ import annotations

from lockstep.config import Environment, Settings
from lockstep.core.duration import parse_duration
from lockstep.core.rehearsal.calibration import Calibration
from lockstep.core.rehearsal.verdict import Budgets
from lockstep.core.size import parse_bytes


def budgets_of(settings: Settings, environment: Environment, calibration: Calibration | None = None) -> Budgets:
    """Return the budgets: the environment's own, else those of [rehearsal].

    Where earlier runs tell that things take longer there than on a copy, that counts; that they are quicker does not.
    """
    table = settings.rehearsal
    own_blocking, own_rewrite = environment.max_blocking_ms, environment.max_rewrite
    return Budgets(
        max_blocking_ms=own_blocking if own_blocking is not None else parse_duration(table.max_blocking),
        max_rewrite=own_rewrite if own_rewrite is not None else parse_bytes(table.max_rewrite),
        needs_proven_revert=table.require_proven_revert,
        slower=max(1.0, calibration.ratio) if calibration is not None and calibration.believed else 1.0,
    )
