"""The section on topics shows what it was given, escaped, and says what is missing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from test_page import HOSTILE, Page

from fedkd.errors import DataError
from fedkd.report.topic_figures import (
    PartyTopics,
    TopicMeasure,
    TopicModelRow,
    TopicReport,
    topic_order,
)
from fedkd.report.topics import topic_page, topic_section

WORDS = (("cat", "dog", "owl"), ("rain", "snow", "sun"))


def make(parties: int = 2, seeds: int = 3) -> TopicReport:
    def row(name: str, kind, npmi: float) -> TopicModelRow:
        values = {
            "npmi": tuple(npmi + 0.001 * seed for seed in range(seeds)),
            "ppl": (1234.5,) * seeds,
            "parameters": (57500,) * seeds,
        }
        return TopicModelRow(name, kind, values)

    return TopicReport(
        seeds=tuple(range(seeds)),
        measures=(
            TopicMeasure("npmi", "NPMI"),
            TopicMeasure("ppl", "Perplexity", higher_is_better=False, decimals=1),
            TopicMeasure("parameters", "Parameters", higher_is_better=None, decimals=0),
        ),
        models=(
            row("teacher north", "teacher", -0.05),
            row("alone", "student", 0.01),
            row("distilled", "student", 0.06),
        ),
        student="distilled",
        shown_seed=0,
        words=WORDS,
        coherence=np.array([-0.1, 0.3]),
        parties=tuple(
            PartyTopics(
                f"party-{n}", (("rain", "fog", "mud"), ("cat", "pig", "hen"), ("a", "b", "c")),
                np.array([[0.1, 0.7, 0.0], [0.8, 0.0, 0.2]]), np.array([0.2, 0.1, np.nan]),
            )
            for n in range(parties)
        ),
        baseline="alone",
    )  # fmt: skip


def test_the_page_is_whole_and_loads_nothing() -> None:
    page = topic_page(make(), title="topics", lead="It works.", facts=[("Seeds", "3")])
    found = Page(page)
    assert [r for r in found.resources if not r.startswith(("#", "data:image/png"))] == []
    assert len(found.ids) == len(set(found.ids))
    assert page.count("<svg") == 2
    for text in ("distilled", "party-1", "1,234.5", "57,500", "It works."):
        assert text in found.text


def test_topics_stand_beside_their_best_match_most_coherent_first() -> None:
    section = topic_section(make())
    assert topic_order(make()).tolist() == [1, 0]
    assert section.index("rain snow sun") < section.index("cat dog owl")
    assert "<b>rain</b> fog mud" in section
    assert "<b>cat</b> pig hen" in section
    assert "topic 1, 0.80" in section
    assert "a b c" not in section


def test_differences_are_paired_and_coloured_by_the_better_end() -> None:
    section = topic_section(make())
    assert '<span class="paired good" title="lower on 0, higher on 3 of 3 seeds">' in section
    assert '<span class="paired bad" title="lower on 3, higher on 0 of 3 seeds">' in section
    worse = replace(make(), measures=(TopicMeasure("npmi", "NPMI", higher_is_better=False),))
    first, second = (topic_section(r).index('class="paired good"') for r in (make(), worse))
    assert first > second  # now it is the teacher, above the students, that is better
    assert "±" not in topic_section(make(seeds=1)).split("<h2>Topics</h2>")[0].split("<table>")[1]


def test_what_is_missing_is_a_dash_or_said() -> None:
    report = make(parties=0)
    bare = replace(
        report,
        models=(TopicModelRow("distilled", "student", {"npmi": (None, 0.1, None)}),),
        coherence=np.array([np.nan, math.nan]),
        baseline=None,
    )
    section = topic_section(bare)
    assert "The alignment is left out" in section
    assert section.count("<td>–</td>") == 2
    assert "nan" not in section.lower().replace("nano", "")
    assert section.count("<svg") == 1


def test_many_parties_are_cut_and_that_is_said() -> None:
    section = topic_section(make(parties=14))
    assert "The first 6 of 14 parties" in section
    assert "The first 12 of 14 parties" in section


def test_names_and_words_cannot_become_markup() -> None:
    report = make()
    hostile = replace(
        report,
        student=HOSTILE,
        words=((HOSTILE, "dog", "owl"), WORDS[1]),
        models=(TopicModelRow(HOSTILE, "student", {}),),
        parties=(replace(report.parties[0], name=HOSTILE),),
        notes=(HOSTILE,),
    )
    page = topic_page(hostile, title=HOSTILE, lead=HOSTILE, warnings=[HOSTILE])
    assert "script" not in Page(page).tags
    assert HOSTILE not in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coherence": np.zeros(3)}, r"coherence\.shape"),
        ({"words": (), "coherence": np.zeros(0)}, "with a topic"),
        ({"seeds": (0, 1)}, "one value a seed, 2"),
    ],
)
def test_a_report_that_does_not_fit_together_is_refused(change, words: str) -> None:
    with pytest.raises(DataError, match=words):
        topic_section(replace(make(), **change))
    party = replace(make().parties[0], likeness=np.zeros((2, 2)))
    with pytest.raises(DataError, match="likeness of party-0"):
        topic_section(replace(make(), parties=(party,)))
