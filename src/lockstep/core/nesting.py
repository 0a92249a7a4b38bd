"""Whether a text may be given to PostgreSQL's grammar: what would exhaust this process's stack, or its time, is refused.

The grammar's own code (libpg_query) descends into a tree without looking at how much stack is left: a chain of 25,000
`||` ends the process without a word when it is parsed, one of 6,000 when it is written out again. It knows no bound for
what associates to the left (operators, casts, JOIN, UNION); of parentheses, CASE and the like it takes a few thousand. A
server with its default `max_stack_depth` gives up somewhere between 4,000 and 8,000 `||`.

Its scanner puts back what follows `/*` inside of a comment, so a long run of these takes the square of its length.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

DEEPEST = 4_000  # levels of one expression
_OPENINGS = 1_000  # of comments, in one run of characters that an operator could be made of

_SIGNS = "+-*/<>=~!@#%^&|`?:(["
_WORDS = re.compile(
    r"\b(?:is|isnull|notnull|join|union|intersect|except|collate|at|in|between|like|ilike|similar|operator|overlaps)\b",
    re.IGNORECASE,
)
_RUN = re.compile(r"[-+*/<>=~!@#%^&|`?]+")

# Tokens of libpg_query 18, by what they do to the depth of a tree.
_OPENS, _CLOSES = frozenset({40, 91}), frozenset({41, 93})  # ( [ and ) ]
_END = 59  # ;
_FLAT = frozenset({44, 292, 572, 746, 701, 399})  # , AND OR WHEN THEN ELSE: their operands stand side by side
_CHAINS = frozenset({722, 478, 410, 485})  # UNION INTERSECT EXCEPT JOIN: a level each, whatever stands in between
_QUERIES = frozenset({653, 750})  # SELECT WITH: behind a parenthesis the root of a tree of its own
_QUERY = 3  # levels that such a root brings
#: Operators as signs, casts, and AT BETWEEN COLLATE ILIKE IN IS ISNULL LIKE NOTNULL OPERATOR OVERLAPS SIMILAR: until
#: one of _FLAT begins anew.
_LEVELS = frozenset({
    37, 42, 43, 45, 47, 60, 61, 62, 63, 94, 265, 268, 272, 273, 274, 302, 309, 335, 454, 459, 482, 483, 510, 553, 569, 579, 665
})  # fmt: skip


def exhausting_comment(text: str) -> int | None:
    """Return the first character (from 0) of a run of openings of comments that no scanner gets through in time."""
    if text.count("/*") < _OPENINGS:
        return None
    runs = _RUN.finditer(text)
    return next((run.start() for run in runs if run[0].count("/*") >= _OPENINGS), None)


def may_be_deep(text: str) -> bool:
    """Tell at a glance whether anything in a text could be deeper than DEEPEST."""
    if len(text) < 2 * DEEPEST:
        return False
    marks = sum(text.count(char) for char in _SIGNS) + _QUERY * text.count("(")
    return marks >= DEEPEST or marks + sum(1 for _ in _WORDS.finditer(text)) >= DEEPEST


def too_deep(tokens: Iterable[Any]) -> int | None:
    """Return where (in bytes from 0) a text goes deeper than DEEPEST; None: nowhere. `tokens` as the scanner gives them.

    It counts high: what stands side by side in a way that is not known here counts as one below the other.
    """
    outer: list[tuple[int, int]] = []  # of each pair of parentheses that is open: levels of chains, of operators
    chained = below = total = before = 0
    for one in tokens:
        kind = one.token
        if kind in _LEVELS:
            below, total = below + 1, total + 1
        elif kind in _FLAT:
            below, total = 0, total - below
        elif kind in _OPENS:
            outer.append((chained, below))
            chained, below, total = 1, 0, total + 1
        elif kind in _CLOSES:
            total -= chained + below
            chained, below = outer.pop() if outer else (0, 0)
        elif kind in _CHAINS:
            chained, total = chained + 1, total + 1
        elif kind in _QUERIES and before in _OPENS:
            chained, total = chained + _QUERY, total + _QUERY
        elif kind == _END:
            outer.clear()
            chained = below = total = 0
        if total > DEEPEST:
            return int(one.start)
        before = kind
    return None
