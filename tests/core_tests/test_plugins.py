from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.errors import ConfigError
from simreg_core.plugins import Option, announcing, check_options, load_function, source_digest
from simreg_core.robustness.attack import AttackInput, Perturbation, check_attacks
from simreg_core.seeding import generator
from tests.core_tests.measuring import attack

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
def test_plugin_in_the_working_directory_attacks_and_is_clipped() -> None:
    perturbed = attack("own_attacks:stripes", _batch(), {"period": 4})(0.2)
    expected = torch.full((3, 1, 4, 4), 0.5)
    expected[:, :, 0] = 0.7
    torch.testing.assert_close(perturbed, expected)
    clipped = attack("own_attacks:stripes", _batch(), {"strength": -9.0})(0.2)
    assert float(clipped.min()) == 0


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("wrong_shape", r"\(1, 1, 4, 4\)"),
        ("not_a_number", "not finite"),
        ("no_tensor", "found list"),
        ("no_function", "returned Tensor"),
        ("raises", "boom here$"),
        ("raises_late", "division by zero"),
        ("leaves", "system exit 3$"),
    ],
)
def test_plugin_that_gives_no_images_is_named_in_one_line(function: str, message: str) -> None:
    name = f"own_attacks:{function}"
    with pytest.raises(ConfigError, match=rf"^attack {name}: .*{message}") as caught:
        attack(name, _batch())(0.1)
    assert "\n" not in str(caught.value)
    with pytest.raises(MemoryError):  # passed on
        attack("own_attacks:no_memory", _batch())


@pytest.mark.usefixtures("plugin")
def test_plugin_cannot_change_what_the_others_are_given() -> None:
    surrogate = nn.Linear(4, 2).eval()
    weights = surrogate.weight.tolist()
    batch = _batch()._replace(labels=torch.arange(3), surrogate=surrogate)
    attack("own_attacks:writes", batch)(0.3)
    assert batch.labels.tolist() == [0, 1, 2]
    assert torch.equal(batch.images, _batch().images)
    assert surrogate.weight.tolist() == weights
    assert not surrogate.training


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("own_attacks:stripes", {}),
        ("own_attacks:stripes", {"period": 3, "strength": 0.5}),
        ("own_attacks:any_option", {"whatever": "text", "more": True}),
        ("own_attacks:needs", {"strength": 1}),
        ("gaussian", {}),
    ],
)
def test_right_options_pass(name: str, options: dict[str, Any]) -> None:
    config = _config(name, **options)
    check_attacks(config)
    perturbed = attack(name, _batch(), config.attacks[name].options)(0.2)
    assert perturbed.shape == _batch().images.shape


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "options", "found"),
    [
        ("gaussian", {"sigma": 1.0}, r"\.options\.sigma: .*none"),
        ("own_attacks:stripes", {"phase": 1}, r"\.options\.phase: .*period, strength"),
        ("own_attacks:stripes", {"period": 1.5}, r"\.options\.period: .*1\.5"),
        ("own_attacks:stripes", {"strength": "x"}, r"\.options\.strength: .*'x'"),
        ("own_attacks:needs", {}, r"\.options\.strength: required"),
        ("own_attacks:no_batch", {}, ".*first argument"),
        ("own_attacks:absent", {}, ".*'absent'; it has: stripes, any_option"),
        ("own_attacks:constant", {}, ".*'constant'"),
        ("absent:attack", {}, ".*'absent' cannot be imported"),
    ],
)
def test_wrong_plugins_and_options_are_refused_by_their_key(
    name: str, options: dict[str, Any], found: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^robustness\.attacks\.{name}:?{found}") as caught:
        check_attacks(_config(name, **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["1 / 0", "import sys; sys.exit(3)"])
def test_module_that_fails_on_import_is_refused(source: str, plugin: Path) -> None:
    plugin.with_name("broken.py").write_text(source)
    with pytest.raises(
        ConfigError, match=r"'broken' cannot be imported \((division by zero|system exit 3)"
    ):
        load_function("broken:attack")


def test_digest_is_that_of_the_source_file(plugin: Path) -> None:
    plugin.write_text(SOURCE + "\nimport functools\npartial = functools.partial(stripes)\n")
    before = source_digest("own_attacks:stripes")
    assert source_digest("own_attacks:any_option") == source_digest("own_attacks:partial") == before
    plugin.write_text(SOURCE + "\n# edited\n")
    assert source_digest("own_attacks:stripes") != before
    plugin.unlink()
    with pytest.raises(ConfigError, match=r"^own_attacks:stripes: .*cannot be read"):
        source_digest("own_attacks:stripes")
    # Compiled and frozen modules have none.
    assert source_digest("math:sqrt") == source_digest("os:fsencode") == source_digest("math:cos")


@pytest.mark.parametrize(
    ("annotation", "fitting", "other"),
    [
        (Literal["row", "column"], "column", "edge"),
        (int | None, 2, "x"),
        (int | str, "x", 1.5),
        (object, True, None),
    ],
)
def test_annotations_say_what_fits(annotation: Any, fitting: Option, other: Any) -> None:
    def own(batch: AttackInput, value: Any = None) -> Perturbation:
        raise NotImplementedError

    own.__annotations__["value"] = annotation
    check_options(own, {"value": fitting}, "own", "key")
    wrong = {"values": True} if other is None else {"value": other}
    with pytest.raises(ConfigError, match=rf"^key\.{next(iter(wrong))}: "):
        check_options(own, wrong, "own", "key")


@pytest.mark.parametrize("name", ["own_module:run", "own_package.inner:run"])
def test_files_are_announced_before_they_are_imported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    ran = tmp_path / "ran"
    source = f"open({str(ran)!r}, 'w').close()\n\ndef run(): ...\n"
    (tmp_path / "own_package").mkdir()
    files = ["own_module.py"]
    if "." in name:
        files = ["own_package/__init__.py", "own_package/inner.py"]
    for file in files:
        (tmp_path / file).write_text(source)
    lines = []

    def show(line: str) -> None:
        lines.append(line)
        assert not ran.exists()

    with announcing(show):
        load_function(name)
        load_function(name)
    assert ran.exists()
    assert lines == [f"importing {tmp_path / file}, for {name}" for file in files]
    for module in ("own_module", "own_package", "own_package.inner"):
        sys.modules.pop(module, None)
