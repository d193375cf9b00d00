"""The plan of ``fedkd check`` on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from fedkd.privacy.wording import guarantee, not_claimed
from fedkd.run.plan import Plan
from fedkd.scenario import Scenario

UNBROKEN = 10_000


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Print parties, releases, methods and warnings of a plan."""
    console = console or Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = UNBROKEN
    scenario = plan.scenario
    facts = plan.federation
    labels = facts["labels"]
    seeds = ", ".join(str(seed) for seed in scenario.seeds)
    console.print(f"[bold]{scenario.name}[/bold]  seeds {seeds}  ({scenario.config_hash})")
    console.print(f"results    {scenario.folder()}")
    console.print(f"engine     {scenario.run.backend}: {plan.placement.text}")
    console.print(f"labels     {', '.join(labels)}  (ground cost: {scenario.labels.geometry})")
    console.print(
        f"transfer   {facts['transfer_rows']} rows, public, unlabelled; test {plan.test_rows} rows"
    )
    console.print(_parties(plan))
    total = plan.answer_bytes + plan.evaluation_bytes + plan.bias_bytes + plan.further_bytes
    console.print(
        f"Each party sends {_bytes(plan.answer_bytes)} for the transfer set, "
        f"{_bytes(plan.evaluation_bytes)} for the public test set"
        + (f", {_bytes(plan.bias_bytes)} as bias vector" if plan.bias_bytes else "")
        + (
            f", at most {_bytes(plan.further_bytes)} of subclasses, scores, Grams or embeddings"
            if plan.further_bytes
            else ""
        )
        + f": {_bytes(total)} in all ({_form(scenario)}), and figures of a few bytes."
    )
    if scenario.privacy is not None and scenario.privacy.secure_sum:
        console.print(
            "Answers are masked: the server can open their weighted sum over the parties,"
        )
        console.print("and no answer of one party, unless most of the parties collude with it.")
    console.print("Nothing else leaves: no text, no weights, no value of a private row.")
    _print_privacy(plan, console)
    for key, gets in plan.methods:
        console.print(f"method     {key}: {gets}")
    for warning in plan.warnings:
        console.print(f"[yellow]warning[/yellow]    {warning}")


def _form(scenario: Scenario) -> str:
    masked = scenario.privacy is not None and scenario.privacy.secure_sum
    return "masked, 4 bytes a number" if masked else scenario.release.encoding


def _print_privacy(plan: Plan, console: Console) -> None:
    """Say what is guaranteed to whom, and what is not claimed."""
    for names, terms in plan.policies:
        console.print(f"privacy    {names}: {guarantee(terms)}")
    for line in not_claimed(plan.scenario.privacy):
        console.print(f"not claimed  {line}")


def _parties(plan: Plan) -> Table:
    labels = plan.federation["labels"]
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("party", "teacher", "rows", "test"):
        table.add_column(heading, justify="right" if heading in ("rows", "test") else "left")
    shown = labels if len(labels) <= 8 else []
    for label in shown:
        table.add_column(label, justify="right", no_wrap=True)
    if not shown:
        table.add_column("labels present", justify="right")
    for name, party in plan.federation["parties"].items():
        counts = party["label_counts"]
        present = f"{sum(count > 0 for count in counts)} of {len(labels)}"
        cells = [str(count) for count in counts] if shown else [present]
        table.add_row(name, party["teacher"], str(party["rows"]), str(party["test_rows"]), *cells)
    return table


def _bytes(count: int) -> str:
    for unit, size in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
