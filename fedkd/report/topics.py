"""The report's section on topics, and a page of its own for a topic run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined

from fedkd.metrics.intervals import Interval, PairedDifference, interval, paired_difference
from fedkd.report.figures import Drawing
from fedkd.report.template import STYLE
from fedkd.report.topic_figures import (
    MOST_PANELS,
    PartyTopics,
    TopicMeasure,
    TopicModelRow,
    TopicReport,
    alignment_plot,
    check_report,
    coherence_plot,
    topic_order,
)
from fedkd.report.wording import MINUS

Values = dict[str, Any]
MOST_COMPARED = 6
_GROUPS = (("reference", "References"), ("teacher", "Parties’ own models"), ("student", "Students"))
_ARROWS = {True: "↑", False: "↓", None: ""}

TOPIC_STYLE = """
table.topics td { white-space: normal; text-align: left; min-width: 150px; font-size: 12.5px; }
table.topics td:first-child { min-width: 190px; font-size: 13.5px; }
table.topics th { text-align: left; } table.topics .own { color: var(--muted); }
table.topics .own b { color: var(--ink); font-weight: 600; }
"""

SECTION = """\
{% macro drawing(f) %}
{% if f.svg %}<figure><div class="scroll{{ ' wide' if f.wide }}">{{ f.svg|safe }}</div>
<figcaption>{{ f.caption }}</figcaption></figure>
{% else %}<p class="absent">{{ f.caption }}</p>{% endif %}
{% endmacro %}
<h2>Topic models</h2>
<p class="note">{{ table_note }}</p>
<div class="scroll"><table><thead><tr><th></th>
{% for m in measures %}<th>{{ m.title }}{% if m.arrow %}&nbsp;{{ m.arrow }}{% endif %}</th>
{% endfor %}</tr></thead><tbody>
{% for group in groups %}<tr class="group"><td colspan="{{ measures|length + 1 }}">
{{- group.title }}</td></tr>
{% for row in group.rows %}<tr class="{{ row.kind }}"><td>{{ row.name }}</td>
{% for cell in row.cells %}<td>{{ cell.value }}{% if cell.paired %}
<span class="paired {{ cell.verdict }}" title="{{ cell.detail }}">{{ cell.paired }}</span>
{%- endif %}</td>{% endfor %}</tr>
{% endfor %}{% endfor %}</tbody></table></div>
{% for note in notes %}<p class="note">{{ note }}</p>{% endfor %}

<h2>Topics</h2>
<p class="note">{{ topics_note }}</p>
<div class="scroll"><table class="topics"><thead><tr><th>{{ student }}</th>
{% for name in parties %}<th>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for topic in topics %}<tr><td>{{ topic.words }}
<span class="paired">{{ topic.coherence }}</span></td>
{% for match in topic.matches %}<td class="own">{% for word in match.words %}
{% if word.shared %}<b>{{ word.text }}</b>{% else %}{{ word.text }}{% endif %}{{ " " }}
{%- endfor %}<span class="paired">{{ match.likeness }}</span></td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{{ drawing(coherence) }}
{{ drawing(alignment) }}
"""

PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ style|safe }}</style></head><body><main>
<p class="kicker">fedkd report</p><h1>{{ title }}</h1>
<p class="lead">{{ lead }}</p>
<dl class="facts">{% for name, value in facts %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}</dl>
{% if warnings %}<h2>Warnings</h2><ul class="warnings">
{% for warning in warnings %}<li>{{ warning }}</li>{% endfor %}</ul>{% endif %}
{{ section|safe }}
{% if scenario_text %}<h2>How this came about</h2><h3>Scenario</h3>
<pre>{{ scenario_text }}</pre>{% endif %}
</main></body></html>
"""


def topic_section(report: TopicReport) -> str:
    """Return the section's HTML: table of measures, topics side by side, and two drawings.

    It stands inside a page that has the report's style and :data:`TOPIC_STYLE`. All text is
    escaped. Raises :class:`~fedkd.errors.DataError` where the report does not fit together.
    """
    check_report(report)
    shown = report.parties[:MOST_COMPARED]
    return _render(
        SECTION,
        table_note=_table_note(report),
        measures=[
            {"title": m.title, "arrow": _ARROWS[m.higher_is_better]} for m in report.measures
        ],
        groups=_groups(report),
        notes=report.notes,
        topics_note=_topics_note(report, shown),
        student=report.student,
        parties=[party.name for party in shown],
        topics=[_topic(report, int(topic), shown) for topic in topic_order(report)],
        coherence=_coherence(report),
        alignment=_alignment(report),
    )


def topic_page(
    report: TopicReport,
    *,
    title: str,
    lead: str,
    facts: Sequence[tuple[str, str]] = (),
    warnings: Sequence[str] = (),
    scenario_text: str | None = None,
) -> str:
    """Return a whole HTML file about a topic run that needs nothing but itself."""
    return _render(
        PAGE,
        style=STYLE + TOPIC_STYLE,
        title=title,
        lead=lead,
        facts=list(facts),
        warnings=list(warnings),
        section=topic_section(report),
        scenario_text=scenario_text,
    ).lstrip()


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(**values)


