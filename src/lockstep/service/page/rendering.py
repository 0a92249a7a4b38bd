"""The page as one HTML document. No text of anybody else's becomes markup here: all of them are escaped.

Nothing is loaded from anywhere, and there is no script; the policy in the page forbids both. Characters that would steer
a terminal or turn the direction of reading are written out.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lockstep.core.page.document import Document, Figure, Light
from lockstep.core.text import printable

if TYPE_CHECKING:
    from jinja2 import Template

_WORDS = {Light.GOOD: "good", Light.NOTE: "to know", Light.BAD: "look at it", Light.UNKNOWN: "not known"}


def render(page: Document) -> bytes:
    """Return the page, UTF-8. Equal pages give equal bytes."""
    template, style = _template()
    from markupsafe import Markup

    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"

    def svg(figure: Figure) -> Markup:
        return Markup(figure.svg)

    text = template.render(
        page=page,
        moment=f"{page.at.astimezone(UTC):%A, %d %B %Y, %H:%M} UTC",
        policy=Markup(policy),
        style=Markup(style),
        svg=svg,
        words={light.value: word for light, word in _WORDS.items()},
        runbook_link=page.runbook if page.runbook and re.match(r"https?://", page.runbook) else None,
    )
    return _without_empty_lines(text).encode("utf-8", "backslashreplace")


@cache
def _template() -> tuple[Template, str]:
    """The template, and the style sheet, which holds nothing of anybody's."""
    from jinja2 import Environment, StrictUndefined

    here = files(__package__)
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_shown, auto_reload=False)
    template = environment.from_string((here / "page.html.jinja").read_text("utf-8"))
    return template, _without_empty_lines((here / "page.css").read_text("utf-8"))


def _without_empty_lines(text: str) -> str:
    return re.sub(r"\n(?:[ \t]*\n)+", "\n", text)


def _shown(value: Any) -> Any:
    """What is put into the page: text of others without its control characters. Markup of ours stays as it is."""
    return printable(value) if type(value) is str else value
