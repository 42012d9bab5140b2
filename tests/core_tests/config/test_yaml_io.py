from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from simreg_core.config.loading import absolute_paths, load_trial_config
from simreg_core.config.messages import validated
from simreg_core.config.trial import TrialConfig
from simreg_core.config.yaml_io import (
    get_dotted,
    parse_override,
    parse_yaml,
    read_yaml_mapping,
    set_dotted,
)
from simreg_core.errors import ConfigError
from tests.core_tests.trained_networks import MakeConfig

MINIMAL = "task:\n  dataset: digits\n"
TrialFile = Callable[[str], Path]


@pytest.fixture
def trial_file(tmp_path: Path) -> TrialFile:
    def write(text: str) -> Path:
        path = tmp_path / "trial.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def _one_line(caught: pytest.ExceptionInfo[ConfigError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_configuration_survives_a_file(trial_file: TrialFile, tiny_config: MakeConfig) -> None:
    config = tiny_config({"training.learning_rate": 0.001, "robustness.tradeoff_weight": 2})
    assert load_trial_config(trial_file(yaml.safe_dump(config.to_dict()))) == config


EXPONENTS = {"1e-4": "1.0e-4", "1e4": "1.0e+4", "1.5e4": "1.5e+4"}  # as YAML writes them
NO_NUMBERS = {
    "learning_rate": [
        *("8/255", "no", "012", "0x1F", "1:30", "1_000", "2024-01-02", "'0.1'", ".nan", ".inf"),
        *("[0.1]", "", *EXPONENTS),
    ],
    "epochs": ["012", "1e3", "5.0", "no", "1:30"],
}


@pytest.mark.parametrize(
    ("key", "written"), [(key, value) for key, values in NO_NUMBERS.items() for value in values]
)
def test_what_is_no_number_is_refused_with_its_key(
    key: str, written: str, trial_file: TrialFile
) -> None:
    path = trial_file(MINIMAL + f"training:\n  {key}: {written}\n")
    with pytest.raises(ConfigError, match="found") as caught:
        load_trial_config(path)
    message = _one_line(caught)
    assert message.startswith(f"{path}: training.{key}: ")
    assert EXPONENTS.get(written, "") in message


@pytest.mark.parametrize(
    ("written", "value"),
    [("1.0e-4", 1e-4), ("3", 3), ("+3", 3), ("-3", -3), ("0", 0), ("-0.5", -0.5), ("1.0e+4", 1e4)],
)
def test_plain_numbers_are_numbers(written: str, value: float) -> None:
    parsed = parse_yaml(written, "here")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        pytest.param(b"seed: 1\nseed: 2\n", "line 2", id="repeated"),
        pytest.param(b"a: [{b: 1, b: 2}]\n", "line 1", id="repeated-in-a-list"),
        pytest.param(b"# nothing\n", "empty", id="empty"),
        pytest.param(b"- 1\n- 2\n", "a list", id="list-at-top"),
        pytest.param(b"a: [1\n", "not valid YAML", id="unclosed"),
        pytest.param(b"1: a\n", "found 1", id="number-as-key"),
        pytest.param(b"? [a]\n: b\n", "must be text", id="list-as-key"),
        pytest.param(b"a: !!python/object/apply:os.getcwd []\n", "not valid YAML", id="code"),
        pytest.param(b"a: " + b"[" * 1000 + b"\n", "allowed: 100 levels", id="deeply-nested"),
        pytest.param(b"a: " + b"9" * 5000 + b"\n", "not valid YAML", id="endless-number"),
        pytest.param(b"a: \x00\n", "not valid YAML", id="nul-character"),
        pytest.param(b"task: caf\xe9\n", "byte 9", id="not-utf8"),
        pytest.param(None, "No such file", id="missing"),
        pytest.param(None, "Is a directory", id="folder"),
    ],
)
def test_file_that_is_no_mapping_is_refused(
    content: bytes | None, fragment: str, tmp_path: Path
) -> None:
    path = tmp_path / ("" if "directory" in fragment else "trial.yaml")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml_mapping(path)
    message = _one_line(caught)
    assert message.startswith(f"{path}:")
    assert fragment in message


