"""What somebody may have meant who wrote a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `word`, in whatever case; None: none is like it."""
    from difflib import get_close_matches  # late: only a mistake needs it

    names = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return names[close[0]] if close else None


def meant(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'prod'?` to put behind a sentence, or nothing."""
    found = nearest(word, known)
    return f"; did you mean '{found}'?" if found else ""


def question(word: str, known: Iterable[str]) -> str | None:
    """Return the same as a sentence of its own, for a hint."""
    found = nearest(word, known)
    return f"did you mean '{found}'?" if found else None
