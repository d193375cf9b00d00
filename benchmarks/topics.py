"""Training speed of topic models beside contextualized-topic-models, one process and thread.

    FEDKD_DATA=… python -m benchmarks.topics --json benchmarks/results/topics.json

Both train the same architecture on the same bags and vectors in batches of 64, with Adam; the two
take turns and a figure is the median of its repeats, in documents per CPU-second. The peer gets
its dataset made beforehand, a sparse matrix as its own tools make it or the dense one, and its
progress bar is silenced. "collapsed" is the same CombinedTM with its two linear layers in a row
made one, which the peer does not have; it is set beside the peer's CombinedTM.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import contextualized_topic_models.models.ctm as peer  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from contextualized_topic_models.datasets.dataset import CTMDataset  # noqa: E402
from scipy.sparse import csr_matrix  # noqa: E402

from benchmarks.problems import machine, report  # noqa: E402
from fedkd.data.bags import TopicCorpus, load_topics  # noqa: E402
from fedkd.models.topic_network import TopicShape, build_network  # noqa: E402
from fedkd.models.topic_training import Documents, TopicTraining, fit_topics  # noqa: E402
from fedkd.progress import silent  # noqa: E402

WIDTH, TOPICS, HIDDEN, BATCH = 384, 20, (100, 100), 64
PACKAGES = ("contextualized-topic-models",)


class _Silence:
    """Stands in for the peer's progress bar."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def update(self, *_: Any) -> None: ...
    def set_description(self, *_: Any) -> None: ...
    def close(self) -> None: ...


def ours(corpus: TopicCorpus, vectors: np.ndarray[Any, Any], kind: str, epochs: int) -> float:
    """Return documents per CPU-second."""
    inputs = "zero-shot" if kind == "ZeroShotTM" else "combined"
    shape = TopicShape(
        inputs, len(corpus.vocabulary), TOPICS, WIDTH, HIDDEN, adapt=kind == "CombinedTM"
    )
    network, documents = build_network(shape, 0), Documents(corpus.bags, vectors)
    begin = time.process_time()
    fit_topics(network, documents, TopicTraining(epochs, BATCH), seed=0)
    return _rate(corpus, epochs, begin)


def theirs(corpus: TopicCorpus, vectors: np.ndarray[Any, Any], kind: str, *, dense: bool) -> float:
    """Return documents per CPU-second of one epoch."""
    made = peer.ZeroShotTM if kind == "ZeroShotTM" else peer.CombinedTM
    model = made(
        bow_size=len(corpus.vocabulary), contextual_size=WIDTH, n_components=TOPICS,
        hidden_sizes=HIDDEN, batch_size=BATCH, num_epochs=1, num_data_loader_workers=0,
    )  # fmt: skip
    bags = corpus.bags.toarray() if dense else csr_matrix(corpus.bags)
    words = dict(enumerate(corpus.vocabulary))
    data = CTMDataset(X_contextual=vectors.astype(np.float32), X_bow=bags, idx2token=words)
    begin = time.process_time()
    model.fit(data, do_train_predictions=False)
    return _rate(corpus, 1, begin)


def row(corpus: TopicCorpus, kind: str, repeats: int) -> dict[str, Any]:
    vectors = np.random.default_rng(0).standard_normal((len(corpus), WIDTH))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    ours(corpus, vectors, kind, 1)
    own, sparse, dense = [], [], []
    for _ in range(repeats):
        sparse.append(theirs(corpus, vectors, kind, dense=False))
        own.append(ours(corpus, vectors, kind, 2))
        dense.append(theirs(corpus, vectors, kind, dense=True))
    pairs = zip(own, sparse, dense, strict=True)
    ratios = [(a / b, a / c) for a, b, c in pairs]
    return {
        "model": kind,
        "peer_sparse_docs_per_s": statistics.median(sparse),
        "peer_dense_docs_per_s": statistics.median(dense),
        "ours_docs_per_s": statistics.median(own),
        "times_sparse": statistics.median(a for a, _ in ratios),
        "times_dense": statistics.median(b for _, b in ratios),
        "smallest_times_sparse": min(a for a, _ in ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="m10")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    given = parser.parse_args()
    torch.set_num_threads(1)
    peer.tqdm = _Silence
    corpus = load_topics(given.source)
    with silent():
        kinds = ("CombinedTM", "collapsed", "ZeroShotTM")
        rows = [row(corpus, kind, given.repeats) for kind in kinds]
    report(rows, machine(PACKAGES), given.json)


def _rate(corpus: TopicCorpus, epochs: int, begin: float) -> float:
    return epochs * (len(corpus) // BATCH * BATCH) / (time.process_time() - begin)


if __name__ == "__main__":
    main()
