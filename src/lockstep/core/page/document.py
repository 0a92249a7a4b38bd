"""The page as values: answers, sections, tables. Pure, and nothing but texts: whoever renders it escapes all of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Light(Enum):
    """How something stands, each with a word and a sign of its own: none is told by its colour alone."""

    GOOD = "good"
    NOTE = "note"  # somebody should know
    BAD = "bad"  # somebody has to look
    UNKNOWN = "unknown"  # it could not be looked at

    @property
    def rank(self) -> int:
        """Worst first."""
        return [Light.BAD, Light.UNKNOWN, Light.NOTE, Light.GOOD].index(self)


def worst(*lights: Light) -> Light:
    """Return the light that counts when there are several."""
    return min(lights, key=lambda one: one.rank, default=Light.GOOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of a table."""

    text: str
    light: Light | None = None  # shown with its sign
    code: bool = False  # an id or SQL: in type of one width
    time: bool = False  # never broken into two lines
    bad: bool = False  # set in bold: a failure among what is fine
    note: str = ""  # a second, smaller line


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The head of a column."""

    text: str
    number: bool = False  # right-aligned, figures of one width


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; the first cell of each row names it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: str = ""  # how many rows are not here, and where they are
    empty: str = ""  # what is said in place of a table without rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One of the three questions of the first screen."""

    question: str
    light: Light
    word: str  # Yes, No, Not quite, Not known
    text: str  # why, in one sentence
    section: str  # id of the section that says more


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """Something that waits for a person."""

    environment: str
    light: Light
    text: str
    command: str = ""  # what to run or to read next


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole page."""

    project: str
    at: datetime  # when everything was looked at, UTC
    version: str  # Lockstep's
    answers: tuple[Answer, ...]
    todos: tuple[Todo, ...]
    environments: Table
    sections: tuple[Section, ...]
    contacts: tuple[str, ...] = ()
    runbook: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart as it was drawn, with the table of its numbers."""

    key: str
    title: str
    svg: str  # made by service.page.drawing and nobody else: the one text that is not escaped
    legend: tuple[tuple[str, str], ...]  # (fill, name) of each series, where there are several
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page with a heading of its own."""

    id: str
    title: str
    lead: str = ""  # a sentence or two
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


#: A cell in which there is nothing to say.
DASH = Cell(text="–")
