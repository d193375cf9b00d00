"""Coherence of 100 topics on 20newsgroups beside gensim's CoherenceModel, one process and thread.

    FEDKD_DATA=… python -m benchmarks.coherence --json benchmarks/results/coherence.json

Both read the same texts and the same top ten words of topics that LDA found. Our first call cuts
the texts, counts every pair of words of the vocabulary and measures; later calls measure other
topics from the same counts. gensim gets the texts cut and its Dictionary made beforehand, off the
clock; a call is a new CoherenceModel, as evaluation tools make one for every set of topics, and
"kept" is a further call of one object for the same topics, which has its counts already. CPU
milliseconds; the two take turns and a figure is the least of its repeats, the first call measured
in a fresh process each time. "compiling" is what the first call on a machine costs more.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
from gensim.corpora import Dictionary  # noqa: E402
from gensim.models import CoherenceModel  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from benchmarks.problems import machine, report, timed  # noqa: E402
from fedkd.data.bags import load_topics  # noqa: E402
from fedkd.metrics.topics import c_v, count_windows, npmi, top_words  # noqa: E402
from fedkd.models.lda import fit_lda  # noqa: E402

MEASURES: dict[str, tuple[Any, int]] = {"c_npmi": (npmi, 10), "c_v": (c_v, 110)}
PACKAGES = ("gensim", "tomotopy")
Topics = NDArray[np.int64]


def first_call(source: str, measure: str, topics: Topics) -> float:
    """Return the CPU milliseconds of the first call in this process, cutting the texts included."""
    corpus = load_topics(source)
    own, window = MEASURES[measure]
    return timed(lambda: own(count_windows(corpus.texts, corpus.vocabulary, window), topics))


def alone(function: Callable[..., float], *values: Any, cache: str | None = None) -> float:
    """Return what the function returns in a process of its own; ``cache`` holds machine code."""
    if cache is not None:
        os.environ["NUMBA_CACHE_DIR"] = cache
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *values).result()
    finally:
        if cache is not None:
            del os.environ["NUMBA_CACHE_DIR"]


def row(source: str, measure: str, topics: Topics, repeats: int) -> dict[str, Any]:
    """Return one line of the table."""
    corpus = load_topics(source)
    own, window = MEASURES[measure]
    tokens = [text.split() for text in corpus.texts]
    dictionary = Dictionary(tokens)
    words = [[corpus.vocabulary[word] for word in topic] for topic in topics]

    def fresh() -> CoherenceModel:
        return CoherenceModel(
            topics=words, texts=tokens, dictionary=dictionary, coherence=measure, processes=1
        )

    counted = count_windows(corpus.texts, corpus.vocabulary, window)
    turned = [np.random.default_rng(turn).permutation(topics) for turn in range(repeats)]
    first, second, gensim, kept, error = [], [], [], [], 0.0
    for turn in range(repeats):
        first.append(alone(first_call, source, measure, topics))
        many = [timed(lambda t=turned[turn]: own(counted, t)) for _ in range(20)]
        second.append(float(np.median(many)))
        model = fresh()
        gensim.append(timed(model.get_coherence_per_topic))
        kept.append(timed(model.get_coherence_per_topic))
        theirs = np.array(model.get_coherence_per_topic())
        error = max(error, float(np.abs(own(counted, topics).per_topic - theirs).max()))
    with tempfile.TemporaryDirectory() as cache:
        compiled = alone(first_call, source, measure, topics, cache=cache)
    return {
        "measure": measure,
        "topics": len(topics),
        "gensim_ms": min(gensim),
        "gensim_kept_ms": min(kept),
        "first_call_ms": min(first),
        "compiling_ms": compiled - min(first),
        "second_call_ms": min(second),
        "first_call_x": min(gensim) / min(first),
        "second_call_x": min(gensim) / min(second),
        "second_call_x_of_kept": min(kept) / min(second),
        "largest_difference": error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="20newsgroups")
    parser.add_argument("--topics", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    given = parser.parse_args()
    begin = time.process_time()
    found = fit_lda(load_topics(given.source).bags, given.topics, seed=0, iterations=100)
    print(f"LDA: {time.process_time() - begin:.0f} CPU seconds\n")
    topics = top_words(found.topics)
    rows = [row(given.source, name, topics, given.repeats) for name in MEASURES]
    report(rows, machine(PACKAGES), given.json)


if __name__ == "__main__":
    main()
