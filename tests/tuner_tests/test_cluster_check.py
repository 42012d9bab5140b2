from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from simreg_core.config_io import read_yaml_mapping, set_dotted
from tuner.cluster import main
from tuner.cluster_check import find_problems, summarize

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(ROOT.glob("cluster*.yaml"))
GPU = ("available_node_types", "gpu")
PIP = "python -m pip install"


@pytest.fixture(autouse=True)
def home_with_token_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    for name in (".ray/auth_token", ".ssh/id_ed25519"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text("x")
    monkeypatch.setenv("HOME", str(home))
    return home


def shipped(name: str = "cluster.yaml") -> dict[str, Any]:
    return copy.deepcopy(read_yaml_mapping(ROOT / name))


def put(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda tree: set_dotted(tree, key, value, "test")


def drop(key: str) -> Callable[[dict[str, Any]], object]:
    def edit(tree: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            tree = tree[parent]
        del tree[last]

    return edit


def add(key: str, command: str) -> Callable[[dict[str, Any]], object]:
    return lambda tree: tree[key].append(command)


def swap(key: str, old: str, new: str) -> Callable[[dict[str, Any]], object]:
    def edit(tree: dict[str, Any]) -> None:
        assert any(old in command for command in tree[key])
        tree[key] = [command.replace(old, new) for command in tree[key]]

    return edit


def rule(protocol: str, first: int, last: int, kind: str, cidr: str) -> dict[str, Any]:
    key = "CidrIp" if kind == "IpRanges" else "CidrIpv6"
    return {"IpProtocol": protocol, "FromPort": first, "ToPort": last, kind: [{key: cidr}]}


HEAD_START, WORKER_START = "head_start_ray_commands", "worker_start_ray_commands"
RULES = "provider.security_group.IpPermissions"
DEFECTS: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "unknown key": (put("max_worker", 1), "max_worker", "unknown key.*did you mean 'max_workers'"),
    "unknown key of a type": (
        put("available_node_types.gpu.max_worker", 1),
        "available_node_types.gpu.max_worker",
        "did you mean 'max_workers'",
    ),
    "misspelt provider key": (
        put("provider.availability_zones", "a"),
        "provider.availability_zones",
        "did you mean 'availability_zone'",
    ),
    "no name": (drop("cluster_name"), "cluster_name", "required"),
    "no provider type": (drop("provider.type"), "provider.type", "required"),
    "no resources": (
        drop("available_node_types.gpu.resources"),
        "available_node_types.gpu.resources",
        "required",
    ),
    "a fraction of a GPU": (
        put("available_node_types.gpu.resources.GPU", 0.5),
        "available_node_types.gpu.resources.GPU",
        r"whole number.*0\.5.*--gpus-per-trial",
    ),
    "GPUs as text": (
        put("available_node_types.gpu.resources.GPU", "1"),
        "available_node_types.gpu.resources.GPU",
        "without quotes, found the text '1'",
    ),
    "minus one GPU": (
        put("available_node_types.gpu.resources.GPU", -1),
        "available_node_types.gpu.resources.GPU",
        "at least 0, found the number -1",
    ),
    "timeout as text": (
        put("idle_timeout_minutes", "5"),
        "idle_timeout_minutes",
        "found the text '5'",
    ),
    "no such source": (
        put("file_mounts./data", "nowhere/at/all"),
        "file_mounts./data",
        f"no such file or folder: nowhere/at/all .from {ROOT}",
    ),
    "source is no path": (put("file_mounts./data", 3), "file_mounts./data", "found the number 3"),
    "no such ssh key": (
        put("auth.ssh_private_key", "~/.ssh/other"),
        "auth.ssh_private_key",
        "no such file",
    ),
    "type above the cluster": (
        put("available_node_types.gpu.max_workers", 9),
        "available_node_types.gpu.max_workers",
        "9 machines, but max_workers of the cluster is 8",
    ),
    "type above the cluster's default": (
        drop("max_workers"),
        "available_node_types.gpu.max_workers",
        "max_workers of the cluster is 2",
    ),
    "min above max": (
        lambda tree: tree["available_node_types"]["gpu"].update(min_workers=3, max_workers=2),
        "available_node_types.gpu.min_workers",
        "3 is more than its max_workers 2",
    ),
    "minus one worker": (
        put("available_node_types.gpu.min_workers", -1),
        "available_node_types.gpu.min_workers",
        "at least 0",
    ),
    "min of all above max": (
        lambda tree: tree["available_node_types"].update(
            a=tree["available_node_types"]["gpu"] | {"min_workers": 5},
            b=tree["available_node_types"]["gpu"] | {"min_workers": 5},
        ),
        "max_workers",
        "8 is less than all min_workers together, 10",
    ),
    "no such head": (put("head_node_type", "haed"), "head_node_type", "head, gpu, found 'haed'"),
    "package in any version": (
        add("setup_commands", f"cd x && {PIP} -q numpy"),
        "setup_commands.5",
        "numpy in any version",
    ),
    "package from a version on": (
        add("worker_setup_commands", "pip3 install 'numpy>=1'"),
        "worker_setup_commands.1",
        "numpy>=1 in any version",
    ),
    "package with a wildcard": (
        add("setup_commands", f"{PIP} numpy==2.*"),
        "setup_commands.5",
        r"numpy==2\.\* in any version",
    ),
    "project without constraints": (
        swap("setup_commands", "--constraint ~/simreg-tune/constraints.txt ", ""),
        "setup_commands.4",
        "~/simreg-tune in any version",
    ),
    "unpinned for one type": (
        put("available_node_types.gpu.worker_setup_commands", ["pip install torch"]),
        "available_node_types.gpu.worker_setup_commands.0",
        "torch in any version",
    ),
    "another Ray": (
        swap("setup_commands", "==2.60.0", "==2.54.0"),
        "setup_commands.4",
        r"Ray 2\.54\.0, but 2\.60\.0 is expected",
    ),
    "development wheel": (
        add(
            "setup_commands", "which ray || pip install -U 'ray @ file:///ray-3.0.0.dev0-cp312.whl'"
        ),
        "setup_commands.5",
        r"Ray 3\.0\.0\.dev0, but 2\.60\.0",
    ),
    "development version": (
        add("setup_commands", "pip install -c c.txt ray-cpp@x/3.0.0.dev0"),
        "setup_commands.5",
        "a development version",
    ),
    "open quote": (add("setup_commands", "echo 'x"), "setup_commands.5", "not a shell command"),
    "default setup": (drop("setup_commands"), "setup_commands", r"installs Ray 3\.0\.0\.dev0"),
    "default head setup": (drop("head_setup_commands"), "head_setup_commands", "required"),
    "default head start": (drop(HEAD_START), HEAD_START, "dashboard to every network"),
    "default worker start": (drop(WORKER_START), WORKER_START, "required"),
    "no start": (put(HEAD_START, ["ray stop"]), HEAD_START, "no `ray start`"),
    "head states no mode": (
        swap(HEAD_START, "RAY_AUTH_MODE=token ", ""),
        f"{HEAD_START}.1",
        "not stated",
    ),
    "worker states no mode": (
        swap(WORKER_START, "RAY_AUTH_MODE=token ", ""),
        f"{WORKER_START}.1",
        "not stated",
    ),
    "unknown mode": (
        swap(WORKER_START, "=token", "=tokens"),
        f"{WORKER_START}.1",
        "found RAY_AUTH_MODE=tokens",
    ),
    "modes differ": (
        swap(WORKER_START, "=token", "=disabled"),
        WORKER_START,
        "head_start_ray_commands token, worker_start_ray_commands disabled",
    ),
    "token stays at home": (
        lambda tree: tree["file_mounts"].pop("~/.ray/auth_token"),
        "file_mounts",
        "mount ~/.ray/auth_token",
    ),
    "open dashboard": (
        swap(HEAD_START, "127.0.0.1", "0.0.0.0"),
        f"{HEAD_START}.1",
        r"--dashboard-host 0\.0\.0\.0",
    ),
    "open dashboard, IPv6": (
        swap(HEAD_START, "=127.0.0.1", " '::'"),
        f"{HEAD_START}.1",
        "--dashboard-host ::",
    ),
    "open client": (
        add(HEAD_START, "python -m ray.util.client.server --host 0.0.0.0 --port 10001"),
        f"{HEAD_START}.2",
        r"--host 0\.0\.0\.0",
    ),
    "open port": (
        put(RULES, [rule("tcp", 8265, 8265, "IpRanges", "0.0.0.0/0")]),
        f"{RULES}.0",
        "8265",
    ),
    "all ports open, IPv6": (
        put(RULES, [rule("-1", -1, -1, "Ipv6Ranges", "::/0")]),
        f"{RULES}.0",
        "-1",
    ),
    "rule is text": (put(RULES, ["ssh"]), f"{RULES}.0", "expected a mapping, found the text 'ssh'"),
    "impossible instance type": (
        put("available_node_types.gpu.node_config.InstanceType", "g6_xlarge"),
        "available_node_types.gpu.node_config.InstanceType",
        "family.size.*g6_xlarge.*cannot be checked offline",
    ),
    "no instance type": (
        drop("available_node_types.gpu.node_config.InstanceType"),
        "available_node_types.gpu.node_config.InstanceType",
        "found nothing",
    ),
    "key of an account": (
        add("setup_commands", "export AWS_SECRET_ACCESS_KEY=abc"),
        "setup_commands.5",
        "instance role",
    ),
    "image of another Ray": (
        put("docker", {"image": "rayproject/ray:2.9.0-gpu", "container_name": "ray"}),
        "docker.image",
        r"expected Ray 2\.60\.0, found rayproject/ray:2\.9\.0-gpu",
    ),
    "docker without a name": (
        put("docker", {"image": "mine:1"}),
        "",
        "Ray refuses.*container & image name",
    ),
    "unknown provider": (put("provider.type", "awss"), "", "Ray refuses.*awss"),
}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_has_no_problems(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    assert "no problems" in out


def test_the_summary_counts_gpus() -> None:
    tree = shipped()
    assert summarize(tree).max_gpus == 8
    tree["available_node_types"]["big"] = tree["available_node_types"]["gpu"] | {
        "resources": {"GPU": 4},
        "min_workers": 1,
        "max_workers": 3,
    }
    found = summarize(tree)
    assert (found.min_gpus, found.max_gpus) == (4, 3 * 4 + 5)
    assert list(found.node_types) == ["head", "gpu", "big"]


@pytest.mark.parametrize(("edit", "path", "message"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_found_alone(
    edit: Callable[[dict[str, Any]], object], path: str, message: str
) -> None:
    tree = shipped()
    assert not find_problems(tree, ROOT)
    edit(tree)
    [problem] = find_problems(tree, ROOT)
    assert problem.path == path
    assert re.search(message, problem.message)


@pytest.mark.parametrize(
    ("machine_type", "is_possible"),
    [("g2-standard-8", True), ("zones/a/machineTypes/n1-standard-4", True), ("g6.xlarge", False)],
)
def test_google_machine_types(machine_type: str, is_possible: bool) -> None:
    tree = shipped("cluster-gcp.yaml")
    tree["available_node_types"]["gpu"]["node_config"]["machineType"] = machine_type
    assert (not find_problems(tree, ROOT)) is is_possible


@pytest.mark.parametrize("name", ["p4d.24xlarge", "g5g.metal", "u-6tb1.metal", "m5.metal-24xl"])
def test_amazon_instance_types(name: str) -> None:
    tree = shipped()
    tree["available_node_types"]["gpu"]["node_config"]["InstanceType"] = name
    assert not find_problems(tree, ROOT)


@pytest.mark.parametrize(
    "command",
    [
        "pip install 'numpy==2.4.6' https://x/y-1.0-py3-none-any.whl",
        "pip install -r requirements.txt",
        "uv pip install --constraint=c.txt numpy",
        "pip install --index-url https://x numpy==1.0",
        "pip --version; echo install numpy",
        "apt-get install -y python3-pip rsync",
        "pip install 'numpy==2.4.6; python_version < \"3.*\"'",
    ],
)
def test_a_pinned_command_passes(command: str) -> None:
    tree = shipped()
    tree["setup_commands"].append(command)
    assert not find_problems(tree, ROOT)


def test_ssh_may_be_open_and_a_known_network_may_have_any_port() -> None:
    tree = shipped()
    rules = [rule("tcp", 22, 22, "IpRanges", "0.0.0.0/0")]
    rules += [rule("-1", -1, -1, "IpRanges", "10.1.0.0/16")]
    tree["provider"]["security_group"]["IpPermissions"] = rules
    assert not find_problems(tree, ROOT)


def test_no_authentication_needs_no_token() -> None:
    tree = shipped()
    for key in (HEAD_START, WORKER_START):
        swap(key, "=token", "=disabled")(tree)
    del tree["file_mounts"]["~/.ray/auth_token"]
    assert not find_problems(tree, ROOT)


def test_several_problems_are_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.yaml"
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("=127.0.0.1", "=0.0.0.0").replace("g6.xlarge", "g6"))
    (tmp_path / "constraints.txt").write_text("ray==2.61.0\n")
    assert main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert all(line.startswith(f"tuner.cluster: {path}: ") for line in lines)
    assert sum("no such file" in line for line in lines) == 7
    assert sum("2.61.0 is expected" in line for line in lines) == 1
    assert len(lines) == 7 + 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("a: [", "not valid YAML"),
        ("- a", "expected a mapping"),
        ("", "empty"),
        ("cluster_name: a\ncluster_name: b\n", "'cluster_name' is given twice"),
    ],
    ids=["missing", "not YAML", "a list", "empty", "repeated key"],
)
def test_a_file_that_is_no_mapping_is_one_line(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.yaml"
    if text is not None:
        path.write_text(text)
    assert main(["check", str(path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert str(path) in line


@pytest.mark.parametrize("argv", [[], ["chekc", "cluster.yaml"], ["check"]])
def test_wrong_flags_are_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_is_written_or_printed_by_ray(home_with_token_and_key: Path) -> None:
    before = sorted(home_with_token_and_key.rglob("*"))
    command = [sys.executable, "-m", "tuner.cluster", "check", "cluster.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(home_with_token_and_key.rglob("*")) == before


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *shipped(),
        *(f"provider.{key}" for key in ("type", "security_group", "head_ip", "worker_ips")),
        *(f"{RULES}", "docker", "docker.image", "auth.ssh_private_key", "file_mounts.x"),
        *(f"available_node_types.gpu{key}" for key in ("", ".resources", ".node_config")),
        *(f"available_node_types.gpu.{key}_workers" for key in ("min", "max")),
    ]
)
VALUES = TREES | st.lists(st.text(alphabet="pip install=;'\"()&$\n-c<", max_size=20), max_size=3)


@hypothesis.given(changes=st.lists(st.tuples(KEYS, VALUES), max_size=3))
@hypothesis.settings(
    max_examples=50, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_any_tree_is_judged_without_an_exception(changes: list[tuple[str, Any]]) -> None:
    tree = shipped()
    for key, value in changes:
        *parents, last = key.split(".")
        node: Any = tree
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node[last] = value
    if not find_problems(tree, ROOT):
        summarize(tree)
