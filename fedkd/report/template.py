"""The page's template; a Python string, for Flower's app bundle carries no other file types."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1d2530; --muted: #67707d;
  --rule: #d5dae1; --card: #f4f5f7; --good: #1a7f4b; --bad: #b3392b; --link: #2f74b5; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ed; --muted: #98a2af;
  --rule: #333b46; --card: #1c2229; --good: #5cc78d; --bad: #f08476; --link: #7ab4ea; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 48px 32px 96px; }
h1, h2, .lead { font-family: Charter, "Iowan Old Style", "Palatino Linotype", Georgia,
  "Liberation Serif", serif; }
h1 { font-size: 34px; line-height: 1.15; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 23px; font-weight: 600; margin: 56px 0 6px; padding-top: 14px;
  border-top: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 28px 0 4px; }
p { margin: 6px 0 12px; max-width: 74ch; }
.kicker { color: var(--muted); font-size: 14px; margin: 0 0 6px; }
.lead { font-size: 21px; line-height: 1.45; margin: 22px 0 0; max-width: 66ch;
  overflow-wrap: anywhere; }
.lead + .lead { font-size: 17.5px; margin-top: 10px; max-width: 74ch; }
.note { color: var(--muted); font-size: 14px; line-height: 1.5; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 28px; margin: 26px 0 0; padding: 14px 0 0;
  border-top: 1px solid var(--rule); font-size: 14px; }
.facts dt { color: var(--muted); } .facts dd { margin: 0; font-weight: 600; }
.scroll { overflow-x: auto; margin: 14px 0; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; line-height: 1.4;
  font-variant-numeric: tabular-nums lining-nums; }
th { font-weight: 600; text-align: right; vertical-align: bottom; padding: 6px 10px;
  border-bottom: 1.5px solid var(--ink); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td { text-align: right; vertical-align: top; padding: 6px 10px; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 170px; }
td.text, th.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
tr.group td { padding-top: 18px; color: var(--muted); font-size: 12.5px; font-weight: 600;
  letter-spacing: .03em; }
tr.control td:first-child { padding-left: 18px; color: var(--muted); }
tr.baseline td:first-child { font-weight: 600; }
.tag { color: var(--muted); font-size: 12.5px; font-weight: 400; white-space: nowrap; }
.paired { display: block; color: var(--muted); font-size: 12px; }
.paired.good { color: var(--good); font-weight: 700; }
.paired.bad { color: var(--bad); font-weight: 700; }
figure { margin: 22px 0 0; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: inherit !important; }
figcaption { color: var(--muted); font-size: 14px; line-height: 1.5; max-width: 82ch;
  margin-top: 6px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 8px 40px;
  align-items: start; }
.absent { color: var(--muted); font-size: 14px; border-left: 3px solid var(--rule);
  padding: 2px 0 2px 12px; margin: 18px 0; }
.warnings { padding-left: 20px; } .warnings li { margin: 4px 0; overflow-wrap: anywhere; }
details { margin: 14px 0; } summary { cursor: pointer; font-size: 14px; color: var(--link); }
pre { background: var(--card); padding: 16px 18px; border-radius: 6px; overflow-x: auto;
  font: 12.5px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
code { font: .92em ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
@media (max-width: 700px) { main { padding: 28px 16px 64px; } .wide svg { min-width: 680px; } }
@media print { main { max-width: none; padding: 0; } details > * { display: block; } }
"""

