"""The rules of a rehearsal: what each one finds, as a file names it in `allow=RULE`. docs/reference/rules.md has them all.

Those of the files alone are in `core.locking.hazards`. A file that accepts one of those has not accepted what a
rehearsal measures: what was thought to be ten rows may be ten million.
"""

from __future__ import annotations

#: rule -> what it finds, as the reference begins its section.
RULES = {
    "fails-on-data": "a migration fails on the rows that are there",
    "fails": "a migration fails for another reason than its rows",
    "blocks-too-long": "others wait longer than max_blocking",
    "rewrites-too-much": "more than max_rewrite of a table or index is written anew while others wait",
    "leaves-invalid-index": "an index is left that no query uses and every write keeps up",
    "resume-differs": "cut off half-way and gone on with, a file does not come to the same end",
    "unproven-revert": "the way back is not proven, and require_proven_revert asks for it",
    "copy-differs": "the restored copy is not what the backup says it holds",
    "not-on-copy": "the plan needs what the copy does not have: an extension, or a schema of the database service",
    "reduced-copy": "it was not tried on the whole copy",
    "not-tried": "files behind one that does not run on the copy were not tried",
    "touches-subscription": "the plan touches a subscription, which the copy only has by name",
    "touches-foreign-table": "the plan reaches a foreign table, whose server the copy cannot reach",
    "reaches-outside": "the plan calls something outside of the database, which the copy cannot reach",
}

#: What no file can accept: there is no plan that would work, or no way back.
BINDING = frozenset({"fails-on-data", "fails", "copy-differs"})


def page_of(rule: str) -> str:
    """Where a rule is described, whichever half it is of."""
    return f"docs/reference/rules.md#{rule}"
