"""``fedkd deploy``: the command line of real machines, with nothing heavy before it is needed."""

# ruff: noqa: PLC0415
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Real machines: keys, folders for operators, start and stop.")
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="folder of the server or of a party")]
_NOT_RUNNING = 3


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="new folder")],
    parties: Annotated[str, typer.Option(help="names of the parties, such as a,b,c")],
    server: Annotated[str, typer.Option(help="host by which the parties reach the server")],
    scenario: Annotated[Path, typer.Option(help="scenario that all agree on")],
    port: Annotated[int, typer.Option(help="port of the server")] = 8443,
) -> None:
    """Make keys, certificates and a folder for the server and for each party."""
    from fedkd.deploy.init import init_deployment

    names = [name.strip() for name in parties.split(",") if name.strip()]
    init_deployment(folder, names, server, port, scenario)
    typer.echo(f"made {folder}; read {folder / 'README.md'}")


@app.command()
def check(folder: Folder) -> None:
    """Check a folder's settings and data and lay them out; start and send nothing."""
    from fedkd.deploy import lifecycle

    lifecycle.check(folder, typer.echo)


@app.command()
def up(folder: Folder) -> None:
    """Start the server or the party's node in the background."""
    from fedkd.deploy import lifecycle

    lifecycle.up(folder, typer.echo)


@app.command()
def status(folder: Folder) -> None:
    """Say what runs; exit code 3 where this folder's process or its server does not."""
    from fedkd.deploy import lifecycle

    if not lifecycle.status(folder, typer.echo):
        raise typer.Exit(_NOT_RUNNING)


@app.command()
def down(folder: Folder) -> None:
    """Stop what `up` has started, with all its children."""
    from fedkd.deploy import lifecycle

    lifecycle.down(folder, typer.echo)
