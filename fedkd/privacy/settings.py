"""What a policy and a scenario's ``[privacy]`` table say: mechanism, budget, limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from fedkd.errors import expected
from fedkd.frozen import Count, Fraction, Frozen, Positive

MechanismName = Literal[
    "none", "dp-sgd", "pate", "randomised-response", "laplace", "gaussian",
    "temperature", "top-k", "rounding", "argmax",
]  # fmt: skip
Unit = Literal["record", "party"]
RequestKind = Literal[
    "describe", "receive", "train", "answer", "measure", "bias", "agree", "further", "evaluate",
    "keys", "shares", "masked", "unmask",
]  # fmt: skip
REQUEST_KINDS: tuple[RequestKind, ...] = get_args(RequestKind)

UNITS: dict[str, Unit] = {
    "dp-sgd": "record",
    "pate": "record",
    "randomised-response": "party",
    "laplace": "party",
    "gaussian": "party",
}
PER_RELEASE = ("pate", "randomised-response", "laplace", "gaussian")
_SUMMING: tuple[RequestKind, ...] = ("keys", "shares", "masked", "unmask")
_NOISED: tuple[RequestKind, ...] = ("describe", "receive", "train", "answer", "bias", *_SUMMING)
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "none": (),
    "dp-sgd": ("noise", "clip", "sample_rate", "steps", "learning_rate"),
    "pate": ("noise", "teachers"),
    "randomised-response": ("epsilon_each",),
    "laplace": ("noise", "clip"),
    "gaussian": ("noise", "clip"),
    "temperature": ("temperature",),
    "top-k": ("keep",),
    "rounding": ("decimals",),
    "argmax": (),
}
_NEEDED = {"temperature": "temperature", "top-k": "keep", "rounding": "decimals"}
_EXAMPLE = {"temperature": 2, "keep": 1, "decimals": 1}


class Mechanism(Frozen):
    """What is done to a teacher, or to each of its answers, before anything leaves."""

    name: MechanismName = Field("none", description="see docs/privacy.md for what each proves")
    noise: Positive | None = Field(
        None,
        description="noise multiplier (dp-sgd), deviation in votes (pate), scale in probability "
        "(laplace, gaussian); calibrated to the budget when absent",
    )
    clip: Positive | None = Field(
        None,
        description="gradient norm (dp-sgd); largest distance from uniform (laplace, gaussian)",
    )
    epsilon_each: Positive | None = Field(
        None, description="epsilon of one label (randomised-response); calibrated when absent"
    )
    teachers: Annotated[int, Field(ge=2)] | None = Field(
        None, description="sub-teachers inside the party (pate); 50 when absent"
    )
    sample_rate: Fraction | None = Field(None, description="Poisson sampling rate (dp-sgd); 0.2")
    steps: Count | None = Field(None, description="noisy steps (dp-sgd); 100")
    learning_rate: Positive | None = Field(None, description="step size (dp-sgd); by kind of model")
    temperature: Annotated[float, Field(ge=1)] | None = Field(
        None, description="softening, 1 or more"
    )
    keep: Count | None = Field(None, description="labels that keep their probability (top-k)")
    decimals: Annotated[int, Field(ge=1, le=6)] | None = Field(
        None, description="decimal places left (rounding)"
    )

    @model_validator(mode="after")
    def _own_parameters_only(self) -> Self:
        known = _PARAMETERS[self.name]
        for key in self.parameters:
            if key not in known:
                raise ValueError(
                    expected(key, self.parameters[key], f"be absent for {self.name!r}", str(known))
                )
        need = _NEEDED.get(self.name)
        if need and need not in self.parameters:
            raise ValueError(
                f"Expected {need} to be given for {self.name!r}. Try {need} = {_EXAMPLE[need]}"
            )
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter that has a value."""
        return self.model_dump(exclude={"name"}, exclude_none=True)

    @property
    def unit(self) -> Unit | None:
        """Whom the mechanism protects; None where it guarantees nothing."""
        return UNITS.get(self.name)

    @property
    def per_release(self) -> bool:
        """Whether every answer costs; else it is paid for once, or nothing is guaranteed."""
        return self.name in PER_RELEASE


