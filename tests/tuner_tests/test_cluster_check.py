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

from simreg_core.config.yaml_io import read_yaml_mapping, set_dotted
from tuner import cluster_provider
from tuner.cluster import main
from tuner.cluster_check import find_problems, summarize

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(ROOT.glob("cluster*.yaml"))
GPU = ("available_node_types", "gpu")
PIP = "python -m pip install"
CONSTRAINTS = "~/simreg-tune/constraints.txt"


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
        "without quotes or point, found the text '1'",
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
        add("setup_commands", f"pip install -c {CONSTRAINTS} ray-cpp@x/3.0.0.dev0"),
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
    "GPUs with a point": (
        put("available_node_types.gpu.resources.GPU", 1.0),
        "available_node_types.gpu.resources.GPU",
        r"whole number.*1\.0",
    ),
    "gpu in small letters": (
        put("available_node_types.gpu.resources.gpu", 1),
        "available_node_types.gpu.resources.gpu",
        "did you mean 'GPU'",
    ),
    "cpus in small letters": (
        put("available_node_types.head.resources", {"cpus": 0}),
        "available_node_types.head.resources.cpus",
        "did you mean 'CPU'",
    ),
    "requirements that nothing brings": (
        add("setup_commands", "pip install -r requirements.txt"),
        "setup_commands.5",
        "no file mount brings ~/requirements.txt",
    ),
    "requirements out of sight": (
        add("setup_commands", "curl -O https://x/r.txt; pip install -r r.txt"),
        "setup_commands.5",
        "cannot be seen from here",
    ),
    "requirements without versions": (
        add("setup_commands", "cd ~/simreg-tune && pip install -r README.md"),
        "setup_commands.5",
        "README.md: .* in any version.*\\(and \\d+ more\\)",
    ),
    "constraints that nothing brings": (
        add("setup_commands", "pip install -c c.txt numpy"),
        "setup_commands.5",
        "no file mount brings ~/c.txt",
    ),
    "misspelt constraints": (
        add("setup_commands", "pip install -c ~/simreg-tune/constraint.txt numpy"),
        "setup_commands.5",
        "no file mount brings ~/simreg-tune/constraint.txt",
    ),
    "module without a space": (
        add("setup_commands", "python3 -mpip install torch"),
        "setup_commands.5",
        "torch in any version",
    ),
    "nested shell": (
        add("setup_commands", 'sudo bash -lc "cd x && pip install torch"'),
        "setup_commands.5",
        "torch in any version",
    ),
    "behind sudo": (
        add("setup_commands", "sudo -u ray -H pip3.12 install torch"),
        "setup_commands.5",
        "torch in any version",
    ),
    "over two lines": (
        add("setup_commands", "pip install \\\n  torch 2>&1 | tee log"),
        "setup_commands.5",
        "torch in any version",
    ),
    "no dependencies, any version": (
        add("setup_commands", "pip install --no-deps torch"),
        "setup_commands.5",
        "torch in any version",
    ),
    "conda": (
        add("setup_commands", "conda install -y -c conda-forge numpy"),
        "setup_commands.5",
        "numpy in any version; expected NAME=VERSION",
    ),
    "mamba": (
        add("setup_commands", "mamba install -n base 'numpy>=2'"),
        "setup_commands.5",
        "numpy>=2 in any version",
    ),
    "pip in a conda environment": (
        add("setup_commands", "conda run -n pip pip install torch"),
        "setup_commands.5",
        "torch in any version",
    ),
    "uv pip": (
        add("setup_commands", "uv pip install --system torch"),
        "setup_commands.5",
        "torch in any version",
    ),
    "uv add": (add("setup_commands", "uv add torch"), "setup_commands.5", "torch in any version"),
    "pipx": (add("setup_commands", "pipx install ruff"), "setup_commands.5", "ruff in any version"),
    "a requirement without quotes": (
        add("setup_commands", "pip install torch @ file:///x"),
        "setup_commands.5",
        "needs quotes: torch @ file:///x",
    ),
    "a project that nothing brings": (
        add("setup_commands", "pip install --no-deps -e ~/other"),
        "setup_commands.5",
        "no file mount brings ~/other/pyproject.toml",
    ),
    "a path that nothing brings": (
        add("setup_commands", "bash ~/simreg-tune/setup.sh"),
        "setup_commands.5",
        "no file mount brings ~/simreg-tune/setup.sh",
    ),
    "a path by another name": (
        add("setup_commands", "ls /home/ubuntu/simreg-tune/tests $HOME/venv"),
        "setup_commands.5",
        "no file mount brings ~/simreg-tune/tests",
    ),
    "secret set": (
        add("setup_commands", "aws configure set aws_secret_access_key abc"),
        "setup_commands.5",
        "instance role",
    ),
    "secret exported, in quotes": (
        add("setup_commands", "AWS_SECRET_ACCESS_KEY='abc' aws s3 ls"),
        "setup_commands.5",
        "instance role",
    ),
    "constraints stay at home": (
        lambda tree: tree["file_mounts"].pop(CONSTRAINTS),
        "setup_commands.4",
        f"no file mount brings {CONSTRAINTS}",
    ),
    "a package stays at home": (
        lambda tree: tree["file_mounts"].pop("~/simreg-tune/tuner"),
        "setup_commands.4",
        "no file mount brings ~/simreg-tune/tuner",
    ),
    "a start command's path": (
        add(WORKER_START, "python ~/simreg-tune/benchmarks/all.py"),
        f"{WORKER_START}.2",
        "no file mount brings ~/simreg-tune/benchmarks/all.py",
    ),
    "head without --head": (
        swap(HEAD_START, "--head ", "--address=1.2.3.4:6379 "),
        f"{HEAD_START}.1",
        "`ray start` without --head",
    ),
    "head that never scales": (
        swap(HEAD_START, "--autoscaling-config", "--autoscaling_config"),
        f"{HEAD_START}.1",
        "without --autoscaling-config: then no worker ever starts",
    ),
    "mode in a comment": (
        lambda tree: tree[WORKER_START].__setitem__(
            1, "~/venv/bin/ray start --address=$RAY_HEAD_IP:6379 # RAY_AUTH_MODE=token"
        ),
        f"{WORKER_START}.1",
        "not stated",
    ),
    "mode not exported": (
        swap(WORKER_START, "RAY_AUTH_MODE=token ~", "RAY_AUTH_MODE=token; ~"),
        f"{WORKER_START}.1",
        "not stated",
    ),
    "start in a comment": (put(WORKER_START, ["true # ray start"]), WORKER_START, "no `ray start`"),
    "start as a text": (put(HEAD_START, ['echo "ray start"']), HEAD_START, "no `ray start`"),
    "start as words": (put(HEAD_START, ["echo ray start"]), HEAD_START, "no `ray start`"),
    "open dashboard, short": (
        swap(HEAD_START, "127.0.0.1", "0"),
        f"{HEAD_START}.1",
        "--dashboard-host 0 listens",
    ),
    "open dashboard, underscore": (
        swap(HEAD_START, "--dashboard-host=127.0.0.1", "--dashboard_host=0.0.0.0"),
        f"{HEAD_START}.1",
        r"--dashboard-host 0\.0\.0\.0",
    ),
    "open dashboard, brackets": (
        swap(HEAD_START, "127.0.0.1", "'[::]'"),
        f"{HEAD_START}.1",
        "every network",
    ),
    "open in two halves": (
        put(
            RULES,
            [
                rule("tcp", 22, 22, "IpRanges", "0.0.0.0/1"),
                rule("tcp", 1, 9999, "IpRanges", "128.0.0.0/1"),
            ],
        ),
        f"{RULES}.1",
        r"open to the world \(128\.0\.0\.0/1\)",
    ),
    "secret as a key": (
        put("provider.aws_credentials", {"aws_secret_access_key": "abc"}),
        "provider.aws_credentials.aws_secret_access_key",
        "instance role",
    ),
    "unknown parameter of EC2": (
        put("available_node_types.gpu.node_config.InstanceMarketOption", {"MarketType": "spot"}),
        "available_node_types.gpu.node_config.InstanceMarketOption",
        "RunInstances; did you mean 'InstanceMarketOptions'",
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
        f"pip install -r {CONSTRAINTS}",
        "curl -O https://x/r.txt; pip install -r r.txt -c ~/simreg-tune/constraints.txt",
        "cd ~/simreg-tune && uv pip install --constraint=constraints.txt numpy",
        "curl -o c.txt https://x/c.txt && pip install -c c.txt numpy",
        "echo numpy==1 > ~/c.txt; pip install -c/home/ubuntu/c.txt numpy",
        "git clone https://x/repo.git && cd repo && pip install -c c.txt -e '.[dev]'",
        f"PIP_CONSTRAINT={CONSTRAINTS} pip install numpy",
        "pip install -c https://x/c.txt numpy",
        "pip install --index-url https://x numpy==1.0",
        "pip install numpy==1.0 >log 2>&1  # and torch",
        "pip --version; echo install numpy",
        "echo pip install numpy; echo 'pip install numpy'",
        "apt-get install -y python3-pip rsync",
        "conda install -c conda-forge numpy=2.4.6 python==3.12",
        "uv tool install ruff==0.14.0",
        "pip install git+https://x/y@0123456789abcdef#egg=y",
        "pip install --no-deps -e ~/simreg-tune",
        "pip install 'numpy==2.4.6; python_version < \"3.*\"'",
        "mkdir -p ~/simreg-tune/data && ls ~/simreg-tune/data",
        "python -m simreg_core.datasets cifar10 --root ~/simreg-tune/data",
        "test -e ~/simreg-tune/results || ls ~/simreg-tune ~/simreg-tune/tuner/run.py",
        'export AWS_SECRET_ACCESS_KEY="$SECRET"; unset AWS_SECRET_ACCESS_KEY',
    ],
)
def test_a_right_command_passes(command: str) -> None:
    tree = shipped()
    tree["setup_commands"].append(command)
    assert not find_problems(tree, ROOT)


