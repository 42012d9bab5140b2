from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from simreg_core.config.yaml_io import read_yaml_mapping, set_dotted
from tuner.cluster.__main__ import main
from tuner.cluster.check import find_problems

Edit = Callable[[dict[str, Any]], object]

ROOT = Path(__file__).parents[3]
SHIPPED = sorted(ROOT.glob("cluster*.yaml"))
HEAD, WORKER = "head_start_ray_commands", "worker_start_ray_commands"
GPU = "available_node_types.gpu"
SETUP = "worker_setup_commands"
SECRET = "aws_secret_access_key"
IMAGE = {"image": "rayproject/ray:2.9.0-gpu", "container_name": "ray"}
RULES = "provider.security_group.IpPermissions"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    for name in (".ray/auth_token", ".ssh/id_ed25519"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text("x")
    monkeypatch.setenv("HOME", str(home))
    return home


def problems(edit: Edit, name: str = "cluster.yaml") -> list[tuple[str, str]]:
    tree = copy.deepcopy(read_yaml_mapping(ROOT / name))
    edit(tree)
    return find_problems(tree, ROOT)


def put(key: str, value: Any) -> Edit:
    return lambda tree: set_dotted(tree, key, value, "test")


def drop(key: str) -> Edit:
    def edit(tree: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            tree = tree[parent]
        del tree[last]

    return edit


def add(command: str) -> Edit:
    return lambda tree: tree["setup_commands"].append(command)


def swap(key: str, old: str, new: str) -> Edit:
    def edit(tree: dict[str, Any]) -> None:
        assert any(old in command for command in tree[key])
        tree[key] = [command.replace(old, new) for command in tree[key]]

    return edit


def rule(protocol: str, port: int, block: str) -> Edit:
    ports = {"IpProtocol": protocol, "FromPort": port, "ToPort": port}
    return put(RULES, [ports | {"IpRanges": [{"CidrIp": block}]}])


def drop_token(tree: dict[str, Any]) -> None:
    del tree["file_mounts"]["~/.ray/auth_token"]


# A change of cluster.yaml, the path of the one problem that it makes, and a part of the message.
DEFECTS: list[tuple[Edit, str, str]] = [
    (put("max_worker", 1), "max_worker", "'max_workers'"),
    (put("provider.project", "a"), "provider.project", "'project_id'"),
    (drop("cluster_name"), "", "cluster_name"),
    (drop(f"{GPU}.resources"), GPU, "resources"),
    (put(f"{GPU}.resources.GPU", 0.5), f"{GPU}.resources.GPU", "0.5"),
    (put("provider.type", "awss"), "", "awss"),
    (put("docker", {"image": "mine:1"}), "", "container"),
    (put("head_node_type", "haed"), "", "head_node_type"),
    (put("file_mounts./data", "nowhere"), "file_mounts./data", "nowhere"),
    (put("auth.ssh_private_key", "~/.ssh/x"), "auth.ssh_private_key", "~/.ssh/x"),
    (put(f"{GPU}.max_workers", 9), GPU, "max_workers 9"),
    (drop("max_workers"), GPU, "<= 2"),
    (put(f"{GPU}.max_workers", -1), GPU, "max_workers -1"),
    (put(f"{GPU}.resources.gpu", 1), f"{GPU}.resources.gpu", "'GPU'"),
    (rule("tcp", 1, "0.0.0.0/0"), f"{RULES}.0.IpRanges.0.CidrIp", "open"),
    (rule("tcp", 80, "128.0.0.0/1"), f"{RULES}.0.IpRanges.0.CidrIp", "open"),
    (rule("-1", -1, "::/0"), f"{RULES}.0.IpRanges.0.CidrIp", "open"),
    (put("provider.aws_credentials", {SECRET: "x"}), f"provider.aws_credentials.{SECRET}", ""),
    (put("docker", IMAGE), "docker.image", "2.9.0"),
    (swap("setup_commands", "==2.", "==1."), "setup_commands.4", "1.60.0"),
    (put(f"{GPU}.{SETUP}", ["pip install ray"]), f"{GPU}.{SETUP}.0", "any version"),
    (drop("setup_commands"), "setup_commands.1", "3.0.0.dev0"),
    (put(WORKER, ["ray stop # ray start"]), WORKER, "ray start"),
    (swap(HEAD, "--head ", ""), f"{HEAD}.1", "--head"),
    (swap(HEAD, "--autoscaling-", "--autoscaling_"), f"{HEAD}.1", "--autoscaling-config"),
    (swap(WORKER, "--address", "--head #"), f"{WORKER}.1", "--address"),
    (swap(HEAD, "RAY_AUTH_MODE=token ", ""), f"{HEAD}.1", "RAY_AUTH_MODE"),
    (swap(WORKER, "=token", "=token;"), f"{WORKER}.1", "RAY_AUTH_MODE"),
    (swap(WORKER, "=token", "=tokens"), f"{WORKER}.1", "tokens"),
    (swap(WORKER, "=token", "=disabled"), WORKER, "RAY_AUTH_MODE"),
    (drop_token, "file_mounts", "auth_token"),
    (swap(HEAD, "127.0.0.1", "0.0.0.0"), f"{HEAD}.1", "--dashboard-host"),
    (swap(HEAD, "-host=127.0.0.1", "_host=0"), f"{HEAD}.1", "--dashboard_host"),
]


@pytest.mark.parametrize(("edit", "path", "part"), DEFECTS)
def test_a_defect_is_found_alone(edit: Edit, path: str, part: str) -> None:
    [(found, message)] = problems(edit)
    assert found == path
    assert part in message


@pytest.mark.parametrize(
    "command",
    [
        "cd x && sudo -H pip3.12 -q install 'ray[tune]>=2'",
        "pip install -e .",
        "pip install \\\n  ray==2.*",
        "which ray || pip install 'ray @ https://x/ray-3.0.0.dev0-cp312-cp312-linux.whl'",
        "echo 'x",
        "aws configure set aws_secret_access_key abc",
        "git clone https://me:abc@example.org/x.git",
        "echo AKIAIOSFODNN7EXAMPLE",
        "jupyter lab --ip 0.0.0.0",
    ],
)
def test_a_wrong_command_is_found(command: str) -> None:
    [(path, _)] = problems(add(command))
    assert path == "setup_commands.5"


@pytest.mark.parametrize(
    "command",
    [
        "pip install -c constraints.txt -e '.[dev]' ray",
        "PIP_CONSTRAINT=c.txt pip install ray; pip install --no-deps -e .",
        "pip install numpy raydp ray-cpp # and ray",
        "echo pip install ray; echo 'pip install ray'",
        'export AWS_SECRET_ACCESS_KEY="$SECRET" TOKEN=$(cat token); unset AWS_SECRET_ACCESS_KEY',
        "jupyter lab --ip 127.0.0.1",
    ],
)
def test_a_right_command_passes(command: str) -> None:
    assert not problems(add(command))


@pytest.mark.parametrize(
    "start",
    [
        "export RAY_AUTH_MODE=token && ray start --address=a",
        "sudo RAY_AUTH_MODE=token /opt/bin/ray start --address a",
        "RAY_AUTH_MODE=token bash -c 'ulimit -n 9999; exec ray start --address=a'",
        "# don't\nif true; then RAY_AUTH_MODE='token' ray start --address=a; fi",
    ],
)
def test_authentication_may_be_set_in_any_way(start: str) -> None:
    assert not problems(put(WORKER, [start]))


@pytest.mark.parametrize("new", ["=disabled", "=token RAY_AUTH_TOKEN_PATH=/x"])
def test_the_token_may_come_from_a_variable_or_not_be_needed(new: str) -> None:
    def edit(tree: dict[str, Any]) -> None:
        drop_token(tree)
        for key in (HEAD, WORKER):
            swap(key, "=token", new)(tree)

    assert not problems(edit)


def test_ssh_may_be_open_and_a_private_network_may_reach_any_port() -> None:
    assert not problems(rule("tcp", 22, "0.0.0.0/0"))
    assert not problems(rule("-1", -1, "10.0.0.0/8"))


def test_listed_machines_need_the_older_autoscaler() -> None:
    edit = swap(HEAD, "RAY_enable_autoscaler_v2=0 ", "")
    [(path, _)] = problems(edit, "cluster-local.yaml")
    assert path == f"{HEAD}.1"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_has_no_problems(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")


def test_a_minimal_file_reports_what_ray_would_add(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("cluster_name: a\nprovider: {type: aws, region: us-east-1}\n")
    assert main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    keys = [line.removeprefix(f"tuner.cluster: {path}: ") for line in err.splitlines()]
    assert [key.partition(".")[0] for key in keys] == ["setup_commands", HEAD, HEAD, WORKER]


@pytest.mark.parametrize("argv", [[], ["chekc", "cluster.yaml"], ["check", "nowhere.yaml"]])
def test_wrong_flags_are_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_ray_writes_and_prints_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    command = [sys.executable, "-m", "tuner.cluster", "check", "cluster.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(home.rglob("*")) == before


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
COMMANDS = st.lists(st.text(alphabet="pip install ray=;'\"()&$\n-c<#", max_size=20), max_size=3)
KEYS = [*read_yaml_mapping(ROOT / "cluster.yaml"), "docker", "file_mounts.x", RULES]
KEYS += [f"{GPU}.{key}" for key in ("resources", "node_config", "min_workers", "max_workers")]


@hypothesis.given(changes=st.dictionaries(st.sampled_from(KEYS), TREES | COMMANDS, max_size=2))
@hypothesis.settings(
    max_examples=50, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_any_content_is_checked_without_an_exception(changes: dict[str, Any]) -> None:
    def edit(tree: dict[str, Any]) -> None:
        for key in sorted(changes, reverse=True):  # inner keys before the outer ones
            set_dotted(tree, key, changes[key], "test")

    assert all(message.isprintable() for _, message in problems(edit))
