"""One ``[[method]]`` of a scenario with topics: which student is made of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fedkd.errors import PolicyError, ScenarioError, expected
from fedkd.frozen import Count, Frozen, Positive
from fedkd.privacy.settings import Terms
from fedkd.scenario import Scenario
from fedkd.topics.objective import check_terms
from fedkd.topics.weights import TopicWeights


class TopicCost(Frozen):
    """How much each cost counts when topics are matched."""

    activity: float = Field(1.0, ge=0, description="use on the same documents")
    words: float = Field(1.0, ge=0, description="Hellinger distance of words")
    places: float = Field(0.0, ge=0, description="cosine distance of text vectors")


class TopicQuestion(Frozen):
    """What is asked of every party: word distributions at a temperature."""

    temperature: float
    soft_label: Literal["bn", "repo"]

    @property
    def name(self) -> str:
        """A name for files and requests."""
        return f"{self.soft_label}-{self.temperature:g}"


class TopicMethod(Frozen):
    """A student: ``alpha`` 0 learns from the public documents alone, without any teacher."""

    name: Literal["topics"] = "topics"
    label: str | None = Field(None, description="name in results, instead of one made from keys")
    alpha: float = Field(0.8, description="share of what teachers say in the loss, 0 to 1")
    temperature: float = Field(2.0, description="T of the soft word distributions")
    soft_label: Literal["bn", "repo"] = Field(
        "bn", description="teachers' words with the decoder's batch norm, or as published without"
    )
    words: bool = Field(True, description="the cross-entropy of word distributions is on")
    weights: TopicWeights = Field("size", description="how much each teacher counts on a document")
    tau: Positive = Field(1.0, description="sharpness of weights = 'likelihood'")
    latent: float = Field(0.0, ge=0, description="weight of W2² between latents (the paper: 1)")
    align: Literal["index", "permutation", "soft", "unbalanced", "student"] = Field(
        "permutation", description="how topics correspond; 'student' matches them as it trains"
    )
    cost: TopicCost = TopicCost()
    new_slot: float | None = Field(
        None, gt=0, lt=1, description="Hellinger distance beyond which a topic stands alone"
    )
    standardise: bool = Field(True, description="latents get mean 0 and deviation 1 first")
    emphasis: Positive | None = Field(
        None, description="kappa of exp(-D/(kappa median D)): disputed documents count less"
    )
    proportions: float = Field(0.0, ge=0, description="weight of OT between topic proportions")
    epsilon: Positive = Field(0.1, description="entropic epsilon of that OT")
    refresh: Count = Field(5, description="epochs between matchings (align = 'student')")
    control: Literal["uniform", "shuffled"] | None = Field(
        None, description="no knowledge in the words: all alike, or another document's answer"
    )
    hidden: tuple[Count, ...] | Literal["vocabulary"] | None = Field(
        None, description="another width of the student's encoder"
    )

    @model_validator(mode="after")
    def _terms_hold(self) -> Self:
        try:
            check_terms(self.alpha, self.temperature)
        except ScenarioError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def key(self) -> str:
        """The name under which results are kept, unique within a scenario."""
        if self.label:
            return self.label
        if self.alpha == 0:
            return "student-alone"
        parts = ["topics", self.weights, *filter(None, (self.control,))]
        if self.latent:
            parts += [self.align, f"w2-{self.latent:g}"]
        return "/".join(parts)

    @property
    def question(self) -> TopicQuestion:
        """What it needs of every party."""
        return TopicQuestion(temperature=self.temperature, soft_label=self.soft_label)

    @property
    def latents(self) -> bool:
        """Whether it needs topics that correspond."""
        return bool(self.alpha and (self.latent or self.proportions or self.emphasis))


def parse_topic_methods(specs: Sequence[Any]) -> tuple[TopicMethod, ...]:
    """Return the students a scenario lists; raises :class:`ScenarioError`."""
    methods: list[TopicMethod] = []
    for number, spec in enumerate(specs):
        if spec.name != "topics":
            raise ScenarioError(
                expected(f"method.{number}.name", spec.name, "be 'topics' beside [topics]",
                         "removing the [topics] table")
            )  # fmt: skip
        try:
            method = TopicMethod(**spec.model_dump())
        except ValidationError as error:
            raise ScenarioError("\n".join(_explain(e, number) for e in error.errors())) from error
        if method.key in {other.key for other in methods}:
            raise ScenarioError(
                expected(f"method.{number}", method.key, "differ from those before it",
                         f"label = '{method.key}-2'")
            )  # fmt: skip
        methods.append(method)
    return tuple(methods)


def asked(methods: Sequence[TopicMethod]) -> tuple[TopicQuestion, ...]:
    """Return what parties are asked: nothing for students that learn from documents alone.

    Where there are no others, the first one's question, so that topics can be set side by side.
    """
    found = tuple(dict.fromkeys(method.question for method in methods if method.alpha))
    return found or (methods[0].question,)


def check_plain(scenario: Scenario) -> None:
    """Raise :class:`ScenarioError` for what ``[privacy]`` has no form of for topics."""
    if scenario.privacy is not None and scenario.privacy.secure_sum:
        raise ScenarioError(
            expected("privacy.secure_sum", True, "be false beside [topics], whose alignment reads "
                     "every party's topics", "secure_sum = false")
        )  # fmt: skip
    if scenario.privacy is not None and scenario.privacy.mechanism.name != "none":
        raise ScenarioError(
            expected("privacy.mechanism", scenario.privacy.mechanism.name,
                     "be 'none' beside [topics]", "topics.vocabulary.epsilon")
        )  # fmt: skip


def check_plain_terms(terms: Terms) -> None:
    """Raise :class:`PolicyError` where a party's policy names a mechanism.

    Those change label probabilities, and a topic model's answers would leave as they are.
    """
    if terms.mechanism.name != "none":
        raise PolicyError(
            expected("mechanism", terms.mechanism.name, "be 'none' for topic models",
                     "topics.vocabulary.epsilon, and fewer rows or larger anonymous counts")
        )  # fmt: skip


def _explain(fault: Any, number: int) -> str:
    key = ".".join((f"method.{number}", *(str(part) for part in fault["loc"])))
    message = str(fault["msg"]).removeprefix("Value error, ")
    if message.startswith("Expected"):
        return f"{key}: {message}"
    known = ", ".join(TopicMethod.model_fields)
    return expected(key, fault["input"], f"be valid ({message})", f"one of the keys {known}")
