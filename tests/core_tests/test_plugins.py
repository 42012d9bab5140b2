from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.errors import ConfigError
from simreg_core.plugins import check_options, load_function, source_digest
from simreg_core.robustness.attack import AttackInput, Perturbation, check_attacks, prepare
from simreg_core.seeding import generator

SOURCE = """
import torch

def stripes(batch, *, period: int = 2, strength=1.0):
    rows = (torch.arange(batch.images.shape[2]) % period == 0).float()[:, None]
    return lambda epsilon: batch.images + strength * epsilon * rows

def any_option(batch, **options):
    return lambda epsilon: batch.images

def no_batch():
    return None

def no_function(batch):
    return batch.images

def wrong_shape(batch):
    return lambda epsilon: batch.images[:1]

def not_a_number(batch):
    return lambda epsilon: batch.images * float("nan")

def no_tensor(batch):
    return lambda epsilon: [epsilon]

def needs(batch, strength: float):
    return lambda epsilon: batch.images

def writes(batch):
    batch.labels.zero_()
    batch.surrogate.train()
    for parameter in batch.surrogate.parameters():
        parameter.data.zero_()
    return lambda epsilon: batch.images.add_(epsilon)

def raises(batch):
    raise ValueError("boom\\nhere")

def raises_late(batch):
    return lambda epsilon: 1 / 0

def leaves(batch):
    raise SystemExit(3)

def two_arguments(batch):
    return lambda one, other: batch.images

def no_memory(batch):
    raise MemoryError

constant = 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is the working directory and holds a module ``own_attacks``."""
    path = tmp_path / "own_attacks.py"
    path.write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield path
    for name in ("own_attacks", "broken"):
        sys.modules.pop(name, None)


def _config(name: str, **options: Any) -> RobustnessConfig:
    return RobustnessConfig.model_validate(
        {"attacks": {name: {"max_epsilon": 0.2, "options": options}}, "reference": {name: 0.2}}
    )


def _batch() -> AttackInput:
    images = torch.full((3, 1, 4, 4), 0.5)
    return AttackInput(images, torch.zeros(3, dtype=torch.int64), generator(0, "n"), nn.Flatten())


@pytest.mark.usefixtures("plugin")
def test_plugin_in_the_working_directory_attacks() -> None:
    perturbed = prepare("own_attacks:stripes", _batch(), {"period": 4})(0.2)
    expected = torch.full((3, 1, 4, 4), 0.5)
    expected[:, :, 0] = 0.7
    torch.testing.assert_close(perturbed, expected)


@pytest.mark.usefixtures("plugin")
def test_plugin_is_clipped_like_any_attack() -> None:
    perturbed = prepare("own_attacks:stripes", _batch(), {"strength": -9.0})(0.2)
    assert float(perturbed.min()) == 0


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("wrong_shape", r"expected images of shape \(3, 1, 4, 4\), found \(1, 1, 4, 4\)"),
        ("not_a_number", "values that are not finite"),
        ("no_tensor", "expected a tensor of images, found list"),
        ("no_function", "must return a function of epsilon, returned Tensor"),
    ],
)
def test_plugin_that_returns_no_images_is_named(function: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"attack own_attacks:{function}: .*{message}"):
        prepare(f"own_attacks:{function}", _batch())(0.1)


@pytest.mark.usefixtures("plugin")
def test_plugin_cannot_change_what_the_others_are_given() -> None:
    surrogate = nn.Linear(4, 2).eval()
    weights = surrogate.weight.tolist()
    batch = _batch()._replace(labels=torch.arange(3), surrogate=surrogate)
    prepare("own_attacks:writes", batch)(0.3)
    assert batch.labels.tolist() == [0, 1, 2]
    assert torch.equal(batch.images, _batch().images)
    assert surrogate.weight.tolist() == weights
    assert not surrogate.training


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", "ValueError: boom here"),
        ("raises_late", "ZeroDivisionError: division by zero"),
        ("leaves", "SystemExit: 3"),
        ("two_arguments", "TypeError: .* missing 1 required positional argument: 'other'"),
    ],
)
def test_plugin_that_raises_is_one_line(function: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^attack own_attacks:{function}: {message}$"):
        prepare(f"own_attacks:{function}", _batch())(0.1)


@pytest.mark.usefixtures("plugin")
def test_memory_that_ran_out_in_a_plugin_is_passed_on() -> None:
    with pytest.raises(MemoryError):
        prepare("own_attacks:no_memory", _batch())


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("own_attacks:stripes", {}),
        ("own_attacks:stripes", {"period": 3, "strength": 0.5}),
        ("own_attacks:stripes", {"strength": 2.0}),
        ("own_attacks:any_option", {"whatever": "text", "more": True}),
        ("own_attacks:needs", {"strength": 1}),
        ("gaussian", {}),
    ],
)
def test_right_options_pass(name: str, options: dict[str, Any]) -> None:
    config = _config(name, **options)
    check_attacks(config)
    perturbed = prepare(name, _batch(), config.attacks[name].options)(0.2)
    assert perturbed.shape == _batch().images.shape


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "gaussian",
            {"sigma": 1.0},
            r"^robustness\.attacks\.gaussian\.options\.sigma: unknown option; gaussian takes none$",
        ),
        (
            "own_attacks:stripes",
            {"phase": 1},
            r"\.options\.phase: unknown option; own_attacks:stripes takes period, strength$",
        ),
        (
            "own_attacks:stripes",
            {"period": 1.5},
            r"^robustness\.attacks\.own_attacks:stripes\.options\.period: "
            r"expected a whole number, found the number 1\.5$",
        ),
        ("own_attacks:stripes", {"period": True}, "expected a whole number, found the truth value"),
        ("own_attacks:stripes", {"strength": "x"}, "expected a number, found the text 'x'"),
        ("own_attacks:needs", {}, r"\.options\.strength: required by own_attacks:needs"),
        ("own_attacks:no_batch", {}, "must take the batch as its first argument"),
        (
            "own_attacks:absent",
            {},
            r"^robustness\.attacks\.own_attacks:absent: module 'own_attacks' has no function "
            r"'absent'; it has: stripes, any_option",
        ),
        ("own_attacks:constant", {}, "has no function 'constant'"),
        ("absent:attack", {}, r"^robustness\.attacks\.absent:attack: module 'absent' cannot be"),
    ],
)
def test_wrong_plugins_and_options_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_attacks(_config(name, **options))
    assert "\n" not in str(caught.value)


