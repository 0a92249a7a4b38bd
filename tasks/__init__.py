"""Prefect tasks: one use case of `lockstep.service` each. They hold no SQL and no rule.

Tasks take and return names and digests only: whatever Prefect sees, it may store. What they share during a run (the
open session with the lock, above all) is in `tasks.run`.
"""
