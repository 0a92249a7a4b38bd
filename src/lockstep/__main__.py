"""`python -m lockstep`."""

from lockstep.cli.main import run

run()
