"""The audit for people: a text for the terminal, a section of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined

from fedkd.metrics.intervals import interval
from fedkd.report.audit_plots import label_plot, membership_plot
from fedkd.report.folder import SeedResult, read_json
from fedkd.report.wording import interval_text, number

Audit = Mapping[str, Any]
_SECTION = """
<h2>What the releases give away</h2>
<p>Attacks on exactly what left the parties, measured after the run by <code>fedkd audit</code>
({{ seeds }}). They show what a curious server finds with the means of today; that an attack fails
is no guarantee.</p>
{% for note in notes %}<p class="note">{{ note }}</p>{% endfor %}
{% for line in broken %}<p class="lead">Broken promise: {{ line }}</p>{% endfor %}
{% if label_svg %}<figure><div class="scroll">{{ label_svg|safe }}</div>
<figcaption>Label-distribution inference: total variation between a party’s true label distribution
and the server’s guess, the mean released probability over the transfer set. Lower gives more
away. Grey: what a uniform guess and the best single guess for all parties reach without any
release; only what lies left of both was leaked.{{ spread }}</figcaption></figure>{% endif %}
{% if member_svg %}<figure><div class="scroll">{{ member_svg|safe }}</div>
<figcaption>Membership inference: chance that the attack ranks a private row above a held-out row of
the same label. The dotted line is chance. The suspects were asked by the harness after the
run, through the same mechanism as a release; these answers never crossed the wire.{{ spread }}
</figcaption></figure>{% endif %}
{% if rows %}<div class="scroll"><table><thead><tr><th></th><th class="text">Attack</th><th>AUC</th>
<th>TPR at 1 % FPR</th><th>TPR at 0.1 % FPR</th><th>n</th><th>ε at least</th><th>ε at most</th></tr>
</thead><tbody>{% for row in rows %}<tr><td>{{ row[0] }}</td><td class="text">{{ row[1] }}</td>
{% for cell in row[2:] %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</tbody></table></div>
<p class="note">{{ table_note }}</p>{% endif %}
{% if others %}<ul>{% for line in others %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}
"""
_TABLE_NOTE = (
    "In brackets 95 % intervals (AUC: Newcombe; TPR: Clopper–Pearson) of {which}. A level of FPR "
    "below 10/n is not shown. “ε at least” is the attack’s 95 % lower bound, “ε at most” what the "
    "party’s accountant promised; none means no formal guarantee."
)


def load_audits(results: Sequence[SeedResult]) -> list[Audit]:
    """Return the ``audit.json`` of every seed that has one."""
    found = [read_json(result.folder / "audit.json") for result in results]
    return [a for a in found if isinstance(a, dict) and "label_inference" in a]


def audit_section(results: Sequence[SeedResult]) -> str:
    """Return the section as HTML; nothing where no seed was audited."""
    audits = load_audits(results)
    if not audits:
        return ""
    first = audits[0]
    labels = [a["label_inference"] for a in audits if a["label_inference"]]
    members = [a["membership"] for a in audits if a.get("membership")]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    many = len(audits) > 1
    return environment.from_string(_SECTION).render(
        seeds=f"{len(audits)} of {len(results)} seeds" if many else f"seed {first['seed']}",
        notes=list(dict.fromkeys(note for a in audits for note in a["notes"])),
        broken=[line for a in audits for line in a["broken_promises"]],
        label_svg=label_plot(labels) if labels else "",
        member_svg=membership_plot(members) if members else "",
        rows=membership_rows(first),
        table_note=_TABLE_NOTE.format(which=f"seed {first['seed']}"),
        others=other_lines(audits),
        spread=" Pale dots are single seeds." if many else "",
    )


def audit_text(found: Audit) -> str:
    """Return one seed's audit as aligned plain text for the terminal."""
    parts = [f"seed {found['seed']}"]
    inferred = found["label_inference"]
    if inferred:
        keys = ("tv", "tv_inverted", "uniform_tv", "constant_tv", "kl", "uniform_kl")
        lines = [("label distribution", *keys)]
        lines += [(party, *(number(own[k]) for k in keys)) for party, own in inferred.items()]
        parts.append(_aligned(lines))
    rows = membership_rows(found)
    if rows:
        head = ("membership", "attack", "AUC", "TPR at 1%", "TPR at 0.1%", "n", "eps >=", "eps <=")
        parts.append(_aligned([head, *rows]))
    parts += [*other_lines([found]), *found["notes"]]
    return "\n".join((*parts, *(f"BROKEN PROMISE  {line}" for line in found["broken_promises"])))


def membership_rows(found: Audit) -> list[tuple[str, ...]]:
    """Return a row of cells for each party and attack of one seed, all parties together last."""
    pooled = found.get("membership_pooled") or {}
    parties = [*found.get("membership", {}).items(), *([("all parties", pooled)] if pooled else [])]
    return [
        (
            party,
            attack,
            f"{number(own['auc'])} [{number(own['low'])}, {number(own['high'])}]",
            _level(own, "1pct"),
            _level(own, "0.1pct"),
            str(own["n"]),
            number(own["epsilon_lower"]),
            _upper(own),
        )
        for party, attacks in parties
        for attack, own in attacks.items()
    ]


def other_lines(audits: Sequence[Audit]) -> list[str]:
    """Return a sentence for identification and one a party for embeddings."""
    lines = []
    for key, text in (
        ("linked", "Nameless releases linked to the party that made an earlier one"),
        ("by_label_counts", "Nameless releases matched to parties by their label counts"),
    ):
        values = [a["identification"][key] for a in audits if key in a.get("identification", {})]
        if values:
            chance = audits[0]["identification"]["chance"]
            lines.append(f"{text}: {interval_text(interval(values))} right; chance {chance:.3f}.")
    for party, own in audits[0].get("embeddings", {}).items():
        if own.get("n"):
            lines.append(
                f"Embeddings of {party}: the nearest row is private for "
                f"{own['nearest_is_private']:.3f} [{own['low']:.3f}, {own['high']:.3f}] of "
                f"{own['n']}; chance 0.5. Median distance {own['private_distance']:.3g} to private "
                f"rows, {own['control_distance']:.3g} to as many held-out ones."
            )
    return lines


def _level(own: Mapping[str, Any], name: str) -> str:
    value = own[f"tpr_at_{name}"]
    if value is None:
        return "–"
    ends = number(own[f"tpr_at_{name}_low"]), number(own[f"tpr_at_{name}_high"])
    return f"{number(value)} [{ends[0]}, {ends[1]}]"


def _upper(own: Mapping[str, Any]) -> str:
    if "epsilon_upper" not in own:
        return ""
    return "none" if own["epsilon_upper"] is None else number(own["epsilon_upper"])


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
