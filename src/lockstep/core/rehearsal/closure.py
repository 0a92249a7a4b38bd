"""Which tables a plan may touch: all that its text names, and what these lead to. Pure.

It is generous: a word of the text that is the name of something counts as that thing, in comments and strings too, so
that the dynamic SQL of a DO block is seen as well. What is left out in spite of that shows in the trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_WORD = re.compile(r'"((?:[^"]|"")+)"|([^\W\d][\w$]*)')

Table = tuple[str, str]  # schema and name


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A database as far as one thing leads to another. By oid."""

    relations: Mapping[int, Table]  # tables, partitions, views, materialized views
    tables: frozenset[int]  # those with rows of their own
    references: tuple[tuple[int, int], ...]  # foreign keys: whose, to whom
    parts: tuple[tuple[int, int], ...]  # parent, child: partitions and inheritance
    reads: tuple[tuple[int, int], ...]  # view, what its query names
    triggers: tuple[tuple[int, int], ...]  # relation, function
    others: tuple[tuple[str, int], ...]  # name of an index, or of a type of its columns, and the relation
    functions: Mapping[int, tuple[str, str]]  # name and source


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """Return every word of SQL texts as a name: in lower case, unless in double quotes."""
    return frozenset(
        match[1].replace('""', '"') if match[1] is not None else match[2].lower()
        for text in texts
        for match in _WORD.finditer(text)
    )


def touched_tables(graph: Graph, words: frozenset[str], always: Iterable[Table] = ()) -> frozenset[Table]:
    """Return the tables whose rows a plan of these words needs, `always` among them.

    Named ones; what views and triggers' functions name; whole trees of partitions; whatever refers to these by foreign
    keys, directly or not, and whatever all of them refer to.
    """
    found = _reached(graph, words)
    _close(found, ((to, by) for by, to in graph.references))  # a row that is deleted is asked for there
    _close(found, graph.references)  # a foreign key is not made without the rows that it leads to
    _close(found, [*graph.parts, *((child, parent) for parent, child in graph.parts)])
    _close(found, graph.references)
    return frozenset(graph.relations[oid] for oid in found & graph.tables) | frozenset(always)


def _reached(graph: Graph, words: frozenset[str]) -> set[int]:
    """What is named, and what is named by what is named."""
    found: set[int] = set()
    functions: set[int] = set()
    known = set(words)
    while True:
        before = len(found), len(functions)
        found |= {oid for oid, (_, name) in graph.relations.items() if name in known}
        found |= {oid for name, oid in graph.others if name in known}
        _close(found, graph.reads)
        _close(found, [*graph.parts, *((child, parent) for parent, child in graph.parts)])
        fresh = {oid for oid, (name, _) in graph.functions.items() if name in known}
        fresh |= {function for relation, function in graph.triggers if relation in found}
        for oid in fresh - functions:
            if oid in graph.functions:
                known |= words_of([graph.functions[oid][1]])
        functions |= fresh
        if (len(found), len(functions)) == before:
            return found


def _close(found: set[int], edges: Iterable[tuple[int, int]]) -> None:
    """Add all that edges lead to, from one end to the other, again and again."""
    leads: dict[int, list[int]] = {}
    for start, end in edges:
        leads.setdefault(start, []).append(end)
    todo = list(found)
    while todo:
        for end in leads.get(todo.pop(), ()):
            if end not in found:
                found.add(end)
                todo.append(end)


def shown(tables: Iterable[Table]) -> Iterator[str]:
    """Tables as people write them, sorted."""
    return (f"{schema}.{name}" for schema, name in sorted(tables))
