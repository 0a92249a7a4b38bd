"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockstep.core.changes import Action


def environments(parser: argparse.ArgumentParser) -> None:
    """Any number of environments; none means all."""
    parser.add_argument("environments", nargs="*", metavar="ENV", help="environments of lockstep.toml (default: all)")


def environment(parser: argparse.ArgumentParser) -> None:
    """Exactly one environment."""
    parser.add_argument("environment", metavar="ENV", help="an environment of lockstep.toml")


def selection(parser: argparse.ArgumentParser) -> None:
    """Which of the pending migrations."""
    parser.add_argument("--to", type=version, metavar="VERSION", help="stop after this version")
    parser.add_argument(
        "--include",
        type=version,
        action="append",
        default=[],
        metavar="VERSION",
        help="run this version although it is held (reverted here) or out of order; may be repeated",
    )


def waiting(parser: argparse.ArgumentParser) -> None:
    """Whether to wait for another run."""
    parser.add_argument(
        "--wait",
        action="store_const",
        const=float("inf"),
        default=0.0,
        help="wait for another run to end instead of refusing (Ctrl-C stops waiting)",
    )


def overriding(parser: argparse.ArgumentParser) -> None:
    """Going on against a rehearsal."""
    parser.add_argument(
        "--override",
        type=reason,
        metavar="REASON",
        help="go on although the rehearsal did not pass; the audit log keeps the reason and who gave it",
    )


def approving(parser: argparse.ArgumentParser) -> None:
    """Answering for a protected environment beforehand."""
    parser.add_argument(
        "--approve",
        type=reason,
        metavar="REASON",
        help="approve what was rehearsed without being asked; the audit log keeps the reason and who gave it",
    )


def reason(text: str) -> str:
    """A reason in words."""
    if len(text.strip()) < 3:
        raise argparse.ArgumentTypeError("say why, in words")
    return text.strip()


def count(text: str) -> int:
    """A number from 1."""
    if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds from 1."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 1 <= found <= 86_400:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds from 1 (environments come before it)")
    return found


NOTHING = -1  # below every version


def version_or_none(text: str) -> int:
    """A version, or `none`: before the first."""
    return NOTHING if text == "none" else version(text)


def version(text: str) -> int:
    """A version as people write it: 7, 007 or a whole file name."""
    digits = text.split("-", 1)[0].split("_", 1)[0]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 100):
        raise argparse.ArgumentTypeError(f"'{text}' is no version; give its number, for example 7")
    return int(digits)


def action(action: Action) -> str:
    """What happened to an object, as `drift` calls it."""
    return {"created": "added", "altered": "changed", "dropped": "missing"}[action.value]


def safe(text: str) -> str:
    """A text of others for the terminal: control characters are written out."""
    from lockstep.core.text import printable

    return printable(text.expandtabs(4))
