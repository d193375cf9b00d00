"""The folders that `fedkd deploy init` writes: whole, private, and nothing to guess."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fedkd.deploy import lifecycle
from fedkd.deploy.init import init_deployment
from fedkd.deploy.settings import flower_release, is_server, read_party, read_server
from fedkd.errors import DataError, DeployError, ScenarioError
from tests.deploy.conftest import PARTIES
from tests.system.small import small, write_scenario


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def test_private_keys_are_private_and_in_one_place(made: Path) -> None:
    secrets = [path for path in files(made) if b"PRIVATE KEY" in path.read_bytes()]
    executor = [path for path in files(made) if path.name == "executor.secret"]
    names = {path.relative_to(made).as_posix() for path in secrets}
    wanted = {"authority/ca.key", "server/server.key"}
    assert names == wanted | {f"parties/{name}/node.key" for name in PARTIES}
    assert len(executor) == 1 + len(PARTIES)
    secrets += executor
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
    assert len({path.read_bytes() for path in secrets}) == len(secrets)


def test_server_has_every_public_key(made: Path) -> None:
    for name in PARTIES:
        own = (made / "parties" / name / "node.pub").read_bytes()
        assert (made / "server" / "nodes" / f"{name}.pub").read_bytes() == own
    assert len(list((made / "server" / "nodes").iterdir())) == len(PARTIES)


def test_folders_can_be_moved(made: Path) -> None:
    for path in files(made):
        if path.name == "scenario.toml":
            continue
        text = path.read_text(encoding="utf-8")
        for line in text.splitlines():
            assert str(made) not in line
            assert not re.search(r"(?:^|[\s\"'=])/(?:home|root|tmp|work|opt|Users)/", line), path


def test_scripts_are_shell_and_guarded(made: Path) -> None:
    scripts = [path for path in files(made) if path.suffix == ".sh"]
    assert len(scripts) == 2 * (1 + len(PARTIES))
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
    server = (made / "server" / "superlink.sh").read_text()
    assert "--enable-supernode-auth" in server
    assert "--disable-runtime-dependency-installation" in server
    assert "--insecure" not in server
    assert server.index("cd work") < server.index("exec flower-superlink")
    for name in PARTIES:
        node = (made / "parties" / name / "supernode.sh").read_text()
        assert "--root-certificates" in node and "--auth-supernode-private-key" in node
        assert "--insecure" not in node.partition("exec flower-supernode")[2]
    quiet = (made / "server" / "environment.sh").read_text()
    for line in ("FLWR_TELEMETRY_ENABLED=0", "FLWR_DISABLE_UPDATE_CHECK=1"):
        assert f"export {line}\n" in quiet


def test_units_wait_until_the_server_has_marked_a_node_offline(made: Path) -> None:
    units = [path for path in files(made) if path.suffix == ".service"]
    assert len(units) == 1 + len(PARTIES)
    for unit in units:
        assert int(re.findall(r"RestartSec=(\d+)", unit.read_text())[0]) >= 70
    for compose in [path for path in files(made) if path.name == "compose.yaml"]:
        assert int(re.findall(r"sleep (\d+)", compose.read_text())[0]) >= 70


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_units_are_such_as_systemd_takes(made: Path, tmp_path: Path) -> None:
    units = [str(unit) for unit in made.rglob("*.service")]
    assert len(units) == 1 + len(PARTIES)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", *units],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0 and not checked.stderr.strip(), checked.stderr


def test_readme_names_every_step_and_folder(made: Path) -> None:
    text = (made / "README.md").read_text()
    for step in ("deploy check .", "deploy up .", "deploy status .", "deploy down .", "party.toml"):
        assert step in text
    assert "fedkd run scenario.toml --backend remote --server fedkd.example.org:8443" in text
    for folder in ("authority", "server", *(f"parties/{name}" for name in PARTIES)):
        assert f"`{folder}/`" in text
        assert (made / folder).is_dir()


def test_settings_are_read_back(made: Path) -> None:
    server = read_server(made / "server")
    assert (server.host, server.port, server.parties) == ("fedkd.example.org", 8443, PARTIES)
    ports = set()
    for name in PARTIES:
        party = read_party(made / "parties" / name)
        assert (party.name, party.server) == (name, "fedkd.example.org:8443")
        assert party.teacher.epochs == 4
        ports.add(party.port)
    assert len(ports) == len(PARTIES)
    assert is_server(made / "server") and not is_server(made / "parties" / "food")
    with pytest.raises(DeployError, match=r"server\.toml or party\.toml"):
        is_server(made)


def test_existing_folder_is_left_alone(scenario_file: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(DeployError, match="not exist yet"):
        init_deployment(tmp_path / "there", PARTIES, "localhost", 8443, scenario_file)
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"parties": ()}, "different names"),
        ({"parties": ("a", "A", "b", "c")}, "different names"),
        ({"parties": ("a", "../b", "c", "d")}, "letters, digits"),
        ({"host": "https://host"}, "host name or an address"),
        ({"host": "host; rm"}, "host name or an address"),
        ({"port": 0}, "lie in"),
    ],
)
def test_bad_arguments_leave_nothing(
    scenario_file: Path, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    given = {"parties": PARTIES, "host": "localhost", "port": 8443} | changed
    with pytest.raises(DeployError, match=told):
        init_deployment(tmp_path / "new", scenario_file=scenario_file, **given)
    assert not list(tmp_path.glob("*new*"))


def test_scenario_must_be_there_and_for_these_parties(scenario_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="be a file"):
        init_deployment(tmp_path / "new", PARTIES, "localhost", 8443, tmp_path / "none.toml")
    with pytest.raises(DataError, match=r"parties\.count=4"):
        init_deployment(tmp_path / "new", PARTIES[:3], "localhost", 8443, scenario_file)
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize(
    ("line", "told"),
    [("port = 0", "port"), ("servers = 'x'", "servers"), ("name = ", "TOML")],
)
def test_bad_settings_name_file_and_key(
    line: str, told: str, scenario_file: Path, tmp_path: Path
) -> None:
    init_deployment(tmp_path / "new", PARTIES, "::1", 8443, scenario_file)
    file = tmp_path / "new" / "parties" / "food" / "party.toml"
    assert read_party(file.parent).server == "[::1]:8443"
    key = line.split(" =", maxsplit=1)[0]
    kept = [one for one in file.read_text().splitlines() if not one.startswith(f"{key} =")]
    file.write_text("\n".join([line, *kept]))
    with pytest.raises(DeployError, match=told) as error:
        read_party(file.parent)
    assert "party.toml" in str(error.value)


@pytest.mark.parametrize("folder", ["server", "parties/food"])
def test_another_release_of_flower_is_told_before_anything_starts(
    folder: str, scenario_file: Path, tmp_path: Path
) -> None:
    init_deployment(tmp_path / "new", PARTIES, "localhost", 8443, scenario_file)
    home = tmp_path / "new" / folder
    file = home / ("server.toml" if folder == "server" else "party.toml")
    assert f'flower = "{flower_release()}"' in file.read_text()
    file.write_text(file.read_text().replace(f'flower = "{flower_release()}"', 'flower = "0.9"'))
    with pytest.raises(DeployError, match=r"release of Flower .* equal 0\.9.*pip install"):
        lifecycle.up(home, lambda line: None)
    assert not (home / "state").exists()


def test_one_file_of_each_scenario(made: Path, tmp_path: Path) -> None:
    again = write_scenario(tmp_path / "s.toml", small(made.parent / "runs"))
    for folder in (made / "server", *(made / "parties" / name for name in PARTIES)):
        assert (folder / "scenario.toml").read_bytes() == again.read_bytes()