PAGE = """\
{% macro drawing(f) %}
{% if f.svg %}<figure><div class="scroll{{ ' wide' if f.wide }}">{{ f.svg|safe }}</div>
<figcaption>{{ f.caption }}</figcaption></figure>
{% else %}<p class="absent">{{ f.caption }}</p>{% endif %}
{% endmacro %}
{% macro scores(groups) %}
<div class="scroll"><table><thead><tr><th></th>
{% for m in measures %}<th>{{ m.title }}&nbsp;{{ m.arrow }}</th>{% endfor %}</tr></thead><tbody>
{% for group in groups %}<tr class="group"><td colspan="{{ measures|length + 1 }}">
{{- group.title }}</td></tr>
{% for row in group.rows %}<tr class="{{ row.kind }}"><td>{{ row.name }}
{%- if row.tag %} <span class="tag">{{ row.tag }}</span>{% endif %}</td>
{% for cell in row.cells %}<td>{{ cell.value }}{% if cell.paired %}
<span class="paired {{ cell.verdict }}" title="{{ cell.detail }}">{{ cell.paired }}</span>
{%- endif %}</td>{% endfor %}</tr>
{% endfor %}{% endfor %}</tbody></table></div>
{% endmacro %}
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ style|safe }}</style></head><body><main>
<p class="kicker">fedkd report</p><h1>{{ title }}</h1>
<p class="lead">{{ headline[0] }}</p>
{% if headline|length > 1 %}<p class="lead">{{ headline[1:]|join(" ") }}</p>{% endif %}
<dl class="facts">{% for name, value in facts %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}</dl>

{% if warnings %}<h2>Warnings</h2><ul class="warnings">
{% for warning in warnings %}<li>{{ warning }}</li>{% endfor %}</ul>{% endif %}

<h2>Methods and references</h2>
<p class="note">{{ table_note }}</p>
{{ scores(groups) }}
{{ drawing(figures.comparison) }}
{% if more_teachers %}<details><summary>All {{ more_teachers.rows|length }} teachers</summary>
{{ scores([more_teachers]) }}</details>{% endif %}
{% if parties %}<details><summary>Each party’s own test rows</summary>
<p class="note">Mean over seeds, with the interval where there are several.</p>
{% for party in parties %}{{ scores([party]) }}{% endfor %}</details>
{% else %}<p class="note">The figures of each party are in summary.json.</p>{% endif %}

{% if controls %}<h2>Sharpness is not meaning</h2>
<p>Semantic Distance and W1 reward a student for being more confident, even where it has learnt
nothing about the labels. Each method below is therefore set beside a control, CE<sup>γ</sup>: a
cross-entropy student with its probabilities raised to a power γ and renormalised, so that its mean
entropy equals that of the method. It predicts the same labels as cross-entropy and knows nothing of
their geometry. Only what a method gains <em>beyond its control</em> can come from the
meaning of labels.</p>
<div class="scroll"><table><thead><tr><th></th>{% for m in control_measures %}
<th>{{ m.title }}&nbsp;{{ m.arrow }}</th>{% endfor %}</tr></thead><tbody>
{% for control in controls %}{% for row in control %}
<tr class="{{ row.kind }}"><td>{{ row.name }}</td>
{% for cell in row.cells %}<td>{% if cell.verdict %}<span class="paired {{ cell.verdict }}"
 title="{{ cell.detail }}">{{ cell.value }}</span>{% else %}{{ cell.value }}{% endif %}</td>
{% endfor %}</tr>{% endfor %}{% endfor %}</tbody></table></div>{% endif %}

<h2>Calibration</h2>{{ drawing(figures.reliability) }}
<h2>Confusions and what they cost</h2>{{ drawing(figures.confusion) }}

<h2>Labels and parties</h2>
{{ drawing(figures.partition) }}
<div class="pair">{{ drawing(figures.geometry) }}{{ drawing(figures.traffic) }}</div>
{% if party_rows %}<details{{ ' open' if party_rows|length <= 12 }}><summary>Parties</summary>
<div class="scroll"><table><thead><tr><th></th><th class="text">Teacher</th><th>Rows</th>
<th>Test rows</th><th>Sent</th><th>Received</th></tr></thead><tbody>
{% for p in party_rows %}<tr><td>{{ p.name }}</td><td class="text">{{ p.teacher }}</td>
<td>{{ p.rows }}</td><td>{{ p.test_rows }}</td><td>{{ p.up }}</td><td>{{ p.down }}</td></tr>
{% endfor %}</tbody></table></div></details>{% endif %}

{% if subclasses %}<h2>Subclasses</h2><p class="note">{{ subclasses.title }}.</p>
{{ drawing(subclasses.usage) }}{{ drawing(subclasses.plane) }}
{% if subclasses.examples %}<details><summary>Public texts furthest along each subclass</summary>
<div class="scroll"><table><thead><tr><th>Label</th><th>Subclass</th><th class="text">Transfer
texts</th></tr></thead><tbody>{% for label, number, texts in subclasses.examples %}
<tr><td>{{ label }}</td><td>{{ number }}</td><td class="text">{% for text in texts %}{{ text }}
{%- if not loop.last %}<br>{% endif %}{% endfor %}</td></tr>
{% endfor %}</tbody></table></div></details>{% endif %}{% endif %}

{{ audit|safe }}
<h2>Time</h2>{{ drawing(figures.seconds) }}

<h2>How this came about</h2>
{% if scenario_text %}<h3>Scenario</h3><pre>{{ scenario_text }}</pre>
{% else %}<p class="absent">The scenario text is left out: no seed folder has scenario.toml.</p>
{% endif %}
{% if environment %}<h3>Versions and machine</h3><div class="scroll"><table><tbody>
{% for name, value in environment %}<tr><td>{{ name }}</td><td class="text">{{ value }}</td></tr>
{% endfor %}</tbody></table></div>
{% else %}<p class="absent">Versions are left out: no seed folder has environment.json.</p>
{% endif %}
{% if hashes %}<details><summary>Fingerprints of intake and students</summary>
<div class="scroll"><table><thead><tr><th>Seed</th><th class="text">What</th>
<th class="text">sha256</th></tr></thead><tbody>{% for seed, name, value in hashes %}
<tr><td>{{ seed }}</td><td class="text">{{ name }}</td>
<td class="text"><code>{{ value }}</code></td></tr>{% endfor %}</tbody></table></div></details>
{% endif %}
</main></body></html>
"""