class Terms(Frozen):
    """What a party allows: in its own ``policy.toml``, or in a scenario for simulated parties."""

    unit: Unit | None = Field(
        None, description="what epsilon protects; the mechanism's own unit when absent"
    )
    epsilon: Positive | None = Field(None, description="most that all releases together may spend")
    delta: Fraction = Field(1e-5, description="below 1 / rows of the party")
    words_epsilon: Positive | None = Field(
        None, description="most that words told for topic models may spend, over all runs; what "
        "the topics answer is not covered"
    )  # fmt: skip
    mechanism: Mechanism = Mechanism()
    accepts: tuple[MechanismName, ...] = Field(
        get_args(MechanismName), description="mechanisms that a scenario may ask for instead"
    )
    requests: tuple[RequestKind, ...] | None = Field(
        None, description="kinds of request answered; all that keep the guarantee when absent"
    )
    most_rows: Count | None = Field(None, description="most rows answered, over all requests")
    most_bytes: Count | None = Field(None, description="most bytes that leave, over all replies")
    minimum_rows: Count = Field(1, description="private rows below which the party takes no part")
    near_duplicates: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="largest share of transfer rows that nearly repeat a private row"
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        name, unit = self.mechanism.name, self.mechanism.unit
        if self.unit is not None and unit is not None and self.unit != unit:
            fit = ", ".join(n for n, u in UNITS.items() if u == self.unit)
            raise ValueError(
                expected(
                    "unit", self.unit, f"be {unit!r}, which {name!r} protects", f"one of {fit}"
                )
            )
        bounded = unit is not None or set(self.accepts) & set(UNITS)
        if self.epsilon is not None and not bounded:
            raise ValueError(
                expected(
                    "epsilon", self.epsilon, f"be absent: {name!r} bounds nothing",
                    "mechanism = { name = 'dp-sgd' }",
                )
            )  # fmt: skip
        broken = sorted(set(self.requests or ()) - set(self.keeping))
        if broken and self.epsilon is not None:
            raise ValueError(
                expected(
                    "requests", broken, f"be kinds that {name!r} covers",
                    f"some of {', '.join(self.keeping)}",
                )
            )  # fmt: skip
        return self

    @property
    def keeping(self) -> tuple[RequestKind, ...]:
        """The kinds of request whose answers keep the mechanism's guarantee.

        ``evaluate`` sends exact averages over private rows, which none covers; ``measure`` asks
        about the public test set (a cost without a use), ``bias`` is no label, and ``further``
        reads the weights, which only a private teacher affords and which no rounding reaches.
        """
        if self.mechanism.name in ("pate", "randomised-response"):
            return tuple(kind for kind in _NOISED if kind != "bias")
        if self.mechanism.per_release:
            return _NOISED
        if self.mechanism.unit is not None:
            return tuple(kind for kind in REQUEST_KINDS if kind != "evaluate")
        if self.mechanism.name != "none":
            return tuple(kind for kind in REQUEST_KINDS if kind not in ("agree", "further"))
        return REQUEST_KINDS

    @property
    def allowed(self) -> tuple[RequestKind, ...]:
        """The kinds of request that are answered."""
        return self.keeping if self.requests is None else self.requests


class PrivacyOverride(Frozen):
    """Other terms for some parties; an absent key keeps the common value."""

    parties: tuple[int | str, ...] = Field(description="party numbers from 0, or names")
    epsilon: Positive | None = Field(None, description="another cap")
    delta: Fraction | None = Field(None, description="another delta")
    mechanism: Mechanism | None = Field(None, description="another mechanism")
    most_rows: Count | None = Field(None, description="another limit of rows")
    minimum_rows: Count | None = Field(None, description="another least number of rows")


class Arm(Frozen):
    """One setting of a sweep; an absent key keeps the common value."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        description="names its folder"
    )
    epsilon: Positive | None = Field(None, description="budget of this arm")
    mechanism: Mechanism = Field(Mechanism(), description="mechanism of this arm")


class Privacy(Terms):
    """What leaves the parties and at what price; in a simulation it becomes their policies."""

    secure_sum: bool = Field(
        False, description="the server gets the weighted sum over parties and no single answer"
    )
    override: tuple[PrivacyOverride, ...] = ()
    arm: tuple[Arm, ...] = ()

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        names = [arm.name for arm in self.arm]
        if len(set(names)) != len(names):
            raise ValueError(expected("privacy.arm", names, "have different names", "another name"))
        for arm in self.arm:
            self.with_arm(arm.name)
        return self

    def with_arm(self, name: str) -> Privacy:
        """Return the terms of one arm of the sweep."""
        (arm,) = (arm for arm in self.arm if arm.name == name)
        values = self.model_dump(exclude={"arm"}, exclude_unset=True)
        return Privacy(**values | arm.model_dump(exclude={"name"}, exclude_none=True))

    def for_party(self, index: int, name: str) -> Terms:
        """Return the terms of one party: the common values with its overrides laid over."""
        values = self.model_dump(exclude={"override", "arm", "secure_sum"}, exclude_unset=True)
        for override in self.override:
            if index in override.parties or name in override.parties:
                values |= override.model_dump(exclude={"parties"}, exclude_none=True)
        return Terms(**values)
