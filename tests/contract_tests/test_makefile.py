from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("size", ["small", "full"])
def test_poster_runs_a_search_for_every_space_there_is(size: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    command = ["make", "--silent", "-o", ".venv/runtime", f"BIN={tmp_path}", f"SIZE={size}"]
    printed = subprocess.run(
        [*command, "POSTER=out", "poster"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    *searches, drawing = [shlex.split(line) for line in printed.splitlines()]
    spaces = {flags[flags.index("--space") + 1] for flags in searches}
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("search_spaces/poster/*.yaml")}
    assert spaces == {name for name in files if name.endswith("_small.yaml") == (size == "small")}
    assert drawing == ["-m", "analysis.poster", "out"]


FAKE_PYTHON = """#!/bin/sh
case "$*" in
  *"config list") echo "$PIP_SETTINGS" ;;
  *) echo "Collecting by-pip>=1 (from here)"; echo "$*"; exit ${PIP_CODE:-0} ;;
esac
"""
FAKE_UV = "#!/bin/sh\necho 'Downloading by-uv (1.0MiB)'\n"


def _install(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Install with a pip and a uv that only say so."""
    for path, text in ((".venv/bin/python", FAKE_PYTHON), ("bin/uv", FAKE_UV)):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
        (folder / path).chmod(0o755)
    known = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    return subprocess.run(
        ["bash", ROOT / "install.sh", "python3", "."],
        cwd=folder,
        env={**known, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **settings},
        capture_output=True,
        text=True,
        check=False,
    )


LINKS = "global.find-links='/wheels'"


@pytest.mark.parametrize(
    ("settings", "installer"),
    [
        ({}, "uv"),
        ({"PIP_SETTINGS": "global.timeout='9'"}, "uv"),
        ({"PIP_SETTINGS": LINKS}, "pip"),
        ({"PIP_SETTINGS": LINKS, "UV_FIND_LINKS": "/wheels"}, "uv"),
    ],
)
def test_uv_installs_unless_only_pip_knows_the_packages(
    settings: dict[str, str], installer: str, tmp_path: Path
) -> None:
    done = _install(tmp_path, **settings)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].split() == [f"by-{installer}"]
    assert (installer == "pip") == ("uv does not know" in done.stdout)


def test_failed_installation_shows_its_output(tmp_path: Path) -> None:
    done = _install(tmp_path, PIP_SETTINGS=LINKS, PIP_CODE="3")
    assert done.returncode == 1
    assert "--constraint constraints.txt --editable ." in done.stderr
