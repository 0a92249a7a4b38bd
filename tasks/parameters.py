"""What a deploy was asked for. The flow's parameters stay flat, for the form in the UI; here they become one value."""

from __future__ import annotations

from typing import Annotated

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
        filled = {name: value for name, value in given.items() if value not in (None, "", [], {})}
        try:
            return cls.model_validate(filled)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"the parameter {name}: {first['msg']}", hint="change it and start a new run") from None
