"""The scenario: one TOML file as frozen, validated values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedkd.encoding import Encoding
from fedkd.errors import expected
from fedkd.fault_scenario import Faults
from fedkd.frozen import Count, Fraction, Frozen, Positive
from fedkd.privacy.settings import Privacy
from fedkd.topic_scenario import Preprocessing, Topics

Geometry = Literal["onehot", "ordinal", "coordinates", "hybrid", "embedding", "matrix"]
_LATER = ("topics", "privacy")
ModelKind = Literal["bow", "encoder", "transformer", "mlp"]


class Transfer(Frozen):
    """Where the public, unlabelled transfer set comes from."""

    from_: str = Field("train", alias="from", description="split of the source to draw from")
    source: str | None = Field(None, description="another source, used whole, instead of `from`")
    rows: Count | None = Field(None, description="most rows; all that there are when absent")
    delivery: Literal["local", "server"] = Field(
        "local", description="parties read it from their own disk, or the server sends it in blocks"
    )


class Data(Frozen):
    """The private and public text."""

    source: str | tuple[str, ...] | dict[str, str] = Field(
        description="catalogue name; folder or file; 'hub:owner/name[@revision]'; "
        "'generated:moods'; a list of sources; or a table of split = file"
    )
    text: str = Field("text", description="column of the input text")
    label: str = Field("label", description="column of the label")
    domain: str | None = Field(
        None, description="column of the domain; 'source' is the source's own name"
    )
    transfer: Transfer = Transfer()
    test: Fraction = Field(0.2, description="share held out for testing where no test split exists")
    rows: Count | None = Field(None, description="most training rows used, drawn by seed")


class Labels(Frozen):
    """The label set and the distance between labels (E2)."""

    geometry: Geometry = Field("onehot", description="how the ground cost is made")
    values: tuple[float, ...] | None = Field(None, description="position of each label on a line")
    coordinates: dict[str, tuple[float, ...]] | tuple[tuple[float, ...], ...] | None = Field(
        None, description="a point for each label"
    )
    matrix: str | None = Field(None, description="csv or npy file with the cost between labels")
    encoder: str | None = Field(None, description="encoder of label names (geometry 'embedding')")
    power: Positive = Field(1.0, description="exponent p of the cost")
    normalise: bool = Field(True, description="divide the cost by its largest entry")
    keep: tuple[str, ...] | None = Field(None, description="label names used; others are dropped")
    rename: dict[str, str] = Field({}, description="label names mapped to another before use")


class Partition(Frozen):
    """How the private rows are dealt to the parties."""

    by: Literal["domain", "iid", "dirichlet", "shards", "quantity"] = Field(
        "iid", description="one party a domain; alike; skewed labels; few labels each; sizes 1:2:3…"
    )
    alpha: float | None = Field(None, description="Dirichlet concentration; smaller is more skewed")
    shards: Count = Field(2, description="shards of sorted labels per party (by = 'shards')")

    @model_validator(mode="after")
    def _alpha_belongs_to_dirichlet(self) -> Self:
        if self.by == "dirichlet" and self.alpha is None:
            raise ValueError("Expected alpha to be given for by = 'dirichlet'. Try alpha = 0.5")
        if self.alpha is not None and self.by != "dirichlet":
            raise ValueError(
                f"Expected alpha to be absent for by = {self.by!r}. Try by = 'dirichlet'"
            )
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(expected("alpha", self.alpha, "be > 0", "alpha = 0.5"))
        return self


class Parties(Frozen):
    """The data holders."""

    count: Count = Field(description="how many")
    partition: Partition = Partition()
    quorum: Count | None = Field(None, description="parties that must answer; all when absent")
    names: tuple[str, ...] | None = Field(
        None, description="the domains that take part, in any order (by = 'domain')"
    )

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if self.quorum is not None and self.quorum > self.count:
            raise ValueError(
                expected("quorum", self.quorum, f"be at most count={self.count}", "a smaller one")
            )
        if self.names is not None:
            if self.partition.by != "domain":
                raise ValueError("Expected names only with by = 'domain'. Try removing names")
            if len(set(self.names)) != len(self.names) or len(self.names) != self.count:
                raise ValueError(
                    expected(
                        "names",
                        list(self.names),
                        f"hold count={self.count} different names",
                        f"count = {len(set(self.names))}",
                    )
                )
        return self


class ModelFields(Frozen):
    """What describes a model; an absent value takes the default of its kind."""

    name: str | None = Field(None, description="transformers model name or local folder")
    features: Count | None = Field(None, description="hashed n-gram features (bow)")
    hidden: Annotated[int, Field(ge=0)] | None = Field(
        None, description="width of the hidden layer; 0 is a linear model (bow, encoder)"
    )
    widths: tuple[Count, ...] | None = Field(
        None, description="widths of the hidden layers, from the input on (mlp)"
    )
    layers: Count | None = Field(None, description="layers of a transformer without a name")
    width: Count | None = Field(None, description="width of a transformer without a name")
    heads: Count | None = Field(None, description="attention heads of a transformer without a name")
    vocabulary: Count | None = Field(None, description="tokens of a tokenizer trained here")
    max_tokens: Count | None = Field(None, description="longest input in tokens")
    epochs: Count | None = Field(None, description="most passes over the training rows")
    learning_rate: Positive | None = Field(None, description="AdamW step size")
    weight_decay: Annotated[float, Field(ge=0)] | None = Field(None, description="AdamW decay")
    batch_size: Count | None = Field(None, description="rows of one step")
    patience: Count | None = Field(None, description="epochs without gain before stopping")
    held_out: Fraction | None = Field(None, description="share of rows that decides when to stop")
    steps: Count | None = Field(
        None, description="so many steps on all rows, the rate falling as a cosine, instead"
    )
    subclasses: Annotated[int, Field(ge=2)] | None = Field(
        None, description="subclasses of each label that a teacher learns with its labels"
    )


class Model(ModelFields):
    """A teacher or a student."""

    model: ModelKind = Field(
        "bow",
        description="hashed n-grams; frozen sentence encoder + head; whole transformer; "
        "network on vectors of numbers",
    )


class Override(ModelFields):
    """Another teacher for some parties."""

    parties: tuple[int | str, ...] = Field(description="party numbers from 0, or names")
    model: ModelKind | None = Field(None, description="another kind")


class Teacher(Model):
    """The teachers; `override` lets parties differ."""

    override: tuple[Override, ...] = ()

    def for_party(self, index: int, name: str) -> Model:
        """Return the model of one party: the common values with its overrides laid over."""
        values = self.model_dump(exclude={"override"})
        for override in self.override:
            if index in override.parties or name in override.parties:
                values |= override.model_dump(exclude={"parties"}, exclude_none=True)
        return Model(**values)


class MethodSpec(BaseModel):
    """One way to make targets and a loss, as written; ``fedkd.methods`` validates its keys.

    The keys belong to the method's own file, so that a new method changes no other one.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="the method; its own keys are listed below")


