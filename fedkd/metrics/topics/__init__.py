"""Measures of topic models: coherence, diversity, perplexity, and what the topics are good for."""

from fedkd.metrics.topics.coherence import C_V_WINDOW, NPMI_WINDOW, Coherence, c_v, npmi
from fedkd.metrics.topics.diversity import diversity, irbo, top_words
from fedkd.metrics.topics.quality import (
    AlignmentQuality,
    alignment_quality,
    downstream_accuracy,
    perplexity,
)
from fedkd.metrics.topics.windows import Compat, Cooccurrence, count_windows

__all__ = [
    "C_V_WINDOW",
    "NPMI_WINDOW",
    "AlignmentQuality",
    "Coherence",
    "Compat",
    "Cooccurrence",
    "alignment_quality",
    "c_v",
    "count_windows",
    "diversity",
    "downstream_accuracy",
    "irbo",
    "npmi",
    "perplexity",
    "top_words",
]
