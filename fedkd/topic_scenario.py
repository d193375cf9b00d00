"""The scenario's ``[topics]`` table: parties with topic models, and a topic model as student."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedkd.errors import expected
from fedkd.frozen import Count, Fraction, Frozen, Positive

Companion = Literal["lda", "prodlda", "teacher-pooled", "student-pooled"]
# 1 is one document and 1.0 all of them, so neither may turn into the other.
_Number = Annotated[int, Field(ge=1, strict=True)]
_Share = Annotated[float, Field(gt=0, le=1, strict=True)]
TopicInputs = Literal["bag", "combined", "zero-shot"]


class TopicFields(Frozen):
    """What describes a topic model; an absent value takes the default of its role."""

    inputs: TopicInputs | None = Field(
        None, description="ProdLDA; CombinedTM (a teacher's default); ZeroShotTM (a student's)"
    )
    topics: int | None = Field(None, description="how many topics (20)")
    hidden: tuple[Count, ...] | Literal["vocabulary"] | None = Field(
        None, description="widths of the encoder; 'vocabulary' is one layer as wide as that"
    )
    arch: Literal["collapsed", "published"] | None = Field(
        None, description="'published' keeps CombinedTM's layer as wide as the vocabulary"
    )
    encoder: str | None = Field(None, description="text encoder instead of topics.encoder")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(None, description="0.2")
    epochs: Count | None = Field(None, description="passes over the documents (100)")
    batch_size: Annotated[int, Field(ge=2)] | None = Field(
        None, description="documents a step (64)"
    )
    learning_rate: Positive | None = Field(None, description="Adam's step size (2e-3)")

    @model_validator(mode="after")
    def _enough_topics(self) -> Self:
        if self.topics is not None and self.topics < 2:
            raise ValueError(expected("topics", self.topics, "be at least 2", "topics = 20"))
        return self


class TopicOverride(TopicFields):
    """Another teacher for some parties."""

    parties: tuple[int | str, ...] = Field(description="party numbers from 0, or names")


class TopicTeacher(TopicFields):
    """The teachers; `override` lets parties differ."""

    override: tuple[TopicOverride, ...] = ()

    def for_party(self, index: int, name: str) -> TopicFields:
        """Return the model of one party: the common values with its overrides laid over."""
        values = self.model_dump(exclude={"override"})
        for override in self.override:
            if index in override.parties or name in override.parties:
                values |= override.model_dump(exclude={"parties"}, exclude_none=True)
        return TopicFields(**values)


class Preprocessing(Frozen):
    """How raw texts become words: scikit-learn's CountVectorizer with these settings.

    Lower case, accents stripped, runs of at least three letters; scikit-learn's English stop words
    left out where ``stop_words``; words in at least ``min_df`` and at most ``max_df`` training
    documents (whole numbers count, fractions are shares); of those the ``max_words`` most frequent;
    documents of fewer than ``min_words`` such words dropped. Nothing is lemmatised. OCTIS folders
    and generated corpora are preprocessed already.
    """

    min_df: _Number | _Share = Field(
        5, description="training documents that must hold a word; 0.01 is a share of them"
    )
    max_df: _Number | _Share = Field(
        0.5, description="training documents that may hold a word; 1.0 is all of them"
    )
    max_words: Annotated[int, Field(ge=2)] = Field(2000, description="most words kept")
    min_words: Count = Field(1, description="words that a document must hold")
    stop_words: bool = Field(True, description="leave out scikit-learn's English stop words")


class TopicVocabulary(Frozen):
    """How the words are agreed on."""

    how: Literal["threshold", "union", "public"] = Field(
        "threshold", description="words in enough documents of all; all words told; public ones"
    )
    least: Count = Field(5, description="documents that must hold a word")
    most: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share that may hold it")
    size: Annotated[int, Field(ge=2)] | None = Field(None, description="most words kept")
    anonymous: Count = Field(5, description="documents of one party that must hold a word it tells")
    epsilon: Positive | None = Field(
        None, description="of the words told, for one document: Laplace noise and a threshold"
    )
    delta: Fraction = Field(
        1e-6, description="with epsilon: chance that a word of one document alone is told"
    )
    cap: Count = Field(50, description="words that one document may count for, with epsilon")


class TopicUpload(Frozen):
    """What a party's word distributions look like on the wire."""

    form: Literal["top", "dense"] = Field(
        "top", description="the words that stand out; all, float16"
    )
    keep: Count = Field(64, description="words kept of each document (form = 'top')")
    samples: Count = Field(10, description="draws of topic shares behind a distribution")


class Topics(Frozen):
    """Distil topic models: each party's own, into one small student."""

    encoder: str = Field(
        "lsa:384", description="'lsa:<width>', or a sentence encoder by hub name or folder"
    )
    public: Fraction = Field(0.4, description="share of all documents that everybody may read")
    whole: bool = Field(
        False, description="every document is public and the one party's own, as in the paper"
    )
    preprocessing: Preprocessing = Preprocessing()
    vocabulary: TopicVocabulary = TopicVocabulary()
    teacher: TopicTeacher = TopicTeacher()
    student: TopicFields = TopicFields()
    upload: TopicUpload = TopicUpload()
    rounds: Count = Field(1, description="the student's topics start the teachers of a next round")
    companions: tuple[Companion, ...] = Field((), description="models to set beside the students")
