"""Rehearsing: a backup restored once, the plan and the way back tried on clones of it, and a verdict."""