@pytest.mark.parametrize(
    "start",
    [
        "export RAY_AUTH_MODE=token && ray start",
        "sudo RAY_AUTH_MODE=token /opt/bin/ray start",
        "RAY_AUTH_MODE=token bash -c 'ulimit -n 9999; exec ray start'",
        "if true; then RAY_AUTH_MODE='token' python -m ray.scripts.scripts start; fi",
    ],
)
def test_the_mode_may_be_stated_in_any_way(start: str) -> None:
    tree = shipped()
    tree[WORKER_START][1] = start
    assert not find_problems(tree, ROOT)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("RAY_enable_autoscaler_v2=0 ", "", "expected RAY_enable_autoscaler_v2=0"),
        ("v2=0", "v2=1", "expected RAY_enable_autoscaler_v2=0"),
        ("--autoscaling-config=~/ray_bootstrap_config.yaml ", "", "no worker ever starts"),
    ],
)
def test_a_list_needs_the_older_autoscaler(old: str, new: str, message: str) -> None:
    tree = shipped("cluster-local.yaml")
    assert not find_problems(tree, ROOT)
    swap(HEAD_START, old, new)(tree)
    [problem] = find_problems(tree, ROOT)
    assert (problem.path, message in problem.message) == (f"{HEAD_START}.1", True)


def test_without_botocore_parameters_of_ec2_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = shipped()
    tree["available_node_types"]["gpu"]["node_config"]["Other"] = 1
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    cluster_provider.ec2_keys.cache_clear()
    assert not find_problems(tree, ROOT)
    cluster_provider.ec2_keys.cache_clear()


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
