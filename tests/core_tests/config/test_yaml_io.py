from __future__ import annotations

import json
import os
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
from simreg_core.errors import ConfigError, describe

MINIMAL = "task:\n  dataset: digits\n"


@pytest.fixture
def trial_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "trial.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def _one_line(caught: pytest.ExceptionInfo[ConfigError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_file_becomes_the_configuration_that_it_describes(
    trial_file: Callable[[str], Path],
) -> None:
    path = trial_file(MINIMAL + "regularizer:\n  alpha: 0.3\n  threshold: 0.6\nseed: 4\n")
    assert load_trial_config(path) == TrialConfig.from_dict(
        {
            "task": {"dataset": "digits"},
            "regularizer": {"alpha": 0.3, "threshold": 0.6},
            "seed": 4,
        }
    )


def test_json_file_is_read_too(
    trial_file: Callable[[str], Path], tiny_trial: Callable[..., dict[str, Any]]
) -> None:
    path = trial_file(json.dumps(tiny_trial(), indent=1))
    assert load_trial_config(path) == TrialConfig.from_dict(tiny_trial())


@pytest.mark.parametrize(
    ("written", "value", "hint"),
    [
        pytest.param("1e-4", "'1e-4'", r"1\.0e-4", id="exponent-without-dot"),
        pytest.param("1e4", "'1e4'", r"1\.0e\+4", id="exponent-without-dot-and-sign"),
        pytest.param("1.5e4", "'1.5e4'", r"1\.5e\+4", id="exponent-without-sign"),
        pytest.param("8/255", "'8/255'", "number", id="fraction"),
        pytest.param("no", "False", "number", id="no"),
        pytest.param("012", "'012'", "number", id="leading-zero"),
        pytest.param("0x1F", "'0x1F'", "number", id="hexadecimal"),
        pytest.param("1:30", "'1:30'", "number", id="base-sixty"),
        pytest.param("1_000", "'1_000'", "number", id="underscore"),
        pytest.param("2024-01-02", "'2024-01-02'", "number", id="date"),
        pytest.param("'0.1'", "'0.1'", "number", id="quoted"),
        pytest.param(".nan", "nan", "finite", id="nan"),
        pytest.param(".inf", "inf", "finite", id="infinity"),
        pytest.param("[0.1]", "a list", "number", id="list"),
        pytest.param("", "nothing", "number", id="nothing"),
    ],
)
def test_what_is_no_number_is_refused_with_key_value_and_help(
    written: str, value: str, hint: str, trial_file: Callable[[str], Path]
) -> None:
    path = trial_file(MINIMAL + f"training:\n  learning_rate: {written}\n")
    with pytest.raises(ConfigError, match=hint) as caught:
        load_trial_config(path)
    message = _one_line(caught)
    assert message.startswith(f"{path}: training.learning_rate: ")
    assert value in message


@pytest.mark.parametrize("written", ["012", "1e3", "5.0", "no", "1:30"])
def test_what_is_no_integer_is_refused(written: str, trial_file: Callable[[str], Path]) -> None:
    path = trial_file(MINIMAL + f"training:\n  epochs: {written}\n")
    with pytest.raises(ConfigError, match=r"training\.epochs: expected .*integer"):
        load_trial_config(path)


