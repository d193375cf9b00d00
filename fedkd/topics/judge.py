"""How good topics are, measured on one reference corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.metrics.topics.coherence import C_V_WINDOW, NPMI_WINDOW, c_v, npmi
from fedkd.metrics.topics.diversity import diversity, irbo
from fedkd.metrics.topics.quality import perplexity
from fedkd.metrics.topics.windows import Cooccurrence, count_windows
from fedkd.topics.asking import Prediction


@dataclass(frozen=True)
class TopicJudge:
    """The co-occurrences of a reference corpus, counted once."""

    vocabulary: tuple[str, ...]
    near: Cooccurrence
    far: Cooccurrence

    @classmethod
    def of(cls, texts: Sequence[str], vocabulary: Sequence[str]) -> TopicJudge:
        """Count the windows of NPMI and of C_V."""
        near, far = (count_windows(texts, vocabulary, w) for w in (NPMI_WINDOW, C_V_WINDOW))
        return cls(tuple(vocabulary), near, far)

    def measure(self, top: NDArray[np.int64]) -> dict[str, Any]:
        """Return coherence, diversity and the words of topics given as word numbers (K, 10)."""
        near = npmi(self.near, top)
        return {
            "npmi": near.mean,
            "c_v": c_v(self.far, top).mean,
            "diversity": diversity(top),
            "irbo": irbo(top),
            "npmi_by_topic": [None if np.isnan(v) else float(v) for v in near.per_topic],
            "topics": [[self.vocabulary[w] for w in row] for row in top],
        }


def perplexities(
    found: Prediction, owner: NDArray[np.int64], parties: Sequence[str]
) -> tuple[float, dict[str, float]]:
    """Return the perplexity of a word over all held-out documents, and over each party's own."""
    whole = perplexity(float(found.log_likelihood.sum()), float(found.words.sum()))
    own = {}
    for number, party in enumerate(parties):
        mine = owner == number
        if found.words[mine].sum():
            own[party] = perplexity(
                float(found.log_likelihood[mine].sum()), float(found.words[mine].sum())
            )
    return whole, own
