"""Run in a namespace: ``ray up``, a search by ``ray exec``, ``ray down``, on two "machines".

Each is an ssh server with a home folder, a temporary folder and processes of its own. What runs is
``cluster-local.yaml`` as shipped, but for addresses, user and key, and without installing packages:
``~/venv`` is the Python that runs the test. The head computes nothing, so trials run on the worker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from simreg_core.results.tables import ResultStore
from tests.cluster_tests.namespace import HEAD, ROOT, SET_HOME, WORKER

# A machine: its own view of processes and files, the same network. The token is not there yet.
_MACHINE = f"""
export HOME="$1"
mount -t tmpfs tmpfs /tmp/ray
umount /etc/passwd
{SET_HOME}
exec /usr/sbin/sshd -D -f "$2"
"""


def main(folder: Path) -> None:
    folder = folder.absolute()
    key = _make_key(folder)
    for name, address in (("head", HEAD), ("worker", WORKER)):
        _start_machine(folder, name, address, key)
    _run("ray", "get-auth-token", "--generate", mode="token")
    config = _write_config(folder, key)
    token_before = (folder / "worker/.ray/auth_token").exists()
    time.sleep(1)

    _run("ray", "up", "-y", "--no-config-cache", str(config))
    started = time.monotonic()
    nodes = "import ray; ray.init('auto', logging_level=40); print(len(ray.nodes()))"
    while _output("ray", "exec", str(config), f'python -c "{nodes}"').split()[-1] != "2":
        if time.monotonic() > started + 90:
            raise TimeoutError("the worker has not joined")
        time.sleep(1)
    search = (
        "cd ~/simreg-tune && python -m tuner.run --space search_spaces/smoke.yaml --address auto "
        f"--max-concurrent 2 --output {folder}/results"
    )
    _run("ray", "exec", str(config), search)
    refused = _is_refused_without_token(folder)
    _run("ray", "down", "-y", str(config))
    rows = ResultStore(folder / "results/smoke").read("trials")
    # `ray down` stops the head of a list of machines; its workers notice that it is gone.
    started = time.monotonic()
    while (left := _num_raylets()) and time.monotonic() < started + 120:
        time.sleep(0.5)
    report = {
        "statuses": [row["status"] for row in rows],
        "token_before": token_before,
        "token_same": (folder / "worker/.ray/auth_token").read_text()
        == (folder / "head/.ray/auth_token").read_text(),
        "refused_without_token": refused,
        "raylets_left": left,
    }
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


def _make_key(folder: Path) -> Path:
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def _start_machine(folder: Path, name: str, address: str, key: Path) -> None:
    home = folder / name
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/authorized_keys").write_text(key.with_suffix(".pub").read_text())
    (home / ".bashrc").write_text("")
    (home / "venv").symlink_to(sys.prefix)
    settings = folder / f"{name}.sshd"
    settings.write_text(
        f"ListenAddress {address}\nHostKey {key}\nPidFile none\nUsePAM no\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    command = ["unshare", "--kill-child", "-p", "-f", "-m", "--mount-proc"]
    command += ["bash", "-ec", _MACHINE, "bash", str(home), str(settings)]
    subprocess.Popen(command)


def _write_config(folder: Path, key: Path) -> Path:
    config = yaml.safe_load((ROOT / "cluster-local.yaml").read_text(encoding="utf-8"))
    config["provider"] |= {"head_ip": HEAD, "worker_ips": [WORKER]}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
    config["setup_commands"] = [c for c in config["setup_commands"] if "pip install" not in c]
    mounts = config["file_mounts"]
    config["file_mounts"] = {
        to: place if place.startswith("~") else str(ROOT / place) for to, place in mounts.items()
    }
    # Both machines have both addresses, so Ray must be told which is whose.
    for start, address, more in (
        ("head_start_ray_commands", HEAD, " --num-cpus=0"),
        ("worker_start_ray_commands", WORKER, " --num-cpus=2"),
    ):
        config[start][-1] += f" --node-ip-address={address}{more}"
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _is_refused_without_token(folder: Path) -> bool:
    program = f"import ray; ray.init('{HEAD}:6379', logging_level=40)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    (folder / "refused.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return done.returncode != 0 and "uth" in done.stdout + done.stderr


def _num_raylets() -> int:
    done = subprocess.run(["pgrep", "-c", "raylet"], capture_output=True, text=True, check=False)
    return int(done.stdout)


def _run(*command: str, mode: str | None = None) -> None:
    environment = os.environ | ({"RAY_AUTH_MODE": mode} if mode else {})
    subprocess.run(command, check=True, env=environment)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    return done.stdout or "none"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