@pytest.mark.parametrize(
    ("text", "key", "fragment"),
    [
        ("training: {epoch: 3}", "training.epoch", "'epochs'?"),
        ("regulariser: {alpha: 0.3}", "regulariser", "'regularizer'?"),
        (
            "robustness: {attacks: {uniform: {max_eps: 0.1}}, reference: {uniform: 0.1}}",
            "robustness.attacks.uniform.max_eps",
            "'max_epsilon'?",
        ),
        ("zzz: 1", "zzz", "task, model, training"),
        ("training: fast", "training", "'fast'"),
        ("training: {schedule: {step: 0.5, restart: 0.1}}", "training.schedule", "0.1"),
        ("training: {epochs: 0, batch_size: 0, momentum: 3}", "training.epochs", "2 more"),
    ],
)
def test_wrong_trial_is_refused_by_its_key(
    text: str, key: str, fragment: str, trial_file: TrialFile
) -> None:
    path = trial_file(f"{MINIMAL}{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_trial_config(path)
    message = _one_line(caught)
    assert message.startswith(f"{path}: {key}")
    assert fragment in message


def test_missing_key_is_refused(trial_file: TrialFile) -> None:
    with pytest.raises(ConfigError, match=r"task\.dataset: required"):
        load_trial_config(trial_file("task: {}\n"))


def test_last_override_wins_over_file_and_protocol(trial_file: TrialFile) -> None:
    path = trial_file(MINIMAL + "training: {epochs: 7}\n")
    overrides = ["training.epochs=3", "seed=3", "seed=4", "regularizer.alpha=0.25"]
    config = load_trial_config(path, overrides)
    assert (config.training.epochs, config.seed, config.regularizer.alpha) == (3, 4, 0.25)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("training.epochs=3", ("training.epochs", 3)),
        (" seed = 4 ", ("seed", 4)),
        ("model.blocks=[1, 2]", ("model.blocks", [1, 2])),
        ("task.dataset=parquet:/a=b", ("task.dataset", "parquet:/a=b")),
        ("task.image_size=null", ("task.image_size", None)),
    ],
)
def test_override_is_key_and_yaml_value(text: str, parsed: tuple[str, Any]) -> None:
    assert parse_override(text) == parsed


@pytest.mark.parametrize("text", ["seed", "=3", " = 3", "", "model.blocks=[1"])
def test_override_without_key_or_equals_or_with_a_broken_value_is_refused(text: str) -> None:
    message = r"--set model\.blocks: .*not valid YAML" if "[" in text else "expected key=value"
    with pytest.raises(ConfigError, match=message):
        parse_override(text)


def test_set_dotted_makes_missing_parents_and_replaces_no_value_by_a_mapping() -> None:
    tree: dict[str, Any] = {"a": 1}
    set_dotted(tree, "b.c.d", 5, "here")
    assert tree == {"a": 1, "b": {"c": {"d": 5}}}
    for value in (3, None):
        with pytest.raises(ConfigError, match=r"here: a\.b is "):
            set_dotted({"a": {"b": value}}, "a.b.c", 5, "here")


@pytest.mark.parametrize(
    ("key", "value"), [("a.b", 3), ("a", {"b": 3}), ("a.c", None), ("a.b.c", None), ("x.y", None)]
)
def test_get_dotted_reads_what_is_there(key: str, value: Any) -> None:
    assert get_dotted({"a": {"b": 3}}, key) == value


def test_dataset_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    tree = {
        "task": {"dataset": "parquet:data/../images/"},
        "list": ["parquet:~/images", "parquet:/images", "parquet:", "digits", 3],
    }
    assert absolute_paths(tree) == {
        "task": {"dataset": f"parquet:{tmp_path}/images"},
        "list": ["parquet:/home/someone/images", "parquet:/images", "parquet:", "digits", 3],
    }


def test_bug_of_our_own_is_not_blamed_on_the_user() -> None:
    def broken(data: object) -> TrialConfig:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        validated(broken, {}, TrialConfig, "here")


def _bomb(levels: int) -> str:
    """Few bytes that stand for 9 to the power of ``levels`` texts."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [_bomb(9), _bomb(300), f"{_bomb(9)}\n? *a8\n: 1", f"{{{_bomb(9)}}}".replace("\n", ", ")],
    ids=["list", "long", "key", "flow"],
)
def test_aliases_that_stand_for_too_many_values_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="aliases stand for more than 100000 values") as caught:
        parse_yaml(text, "here")
    assert len(_one_line(caught)) < 200


@pytest.mark.parametrize("text", ["a: &a [*a]", "&a {b: *a}", "a: &a [[1, {b: *a}], *a]"])
def test_alias_of_a_value_that_contains_it_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="an alias stands for a value that contains it"):
        parse_yaml(text, "here")


def test_aliases_and_long_files_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]", "here") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    assert parse_yaml("", "here") is None
    assert len(parse_yaml(_bomb(4), "here")) == 4


@pytest.mark.parametrize("text", ["9223372036854775808", "1" * 5000, '"\\ud800"', "[" * 100_000])
def test_values_that_no_table_holds_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        parse_yaml(f"a: {text}", "here")
    assert len(_one_line(caught)) < 300