class Release(Frozen):
    """How answers are encoded before they leave a party."""

    encoding: Encoding = Field("float16", description="how probabilities cross; two lose some")
    top: Count = Field(8, description="labels of a row that encoding = 'top-k' keeps")
    bias_inputs: Count = Field(2000, description="random inputs of the bias vector (weights=bias)")
    bias: Literal["mean", "argmax"] = Field("mean", description="argmax counts as the paper's code")


class Resources(Frozen):
    """What one party may use at a time (backend 'ray')."""

    cpus: Positive = Field(1.0, description="cores of one party; fractions share one")
    gpus: Annotated[float, Field(ge=0)] = Field(0.0, description="GPUs; 0.25 puts four on one")
    memory: Positive | None = Field(None, description="GB that one party may take")
    address: str | None = Field(None, description="host:port of a Ray cluster that is running")


class Run(Frozen):
    """Where and how the scenario runs."""

    backend: Literal["inline", "ray", "remote"] = Field(
        "inline", description="this process; Flower's simulation on Ray; real machines"
    )
    out: str = Field("runs", description="folder of results, relative to the current directory")
    block_rows: Count = Field(4096, description="rows asked for in one request")
    retries: Annotated[int, Field(ge=0)] = Field(1, description="further attempts after a failure")
    backoff: Annotated[float, Field(ge=0)] = Field(
        0.2, description="seconds before the second attempt; twice as long before each next"
    )
    deadline: Positive = Field(600.0, description="seconds a request may take")
    resources: Resources = Resources()


class Scenario(Frozen):
    """One scenario file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        description="names the folder of results"
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = Field(
        (0,), description="one run each"
    )
    data: Data
    labels: Labels = Labels()
    parties: Parties
    teacher: Teacher = Teacher()
    student: Model = Model()
    topics: Topics | None = Field(None, description="distil topic models, not classifiers")
    method: Annotated[tuple[MethodSpec, ...], Field(min_length=1)]
    release: Release = Release()
    run: Run = Run()
    privacy: Privacy | None = None
    faults: Faults = Faults()

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(expected("seeds", list(self.seeds), "differ", "dropping the repeats"))
        if self.parties.partition.by == "domain" and self.data.domain is None:
            raise ValueError(
                "Expected data.domain to be given for partition by = 'domain'. "
                "Try domain = 'domain' under [data]"
            )
        if self.student.subclasses is not None:
            raise ValueError(
                expected("student.subclasses", self.student.subclasses, "be absent",
                         "[teacher] subclasses, or the method's own")
            )  # fmt: skip
        for override in self.teacher.override:
            for party in override.parties:
                if isinstance(party, int) and not 0 <= party < self.parties.count:
                    raise ValueError(
                        expected(
                            "teacher.override.parties",
                            party,
                            f"be below parties.count={self.parties.count}",
                            "a party number from 0",
                        )
                    )
        return self

    @property
    def config_hash(self) -> str:
        """Twelve hex digits that name everything which can change a result."""
        values = self.model_dump(mode="json", by_alias=True, exclude={"seeds", "run"})
        values["block_rows"] = self.run.block_rows
        # An absent table or key leaves older results their folders.
        values = {k: v for k, v in values.items() if v is not None or k not in _LATER}
        if "privacy" in values and self.privacy and self.privacy.words_epsilon is None:
            del values["privacy"]["words_epsilon"]
        if "topics" in values and self.topics and self.topics.vocabulary.epsilon is None:
            del values["topics"]["vocabulary"]["delta"]
        if "topics" in values and self.topics and self.topics.preprocessing == Preprocessing():
            del values["topics"]["preprocessing"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def folder(self, seed: int | None = None) -> Path:
        """Return the folder of this configuration's results, or of one seed's."""
        base = Path(self.run.out) / self.name / self.config_hash
        return base if seed is None else base / str(seed)
