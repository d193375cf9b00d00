"""What is sent to a server: this code, no dependencies, nothing of the folder it was sent from."""

from __future__ import annotations

import io
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from fedkd.deploy.control import Control, Node
from fedkd.errors import DeployError, FedkdError, QuorumError
from fedkd.run.remote import assemble_app, require_nodes, run_remote
from tests.system.small import small


def test_app_builds_and_holds_code_only(tmp_path: Path) -> None:
    app = assemble_app(tmp_path / "fedkd-app")
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(app))) as bundle:
        names = set(bundle.namelist())
        project = tomllib.loads(bundle.read("pyproject.toml").decode())
    for name in ("clients/app.py", "server/app.py", "fedkd/scenario.py", "fedkd/run/wire.py"):
        assert name in names
    assert "fedkd/data/catalogue.toml" in names
    assert {Path(name).suffix for name in names if "/" in name} <= {".py", ".toml", ""}
    assert project["project"]["dependencies"] == []
    assert "federations" not in project["tool"]["flwr"]
    assert {"seed", "run-folder"} <= set(project["tool"]["flwr"]["app"]["config"])


class Nodes(Control):
    """A control interface with nodes of our choice."""

    def nodes(self) -> list[Node]:
        return [Node(1, "online"), Node(2, "offline"), Node(3, "registered")]


def test_too_few_nodes_are_told_before_anything_is_sent() -> None:
    require_nodes(Nodes({}), 1)
    with pytest.raises(QuorumError, match=r"nodes online=1.*quorum=2 \(3 are registered\)"):
        require_nodes(Nodes({}), 2)


def test_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FedkdError, match="be the authority's certificate"):
        run_remote(small(tmp_path), "localhost:1", tmp_path / "ca.crt")
    with pytest.raises(DeployError, match="read HOST:PORT"):
        run_remote(small(tmp_path), "localhost", tmp_path / "ca.crt")