def test_module_that_fails_on_import_is_told(plugin: Path) -> None:
    plugin.with_name("broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"'broken' cannot be imported \(ZeroDivisionError: "):
        load_function("broken:attack")


def test_module_that_exits_on_import_is_told(plugin: Path) -> None:
    plugin.with_name("broken.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(ConfigError, match=r"'broken' cannot be imported \(SystemExit: 3\)"):
        load_function("broken:attack")


@pytest.mark.parametrize("name", ["math:sqrt", "os:fsencode"], ids=["compiled", "frozen"])
def test_plugin_without_a_file_has_one_digest(name: str) -> None:
    assert source_digest(name) == source_digest("math:cos")


def test_object_that_can_be_called_has_the_digest_of_its_module(plugin: Path) -> None:
    plugin.write_text(SOURCE + "\nimport functools\npartial = functools.partial(stripes)\n")
    assert source_digest("own_attacks:partial") == source_digest("own_attacks:stripes")


def test_plugin_whose_file_is_gone_is_told(plugin: Path) -> None:
    load_function("own_attacks:stripes")
    plugin.unlink()
    with pytest.raises(
        ConfigError, match=r"^own_attacks:stripes: .*own_attacks\.py cannot be read"
    ):
        source_digest("own_attacks:stripes")


def test_edited_plugin_has_another_digest(plugin: Path) -> None:
    before = source_digest("own_attacks:stripes")
    assert source_digest("own_attacks:any_option") == before
    plugin.write_text(SOURCE + "\n# edited\n")
    assert source_digest("own_attacks:stripes") != before


def _literal(batch: AttackInput, kind: Literal["row", "column"] = "row") -> Perturbation:
    raise NotImplementedError


def _optional(batch: AttackInput, size: int | None = None) -> Perturbation:
    raise NotImplementedError


def _either(batch: AttackInput, value: int | str = 1) -> Perturbation:
    raise NotImplementedError


def _free(batch: AttackInput, value: object = None) -> Perturbation:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "fitting", "other", "message"),
    [
        (
            _literal,
            {"kind": "column"},
            {"kind": "edge"},
            r"\.kind: expected 'row' or 'column', found",
        ),
        (_optional, {"size": 2}, {"size": "x"}, r"\.size: expected a whole number, found"),
        (
            _either,
            {"value": "x"},
            {"value": 1.5},
            r"\.value: expected a whole number or text, found",
        ),
        (_free, {"value": True}, {"values": True}, r"\.values: unknown option; own takes value"),
    ],
)
def test_annotations_say_what_fits(
    function: Callable[..., Any], fitting: dict[str, Any], other: dict[str, Any], message: str
) -> None:
    check_options(function, fitting, "own", "key")
    with pytest.raises(ConfigError, match=f"^key{message}"):
        check_options(function, other, "own", "key")


def test_example_of_the_readme_attacks(plugin: Path) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(  import torch.*?)```", readme, flags=re.DOTALL)
    plugin.write_text(textwrap.dedent(code))
    name = "own_attacks:stripes"
    check_attacks(_config(name, period=2))
    perturbed = prepare(name, _batch(), {"period": 2})(0.2)
    change = (perturbed - 0.5).abs()
    torch.testing.assert_close(change[:, :, ::2], torch.full((3, 1, 2, 4), 0.2))
    assert float(change[:, :, 1::2].max()) == 0
