"""Everything a fresh machine needs, in two commands; only Python and git are presumed.

python3 dev.py quickstart   make the environment if it is missing, then run the main job
python3 dev.py test         make the environment if it is missing, then lint, type-check and test

FEDKD_VENV names another folder for the environment (default .venv).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = Path(os.environ.get("FEDKD_VENV", ROOT / ".venv"))
SCRIPTS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
PYTHON = SCRIPTS / ("python.exe" if os.name == "nt" else "python")
STEPS = {
    "quickstart": [["fedkd", "run", "scenarios/quickstart.toml"]],
    "test": [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["pytest", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"],
    ],
}


def main(arguments: list[str]) -> int:
    """Carry out one of the two commands, passing further arguments to its last step."""
    if not arguments or arguments[0] not in STEPS:
        print(__doc__)
        return 2
    if sys.version_info < (3, 11):
        print(f"Expected Python >= 3.11, this is {sys.version.split()[0]}. Try python3.11 dev.py …")
        return 2
    prepare()
    *first, last = STEPS[arguments[0]]
    for step in [*first, [*last, *arguments[1:]]]:
        print("+", " ".join(step), flush=True)
        code = subprocess.call([SCRIPTS / step[0], *step[1:]], cwd=ROOT)
        if code:
            return code
    return 0


def prepare() -> None:
    """Make the environment, or bring it up to date where its ingredients have changed."""
    files = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = ENVIRONMENT / "fedkd-installed"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"Making the environment in {ENVIRONMENT} (a minute or two)", flush=True)
    if not PYTHON.is_file():
        venv.create(ENVIRONMENT, with_pip=True)
    install = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    install += ["-c", ROOT / "constraints.txt"]
    # Alone and first: a pinned torch that is installed already is never traded for a GPU build.
    subprocess.check_call([*install, "torch"])
    subprocess.check_call([*install, "-e", f"{ROOT}[test]"])
    stamp.write_text(wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
