"""The command line: no logic of its own, and nothing heavy before it is needed."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from fedkd.deploy.commands import app as deploy_app
from fedkd.errors import FedkdError

app = typer.Typer(
    name="fedkd",
    help="One student distilled from many teachers that may not be shared.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(deploy_app, name="deploy", no_args_is_help=True)
ScenarioFile = Annotated[Path, typer.Argument(help="scenario file (TOML)", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="override a key, such as seeds=[0,1]"),
]


@app.command()
def run(
    file: ScenarioFile,
    *,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option(help="discard earlier results first")] = False,
    quiet: Annotated[bool, typer.Option(help="no progress, only the table")] = False,
    backend: Annotated[
        str | None, typer.Option(help="inline, ray or remote; the scenario's own when absent")
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="server (backend remote)")
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(envvar="FEDKD_CA", help="the authority's certificate (backend remote)"),
    ] = None,
) -> None:
    """Run a scenario: from private data to students, summary and report."""
    from fedkd.scenario_file import load_scenario

    extra = [] if backend is None else [f"run.backend={backend}"]
    scenario = load_scenario(file, [*(overrides or []), *extra])
    if scenario.run.backend == "remote":
        from fedkd.run.remote import run_remote, whereabouts

        if server is None or ca is None:
            raise FedkdError("Expected --server and --ca for backend 'remote'. Try --ca ca.crt.")
        submitted = run_remote(scenario, server, ca, note=_no_note if quiet else typer.echo)
        for line in whereabouts(submitted, server):
            typer.echo(line)
        return
    from fedkd.progress import silent
    from fedkd.report.folder import load_results
    from fedkd.report.frontier import frontier_lines, is_sweep
    from fedkd.report.summary import summarise
    from fedkd.report.table import print_table
    from fedkd.run.engine import run_scenario

    with silent() if quiet else nullcontext():
        finished = run_scenario(scenario, fresh=fresh, note=_no_note if quiet else typer.echo)
    if scenario.topics is not None:
        from fedkd.report.topic_run import print_topic_table

        print_topic_table(finished.folder)
    elif is_sweep(finished.folder):
        typer.echo("\n".join(frontier_lines(finished.folder)))
    else:
        print_table(summarise(load_results(finished.folder)))
    typer.echo(f"report   {finished.report}")
    for folder in finished.seeds:
        typer.echo(f"result   {folder.result}")


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="scenario file (TOML)")] = None,
    overrides: Overrides = None,
    schema: Annotated[bool, typer.Option("--schema", help="list every key and default")] = False,
) -> None:
    """Print what a scenario would do, without running it."""
    from fedkd.scenario_file import load_scenario

    if schema:
        from fedkd.run.schema_text import schema_text

        typer.echo(schema_text())
        return
    if file is None:
        raise FedkdError("Expected a scenario file. Try fedkd check scenarios/quickstart.toml")
    scenario = load_scenario(file, overrides or [])
    if scenario.topics is not None:
        from fedkd.run.topic_plan import topic_plan_lines

        typer.echo("\n".join(topic_plan_lines(scenario)))
        return
    from fedkd.run.plan import make_plan
    from fedkd.run.plan_text import print_plan

    print_plan(make_plan(scenario))


@app.command()
def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="run or student folder")],
    text: Annotated[list[str], typer.Argument(help="texts to label")],
    method: Annotated[str | None, typer.Option(help="method label; the first when absent")] = None,
) -> None:
    """Label texts with a student."""
    from fedkd.run.student import label_texts

    for line in label_texts(run_folder, text, method):
        typer.echo(line)


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a configuration")],
) -> None:
    """Write summary.json and report.html again and print the table."""
    from fedkd.report.folder import load_results
    from fedkd.report.frontier import frontier_lines, sweep_folder, write_frontier
    from fedkd.report.page import write_report
    from fedkd.report.summary import summarise, write_summary
    from fedkd.report.table import print_table
    from fedkd.report.topic_run import is_topic_run, print_topic_table, write_topic_report
    from fedkd.run.student import configuration_folder

    sweep = sweep_folder(run_folder)
    if sweep is not None:
        page = write_frontier(sweep)
        typer.echo("\n".join(frontier_lines(sweep)))
        typer.echo(f"report   {page}")
        return
    folder = configuration_folder(run_folder)
    if is_topic_run(folder):
        typer.echo(f"report   {write_topic_report(folder)}")
        print_topic_table(folder)
        return
    write_summary(folder)
    page = write_report(folder)
    print_table(summarise(load_results(folder)))
    typer.echo(f"report   {page}")


@app.command()
def audit(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="run, configuration or seed folder")
    ],
    suspects: Annotated[int, typer.Option(help="most members tried of each party")] = 2000,
) -> None:
    """Attack what a finished run released: who was a member, which labels does a party hold?"""
    from fedkd.progress import silent
    from fedkd.report.audit import audit_text
    from fedkd.report.page import write_report
    from fedkd.run.audit import audit_run, require_kept_promises

    with silent():
        audited = audit_run(run_folder, most=suspects, note=typer.echo)
    for folder, found in audited:
        typer.echo(audit_text(found))
        typer.echo(f"audit    {folder.root / 'audit.json'}")
    for configuration in dict.fromkeys(folder.root.parent for folder, _ in audited):
        typer.echo(f"report   {write_report(configuration)}")
    require_kept_promises(found for _, found in audited)


@app.command()
def ledger(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="run folder, or a party's own")],
    entries: Annotated[bool, typer.Option(help="print every entry, not only totals")] = False,
    party: Annotated[
        list[Path] | None, typer.Option(help="a party's ledger from another machine")
    ] = None,
) -> None:
    """Print what left each party and what it cost; fail where the two sides differ."""
    from fedkd.privacy.compare import check_agreement, compare_ledgers, print_ledger
    from fedkd.run.student import ledger_folders

    for folder in ledger_folders(run_folder):
        comparison = compare_ledgers(folder, party or ())
        typer.echo(f"{folder}")
        print_ledger(comparison, entries=entries)
        check_agreement(comparison)


def _no_note(line: str) -> None:
    """Keep a line to itself."""


def main() -> None:
    """Run the command line; a user's mistake is one message, not a traceback."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        app()
    except FedkdError as error:
        typer.secho(f"fedkd: {error}", err=True, fg=typer.colors.RED)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        typer.secho("fedkd: the disk is full. Try the same command with more room", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("fedkd: stopped; the same command goes on from here", err=True)
        sys.exit(130)
