"""What a plan does on a copy, seen statement by statement: from inside its transactions, or sampled from outside."""

from __future__ import annotations

from lockstep.postgres.tracing.reasons import install_reasons
from lockstep.postgres.tracing.watch import TracingWatch

__all__ = ["TracingWatch", "install_reasons"]
