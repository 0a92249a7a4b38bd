"""The first screen: the three answers of the morning, and what waits for somebody. Pure; the rules are elsewhere."""

from __future__ import annotations

from lockstep.core.page.document import Answer, Light, Todo
from lockstep.service import answers as morning
from lockstep.service.outcome import Grade, Problem, outcomes
from lockstep.service.page.facts import PageFacts
from lockstep.service.page.wording import one_line, said

_LIGHTS = {"Yes": Light.GOOD, "Not yet": Light.NOTE, "No": Light.BAD, "Not known": Light.UNKNOWN}
_SECTIONS = {"In step?": "migrations", "Proven?": "backups", "Healthy?": "health"}


def answers(facts: PageFacts) -> tuple[Answer, ...]:
    """Return the three answers, as every other surface gives them."""
    return tuple(
        Answer(
            question=one.question,
            light=_LIGHTS[one.word],
            word=one.word,
            text=_sentence(one_line(one.text)),
            section=_SECTIONS[one.question],
        )
        for one in morning.answers(facts.overview)
    )


def todos(facts: PageFacts) -> tuple[Todo, ...]:
    """Return what waits for somebody, worst first."""
    found = [_todo(one.environment, problem) for one in outcomes(facts.overview) for problem in one.problems]
    found += [
        Todo(
            environment="",
            light=Light.UNKNOWN,
            text=f"{one.part} could not be looked at: {said(one.error)}",
            command=one.error.hint or "",
        )
        for one in facts.overview.unseen
    ]
    if facts.backups_error is not None:
        what = f"the bucket of the backups could not be read: {said(facts.backups_error)}"
        found.append(Todo(environment="", light=Light.UNKNOWN, text=what, command=facts.backups_error.hint or ""))
    return tuple(sorted(found, key=lambda one: one.light.rank))


def _todo(environment: str, problem: Problem) -> Todo:
    light = Light.NOTE if problem.grade is Grade.DUE else Light.BAD
    if problem.part == "reach":
        light = Light.UNKNOWN
    return Todo(environment=environment, light=light, text=one_line(problem.text), command=problem.command or "")


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?", "…")) else f"{words}."
