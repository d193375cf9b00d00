"""Making a deployment: the authority, the server's folder and a folder for each party."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import tomli_w
from jinja2 import Environment, PackageLoader, StrictUndefined

from fedkd.deploy.certificates import (
    VALID_DAYS,
    make_authority,
    make_node_key,
    make_server_certificate,
    write_secret,
)
from fedkd.deploy.layout import SCENARIO_FILE, check_count
from fedkd.deploy.settings import (
    PARTY_FILE,
    PARTY_NAME,
    SERVER_FILE,
    flower_release,
    join_address,
)
from fedkd.errors import DeployError, expected
from fedkd.files import slug
from fedkd.privacy.policy import FILE as POLICY_FILE
from fedkd.run.checks import check_deployable, check_methods
from fedkd.scenario import Scenario
from fedkd.scenario_file import load_scenario

FIRST_NODE_PORT = 9094
_PRIVATE_FOLDER = 0o700
_ANSWERS = "label probabilities for\npublic texts"
_TOPIC_ANSWERS = "the words that\nmany of its documents hold, and with topics of public texts"


def init_deployment(
    folder: Path, parties: Sequence[str], host: str, port: int, scenario_file: Path
) -> None:
    """Write a whole deployment into ``folder``, which must not exist yet.

    ``host`` is the name or address by which the parties reach the server. Nothing is left behind
    where it fails. Raises a :class:`~fedkd.errors.FedkdError`.
    """
    _check(folder, parties, host, port)
    scenario = load_scenario(scenario_file)
    check_methods(scenario)
    check_deployable(scenario)
    check_count(scenario, tuple(parties))
    draft = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=_PRIVATE_FOLDER)
    try:
        _write_all(draft, parties, (host, port), scenario, scenario_file)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _check(folder: Path, parties: Sequence[str], host: str, port: int) -> None:
    if folder.exists():
        raise DeployError(
            expected("DIR", str(folder), "not exist yet", "another name; keys are never replaced")
        )
    if not parties or len({name.lower() for name in parties}) != len(parties):
        raise DeployError(expected("--parties", list(parties), "be different names", "a,b,c"))
    for name in parties:
        if not re.fullmatch(PARTY_NAME, name):
            raise DeployError(
                expected(
                    "--parties", name, "be letters, digits and -_.+", "a name such as clinic-1"
                )
            )
    if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", host):
        raise DeployError(
            expected("--server", host, "be a host name or an address", "fedkd.example.org; --port")
        )
    if not 0 < port < 65536:
        raise DeployError(expected("--port", port, "lie in 1..65535", "8443"))


def _write_all(
    root: Path,
    parties: Sequence[str],
    server: tuple[str, int],
    scenario: Scenario,
    scenario_file: Path,
) -> None:
    address = join_address(*server)
    for name in ("authority", "server/nodes", "server/image", "parties"):
        (root / name).mkdir(parents=True, mode=_PRIVATE_FOLDER)
    authority = make_authority(root / "authority")
    _write_server(root, server, parties)
    make_server_certificate(root / "server", authority, [server[0]])
    for index, name in enumerate(parties):
        home = root / "parties" / name
        (home / "image").mkdir(parents=True, mode=_PRIVATE_FOLDER)
        public = make_node_key(home / "node.key", name)
        for folder in (home / "node.pub", root / "server" / "nodes" / f"{name}.pub"):
            folder.write_bytes(public)
        facts = {
            "name": name,
            "unit": slug(name),
            "server": address,
            "port": FIRST_NODE_PORT + index,
            "flower": flower_release(),
            "topics": scenario.topics is not None,
            "model": _model_table(scenario, index, name),
        }
        _render(home / PARTY_FILE, "party.toml", facts)
        _render(home / POLICY_FILE, "policy.toml", facts)
        _render(home / "supernode.sh", "supernode.sh", facts)
        _render(home / "README.md", "party_README.md", facts)
        _write_units(home, name, f"party {name}", "supernode.sh", None)
    for home in (root / "server", *(root / "parties" / name for name in parties)):
        shutil.copyfile(scenario_file, home / SCENARIO_FILE)
        shutil.copyfile(root / "authority" / "ca.crt", home / "ca.crt")
        _render(home / "environment.sh", "environment.sh", {})
        write_secret(home / "executor.secret", secrets.token_hex(32).encode())
    expires = datetime.now(UTC) + timedelta(days=VALID_DAYS)
    facts = {
        "parties": list(parties),
        "address": address,
        "port": server[1],
        "version": metadata.version("fedkd"),
        "answers": _ANSWERS if scenario.topics is None else _TOPIC_ANSWERS,
        "expires": expires.date().isoformat(),
    }
    _render(root / "README.md", "README.md", facts)


def _model_table(scenario: Scenario, index: int, name: str) -> str:
    """Return the table of ``party.toml`` with the model that the scenario gives this party."""
    topics, table = scenario.topics, "teacher" if scenario.topics is None else "topics"
    teacher = scenario.teacher if topics is None else topics.teacher
    values = teacher.for_party(index, name).model_dump(exclude_none=True)
    return tomli_w.dumps({table: values}).strip()


def _write_server(root: Path, server: tuple[str, int], parties: Sequence[str]) -> None:
    home, (host, port) = root / "server", server
    facts = {"host": host, "port": port, "parties": json.dumps(list(parties))}
    facts |= {"flower": flower_release()}
    _render(home / SERVER_FILE, "server.toml", facts)
    _render(home / "superlink.sh", "superlink.sh", facts)
    _write_units(home, "server", "server", "superlink.sh", port)


def _write_units(home: Path, folder: str, title: str, script: str, published: int | None) -> None:
    unit = slug(folder)
    facts = {"folder": folder, "title": title, "script": script, "published": published}
    facts |= {"unit": unit}
    _render(home / f"fedkd-{unit}.service", "fedkd.service", facts)
    _render(home / "compose.yaml", "compose.yaml", facts)


def _render(path: Path, template: str, facts: Mapping[str, object]) -> None:
    environment = Environment(
        loader=PackageLoader("fedkd.deploy"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    path.write_text(environment.get_template(template).render(facts), encoding="utf-8")
    if path.suffix == ".sh":
        path.chmod(0o755)
