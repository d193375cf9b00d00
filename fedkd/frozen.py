"""The base of every value that is read from a file, and the numbers in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Frozen(BaseModel):
    """Values that refuse unknown keys and never change after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=False)
