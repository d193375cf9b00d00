"""Text without content, for asking a teacher what it says when there is nothing to say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedkd.seeds import numpy_generator


def random_inputs(texts: Sequence[str], count: int, run_seed: int) -> list[str]:
    """Return ``count`` strings of words drawn uniformly from the public vocabulary.

    Each is as long, in words, as a transfer text drawn at random. Every party gets the same
    strings: the draw belongs to the run, not to the party.
    """
    words = np.array(sorted({word for text in texts for word in text.split()}), dtype=object)
    lengths = np.array([max(1, len(text.split())) for text in texts])
    generator = numpy_generator(run_seed, "", 0, "random inputs")
    sizes = generator.choice(lengths, size=count)
    drawn = words[generator.integers(0, len(words), size=int(sizes.sum()))]
    ends = np.cumsum(sizes)
    return [" ".join(drawn[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
