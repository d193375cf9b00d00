"""The scenario's ``[faults]`` table: what parties do wrong on purpose."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from fedkd.frozen import Frozen

FaultKind = Literal[
    "drop", "delay", "crash-before", "crash-after", "corrupt", "nan", "replay", "oversize"
]
Stage = Literal["describe", "train", "answer", "bias", "evaluate", "agree", "further"]
_USUAL: tuple[Stage, ...] = ("describe", "train", "answer", "bias", "evaluate")


class Faults(Frozen):
    """Faults that parties commit on purpose, drawn by seed: for tests and studies."""

    seed: Annotated[int, Field(ge=0)] = Field(0, description="another draw of the same faults")
    rate: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="share of replies hit")
    kinds: tuple[FaultKind, ...] = Field(
        get_args(FaultKind), description="drawn evenly among these"
    )
    stages: tuple[Stage, ...] = Field(_USUAL, description="messages that may be hit")
    parties: tuple[str, ...] | None = Field(None, description="party names; all when absent")
    delay: Annotated[float, Field(ge=0)] = Field(0.5, description="seconds of a delay")