@pytest.mark.parametrize(
    ("written", "value"),
    [("1.0e-4", 1e-4), ("3", 3), ("+3", 3), ("-3", -3), ("0", 0), ("-0.5", -0.5), ("1.0e+4", 1e4)],
)
def test_plain_numbers_are_numbers(written: str, value: float) -> None:
    parsed = parse_yaml(written, "here")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("seed: 1\nseed: 2\n", 2, id="at-the-top"),
        pytest.param("task: {dataset: digits}\ntask:\n  color: true\n", 2, id="section"),
        pytest.param("task:\n  color: true\n  color: true\n", 3, id="nested"),
        pytest.param("a: [{b: 1, b: 2}]\n", 1, id="inside-a-list"),
    ],
)
def test_repeated_key_is_refused_with_its_line(
    text: str, line: int, trial_file: Callable[[str], Path]
) -> None:
    with pytest.raises(ConfigError, match=f"line {line}: .*twice"):
        read_yaml_mapping(trial_file(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param("# nothing\n", "empty", id="comment-only"),
        pytest.param("- 1\n- 2\n", "found a list", id="list-at-top"),
        pytest.param("digits\n", "found the text 'digits'", id="text-at-top"),
        pytest.param("a: [1\n", "not valid YAML", id="unclosed"),
        pytest.param("a: 1\n---\nb: 2\n", "not valid YAML", id="two-documents"),
        pytest.param("1: a\n", "a key must be text, found 1", id="number-as-key"),
        pytest.param("? [a]\n: b\n", "a key must be text", id="list-as-key"),
        pytest.param("a: !!python/object/apply:os.getcwd []\n", "not valid YAML", id="code"),
        pytest.param("a: " + "[" * 5000 + "\n", "not valid YAML", id="deeply-nested"),
        pytest.param("a: " + "9" * 5000 + "\n", "not valid YAML", id="endless-number"),
        pytest.param("a: \x00\n", "not valid YAML", id="nul-character"),
    ],
)
def test_file_that_is_no_mapping_is_refused(
    text: str, message: str, trial_file: Callable[[str], Path]
) -> None:
    path = trial_file(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml_mapping(path)
    assert _one_line(caught).startswith(f"{path}:")


def test_file_that_is_not_utf8_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_bytes(b"task: caf\xe9\n")
    with pytest.raises(ConfigError, match="byte 9 is not UTF-8"):
        read_yaml_mapping(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file"):
        read_yaml_mapping(tmp_path / "absent.yaml")


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml_mapping(tmp_path)


@pytest.mark.parametrize(
    ("text", "key", "suggestion"),
    [
        ("training: {epoch: 3}", "training.epoch", "epochs"),
        ("regularizer: {treshold: 0.3}", "regularizer.treshold", "threshold"),
        ("regulariser: {alpha: 0.3}", "regulariser", "regularizer"),
        ("training: {schedule: {steps: 3}}", "training.schedule.steps", "step"),
        (
            "robustness: {attacks: {gaussian: {max_eps: 0.1}}, reference: {gaussian: 0.1}}",
            "robustness.attacks.gaussian.max_eps",
            "max_epsilon",
        ),
    ],
)
def test_unknown_key_is_refused_with_a_suggestion(
    text: str, key: str, suggestion: str, trial_file: Callable[[str], Path]
) -> None:
    path = trial_file(f"{MINIMAL}{text}\n")
    with pytest.raises(ConfigError, match=f"{key}: unknown key") as caught:
        load_trial_config(path)
    assert f"did you mean {suggestion!r}?" in _one_line(caught)


def test_unknown_key_like_no_other_lists_what_is_allowed(
    trial_file: Callable[[str], Path],
) -> None:
    path = trial_file(MINIMAL + "zzz: 1\n")
    with pytest.raises(ConfigError, match="zzz: unknown key; allowed here: task, model, training"):
        load_trial_config(path)


def test_missing_key_is_named(trial_file: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"task\.dataset: required"):
        load_trial_config(trial_file("task: {}\n"))


def test_section_that_is_no_mapping_is_refused(trial_file: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"training: expected a mapping.*the text 'fast'"):
        load_trial_config(trial_file(MINIMAL + "training: fast\n"))


def test_rule_over_two_fields_names_their_section(trial_file: Callable[[str], Path]) -> None:
    path = trial_file(MINIMAL + "training: {schedule: {step: 0.5, restart: 0.1}}\n")
    with pytest.raises(ConfigError, match=r"training\.schedule: restart \(0\.1\)"):
        load_trial_config(path)


def test_rule_over_the_whole_trial_names_both_keys(trial_file: Callable[[str], Path]) -> None:
    path = trial_file(MINIMAL + "training: {augmentation: {crop_padding: 99}}\n")
    with pytest.raises(ConfigError, match=r"crop_padding \(99\).*task\.image_size \(16\)"):
        load_trial_config(path)


def test_number_of_further_problems_is_told(trial_file: Callable[[str], Path]) -> None:
    path = trial_file(MINIMAL + "training: {epochs: 0, batch_size: 0, momentum: 3}\n")
    with pytest.raises(ConfigError, match=r"\(and 2 more\)$"):
        load_trial_config(path)


def test_override_replaces_a_value_of_the_file(trial_file: Callable[[str], Path]) -> None:
    path = trial_file(MINIMAL + "training: {epochs: 7}\n")
    assert load_trial_config(path, ["training.epochs=3"]).training.epochs == 3


def test_last_override_wins(trial_file: Callable[[str], Path]) -> None:
    path = trial_file(MINIMAL)
    assert load_trial_config(path, ["seed=3", "seed=4"]).seed == 4


def test_override_beats_the_protocol(trial_file: Callable[[str], Path]) -> None:
    path = trial_file(MINIMAL)
    assert load_trial_config(path, ["regularizer.alpha=0.25"]).regularizer.alpha == 0.25


def test_unknown_key_of_an_override_is_refused(trial_file: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"training\.epoch: unknown key"):
        load_trial_config(trial_file(MINIMAL), ["training.epoch=3"])


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


@pytest.mark.parametrize("text", ["seed", "=3", " = 3", ""])
def test_override_without_key_or_equals_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected key=value"):
        parse_override(text)


def test_override_with_a_broken_value_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"--set model\.blocks: .*not valid YAML"):
        parse_override("model.blocks=[1")


def test_set_dotted_makes_the_parents_that_are_missing() -> None:
    tree: dict[str, Any] = {"a": 1}
    set_dotted(tree, "b.c.d", 5, "here")
    assert tree == {"a": 1, "b": {"c": {"d": 5}}}


@pytest.mark.parametrize(
    ("tree", "found"),
    [({"a": {"b": 3}}, "the number 3"), ({"a": {"b": None}}, "nothing")],
)
def test_set_dotted_refuses_to_replace_a_value_by_a_mapping(
    tree: dict[str, Any], found: str
) -> None:
    with pytest.raises(ConfigError, match=rf"here: a\.b is {found}, so a\.b\.c cannot be set"):
        set_dotted(tree, "a.b.c", 5, "here")


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
        "list": [
            "parquet:/home/someone/images",
            "parquet:/images",
            "parquet:",
            "digits",
            3,
        ],
    }


def test_two_spellings_of_one_folder_are_one_configuration(
    trial_file: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = load_trial_config(trial_file("task: {dataset: 'parquet:images'}\n"))
    absolute = load_trial_config(
        trial_file(f"task: {{dataset: 'parquet:{tmp_path}{os.sep}images{os.sep}'}}\n")
    )
    assert relative.digest() == absolute.digest()


def test_bug_of_our_own_is_not_blamed_on_the_user() -> None:
    def broken(data: object) -> TrialConfig:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        validated(broken, {}, TrialConfig, "here")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        ({}, "a mapping"),
        ([1], "a list"),
        ("x", "the text 'x'"),
        (True, "the truth value True"),
        (3, "the number 3"),
        (0.5, "the number 0.5"),
    ],
)
def test_values_are_described_in_words(value: Any, text: str) -> None:
    assert describe(value) == text


def test_every_configuration_survives_a_yaml_file(
    trial_file: Callable[[str], Path], tiny_config: Callable[..., TrialConfig]
) -> None:
    config = tiny_config({"training.learning_rate": 0.00001})
    path = trial_file(yaml.safe_dump(config.to_dict()))
    assert load_trial_config(path) == config