def _table_note(report: TopicReport) -> str:
    if len(report.seeds) == 1:
        spread = "One seed, so figures have no interval and differences may be chance."
    else:
        spread = (
            f"Mean ± half width of the 95 % Student-t interval over {len(report.seeds)} seeds, "
            "not corrected for the number of comparisons."
        )
    if report.baseline is None:
        return spread
    return (
        f"{spread} The second line is the difference from {report.baseline}, paired by seed, bold "
        "and coloured where its interval excludes zero (green is better)."
    )


def _groups(report: TopicReport) -> list[Values]:
    base = next((model for model in report.models if model.name == report.baseline), None)
    return [
        {"title": title, "rows": [_row(model, base, report.measures) for model in rows]}
        for kind, title in _GROUPS
        if (rows := [model for model in report.models if model.kind == kind])
    ]


def _row(
    model: TopicModelRow, base: TopicModelRow | None, measures: Sequence[TopicMeasure]
) -> Values:
    return {
        "name": model.name,
        "kind": "baseline" if model is base else "",
        "cells": [_cell(model, None if model is base else base, measure) for measure in measures],
    }


def _cell(model: TopicModelRow, base: TopicModelRow | None, measure: TopicMeasure) -> Values:
    values = model.values.get(measure.key, ())
    known = [value for value in values if value is not None]
    cell = {
        "value": _text(interval(known), measure) if known else "–",
        "paired": "",
        "verdict": "",
        "detail": "",
    }
    theirs = base.values.get(measure.key, ()) if base else ()
    pairs = [
        (own, other)
        for own, other in zip(values, theirs, strict=False)
        if own is not None and other is not None
    ]
    if not pairs or measure.higher_is_better is None:
        return cell
    difference = paired_difference([own for own, _ in pairs], [other for _, other in pairs])
    return cell | {
        "paired": _text(difference.interval, measure, signed=True),
        "verdict": _verdict(difference, measure),
        "detail": f"lower on {difference.lower}, higher on {difference.higher} "
        f"of {len(pairs)} seeds",
    }


def _verdict(difference: PairedDifference, measure: TopicMeasure) -> str:
    if not difference.excludes_zero:
        return ""
    return "good" if (difference.interval.mean > 0) == measure.higher_is_better else "bad"


def _text(found: Interval, measure: TopicMeasure, *, signed: bool = False) -> str:
    mean = _number(found.mean, measure.decimals, signed=signed)
    if not found.half_width:
        return mean
    return f"{mean} ± {_number(found.half_width, measure.decimals)}"


def _number(value: float, decimals: int, *, signed: bool = False) -> str:
    if math.isnan(value):
        return "–"
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = f"{0:.{decimals}f}"
    return text.replace("-", MINUS)


def _topics_note(report: TopicReport, shown: Sequence[PartyTopics]) -> str:
    note = (
        f"Top words of every topic of {report.student} (seed {report.shown_seed}), most coherent "
        f"first, with its {report.coherence_name}."
    )
    if not shown:
        return note
    cut = f" The first {len(shown)} of {len(report.parties)} parties." * (
        len(shown) < len(report.parties)
    )
    return (
        f"{note} Beside it each party’s topic that is most like it, words in common in bold, with "
        f"their likeness ({report.likeness}).{cut}"
    )


def _topic(report: TopicReport, topic: int, shown: Sequence[PartyTopics]) -> Values:
    own = set(report.words[topic])
    matches = []
    for party in shown:
        best = int(party.likeness[topic].argmax())
        words = [{"text": word, "shared": word in own} for word in party.words[best]]
        likeness = _number(float(party.likeness[topic, best]), 2)
        matches.append({"words": words, "likeness": f"topic {best + 1}, {likeness}"})
    coherence = _number(float(report.coherence[topic]), 3)
    return {
        "words": " ".join(report.words[topic]),
        "coherence": f"topic {topic + 1}, {coherence}",
        "matches": matches,
    }


def _coherence(report: TopicReport) -> Drawing:
    dots = any(party.coherence is not None for party in report.parties)
    beside = " Dots: the parties’ most alike topics." if dots else ""
    return Drawing(
        f"{report.coherence_name} of every topic of {report.student}, seed {report.shown_seed}; "
        f"the dotted line is their mean.{beside}",
        coherence_plot(report),
    )


def _alignment(report: TopicReport) -> Drawing:
    if not report.parties:
        return Drawing("The alignment is left out: the run has no parties’ topics to show.")
    cut = (
        f" The first {MOST_PANELS} of {len(report.parties)} parties."
        if len(report.parties) > MOST_PANELS
        else ""
    )
    return Drawing(
        f"How alike the topics of {report.student} (down) and of each party (across) are: "
        f"{report.likeness}. Parties’ topics are ordered by the topic that they are most like, so "
        "that topics which correspond lie on a diagonal; dots mark the best match of each row."
        f"{cut}",
        alignment_plot(report),
    )
