"""Lockstep keeps every PostgreSQL environment of a team in step."""

__version__ = "0.1.0"
