"""Collects the checks of one section. Nothing that goes wrong in a check leaves it, and no text of others gets through.

It must not know what is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from lockstep.core.checkup import Check, not_checked, problem
from lockstep.errors import ExitCode, LockstepError


class Findings:
    """The checks of a section, in the order in which they were made. Filled by one thread, read by another."""

    def __init__(self, name: str, *, environment: bool = False) -> None:
        self.name = name
        self.environment = environment
        self.checks: list[Check] = []

    def add(self, *checks: Check) -> None:
        """Keep what was found."""
        self.checks += checks

    def skip(self, names: Iterable[str], why: str) -> None:
        """Say of some checks that they could not be made."""
        self.add(*(not_checked(name, why) for name in names))

    @contextmanager
    def checking(self, name: str, *, target: str = "") -> Iterator[None]:
        """Turn whatever a check raises into its line. `target` is what our own errors begin with, and the line does not."""
        try:
            yield
        except LockstepError as error:
            self.add(problem_of(name, error, target=target))
        except psycopg.Error as error:
            # A server's text may quote what it was given: the code says enough to look it up.
            text = f"the server refused the question (SQLSTATE {error.sqlstate or 'none: the connection was lost'})"
            self.add(not_checked(name, text))
        except Exception as error:
            self.add(problem(name, _unexpected(error), "report it: this is a defect of doctor", ExitCode.UNEXPECTED))


def problem_of(name: str, error: LockstepError, *, target: str = "") -> Check:
    """Return the line that says what one of our errors says."""
    text = error.message.removeprefix(f"{target}: ") if target else error.message
    return problem(name, one_line(text), one_line(error.hint) if error.hint else None, error.exit_code)


def one_line(text: str) -> str:
    """Return a text of several lines as one."""
    return " ".join(text.split())


def _unexpected(error: Exception) -> str:
    """Where it came from and what kind it is; its text is nobody's that we know, and may hold a secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return f"not found out: unexpected {type(error).__name__}{place}"
