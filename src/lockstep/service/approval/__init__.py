"""Approval: a run asks, somebody answers over a connection of their own, and the run goes on. All of it in the audit log."""
