"""What a deploy or a revert was asked for. The flow's parameters stay flat, for the form in the UI; here they become one value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lockstep.errors import UsageError

Version = Annotated[int, Field(ge=0)]
Words = Annotated[str, Field(max_length=500)]


class DeployParameters(BaseModel):
    """The parameters of one deploy, checked. None of them is a secret: Prefect stores them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environments: tuple[str, ...] = ()  # empty: all
    to_version: Version | None = None
    include: tuple[Version, ...] = ()
    dry_run: bool = False
    reason: Words | None = None
    override: Words | None = None
    expected_plans: dict[str, str] | None = None  # as service.deploying.expected_plans made it

    @classmethod
    def of(cls, **given: object) -> DeployParameters:
        """Check what the flow was called with; an empty field of the form counts as not given. Raises UsageError."""
        return _checked(cls, given)


class RevertParameters(BaseModel):
    """The parameters of one revert, checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to_version: Annotated[int, Field(ge=-1)] | None = None  # -1 and 0: everything goes
    steps: Annotated[int, Field(ge=1)] | None = None
    only: Version | None = None
    reason: Words | None = None
    override: Words | None = None
    dry_run: bool = False

    @classmethod
    def of(cls, **given: object) -> RevertParameters:
        """Check what the flow was called with. Raises UsageError, also unless exactly one of the three ways is given."""
        made = _checked(cls, given)
        ways = [name for name in ("to_version", "steps", "only") if getattr(made, name) is not None]
        if len(ways) != 1:
            what = f"only one of {', '.join(ways)} can be given" if ways else "say what is to be taken back"
            raise UsageError(what, hint="give one of to_version, steps and only, and start a new run")
        return made


Parameters = TypeVar("Parameters", bound=BaseModel)


def _checked(model: type[Parameters], given: Mapping[str, object]) -> Parameters:
    filled = {name: value for name, value in given.items() if value not in (None, "", [], {})}
    try:
        return model.model_validate(filled)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"the parameter {name}: {first['msg']}", hint="change it and start a new run") from None
