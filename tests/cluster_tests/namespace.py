"""A throw-away namespace for programs that start and stop whole clusters.

``ray stop`` ends every Ray process that it can see, and ``ray up`` writes into the home folder. In
a namespace of its own a test sees its own processes only, has a network without a way out and two
addresses in it, and finds its home folder and Ray's temporary folder empty.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OPT_IN = "SIMREG_NAMESPACE_TESTS"
HEAD, WORKER = "10.99.0.1", "10.99.0.2"

# In a shell: root's home folder is $HOME, for ssh and its server too, which ask /etc/passwd.
SET_HOME = """
sed "s#^\\(root:[^:]*:[^:]*:[^:]*:[^:]*\\):[^:]*#\\1:$HOME#" /etc/passwd > "$HOME/.passwd"
mount --bind "$HOME/.passwd" /etc/passwd
"""

# A default route, for Ray asks which address packets to the world would leave from.
_ENTER = f"""
set -e
export HOME="$1/home"
ip link set lo up
ip addr add {HEAD}/24 dev lo
ip addr add {WORKER}/24 dev lo
ip route add default dev lo src {HEAD}
mkdir -p /tmp/ray /run/sshd
mount -t tmpfs tmpfs /tmp/ray
mkdir -p "$1/home"
{SET_HOME}
cd "$1"
shift
exec "$@"
"""


def skip_reason(*programs: str) -> str:
    """Why a test that needs a namespace and ``programs`` cannot run here; empty if it can."""
    if os.environ.get(OPT_IN) != "1":
        return f"{OPT_IN}=1 opts in"
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in ("unshare", "ip", *programs) if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return ""


def needs(*programs: str) -> pytest.MarkDecorator:
    """The mark of a test that needs a namespace and ``programs``."""
    reason = skip_reason(*programs)
    return pytest.mark.skipif(bool(reason), reason=reason)


def run_inside(module: str, timeout_s: float) -> Any:
    """What ``python -m MODULE FOLDER``, run in a new namespace, writes to ``FOLDER/report.json``.

    Raises:
        AssertionError: the program failed; its output is the message.
    """
    # Short and not of pytest's making: sockets' names have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ns-", dir="/tmp"))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("RAY_")
    } | {"PYTHONPATH": str(ROOT), "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    command = ["unshare", "--kill-child", "-p", "-f", "-m", "-n", "--mount-proc"]
    command += ["bash", "-c", _ENTER, "bash", str(folder), sys.executable, "-m", module, "."]
    try:
        done = subprocess.run(
            command,
            env=environment,
            timeout=timeout_s,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        report = folder / "report.json"
        assert done.returncode == 0, done.stdout
        return json.loads(report.read_text(encoding="utf-8"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
