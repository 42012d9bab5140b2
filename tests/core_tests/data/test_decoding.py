"""A decoded image shows what its file shows, or is refused by its name."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from simreg_core.config.trial import TaskConfig
from simreg_core.data.registry import load_dataset
from simreg_core.data.task import load_task
from simreg_core.errors import ConfigError
from tests.core_tests.data.saved_files import save_dataset

# Covers 0 to 255 unevenly, without a symmetry.
DRAWING = (np.arange(48).reshape(6, 8) ** 2 % 256).astype(np.uint8)
DRAWING[0, :2] = 0, 255

Pixels = NDArray[Any]
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes an image as ``a/NAME``; returns the folder of the dataset."""

    def write(image: Image.Image | Pixels, name: str, **options: Any) -> Path:
        path = tmp_path / "set" / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
        return tmp_path / "set"

    return write


def _load(root: Path, *, color: bool = False, **request: Any) -> Tensor:
    options = {"color": color, "size": None, "key": "task.dataset", **request}
    return load_dataset(f"folder:{root}", **options).images


# Wide values

WIDE: dict[str, Pixels] = {
    "int32-8-bits": DRAWING.astype(np.int32),
    "int32-16-bits": DRAWING.astype(np.int32) * 257,
    "int32-24-bits": DRAWING.astype(np.int32) << 16,
    "int32-signed": DRAWING.astype(np.int32) * 10 - 1000,
    "uint16": DRAWING.astype(np.uint16) * 257,
    "uint16-big-endian": (DRAWING.astype(np.uint16) * 257).astype(">u2"),
    "uint16-12-bits": DRAWING.astype(np.uint16) * 16 + 15,
    "uint16-10-bits": DRAWING.astype(np.uint16) * 4,
    "uint16-8-bits": DRAWING.astype(np.uint16),
    "float-to-1": DRAWING.astype(np.float32) / 255,
    "float-to-255": DRAWING.astype(np.float32),
    "float-tiny": DRAWING.astype(np.float32) * 1e-6,
    "float-signed": DRAWING.astype(np.float32) / 10 - 7,
}


@pytest.mark.parametrize("color", [False, True], ids=["grey", "color"])
@pytest.mark.parametrize("values", WIDE.values(), ids=WIDE)
def test_wide_values_are_shown_by_their_real_range(values: Pixels, color: bool, save: Save) -> None:
    (image,) = _load(save(values, "1.tif"), color=color)
    for channel in image:
        np.testing.assert_array_equal(channel.numpy(), DRAWING)


@pytest.mark.parametrize(("highest", "factor"), [(1, 255), (3, 85), (15, 17), (200, 1)])
def test_few_levels_are_spread_as_formats_of_few_bits_do(
    highest: int, factor: int, save: Save
) -> None:
    values = (np.arange(48).reshape(6, 8) % (highest + 1)).astype(np.int32)
    values[0, 0] = highest
    (image,) = _load(save(values, "1.tif"))
    np.testing.assert_array_equal(image[0].numpy(), values * factor)


def test_all_images_of_a_dataset_have_one_range(save: Save, tmp_path: Path) -> None:
    for number, part in enumerate((1, 2, 4)):
        root = save((DRAWING // part).astype(np.uint16) * 16, f"{number}.png")
    whole = _load(root)
    for image, part in zip(whole, (1, 2, 4), strict=True):
        np.testing.assert_array_equal(image[0].numpy(), DRAWING // part)
    for seed in range(4):  # also if only one of them is asked for
        (one,) = _load(root, limit=1, seed=seed)
        assert any(torch.equal(one, image) for image in whole)


def test_test_images_share_the_range_of_the_training_images(save: Save, tmp_path: Path) -> None:
    for split, part in (("train", 1), ("test", 2)):
        save(DRAWING.astype(np.float32) / part, f"{split}.tif")
        (tmp_path / "set" / split / "a").mkdir(parents=True)
        (tmp_path / "set" / "a" / f"{split}.tif").rename(tmp_path / "set" / split / "a" / "1.tif")
    (tmp_path / "set" / "a").rmdir()
    pool = load_dataset(f"folder:{tmp_path / 'set'}", color=False, size=None, key="k")
    assert pool.test is not None
    expected = torch.from_numpy(np.rint(DRAWING / 2).astype(np.uint8))
    assert torch.equal(pool.test.images[0, 0], expected)


def test_integers_become_what_the_same_8_bit_images_are(save: Save) -> None:
    root = save(DRAWING.astype(np.int32), "1.tif")
    save(DRAWING, "2.png")
    first, second = _load(root)
    assert torch.equal(first, second)


def test_16_bit_colors_of_12_bits_are_refused_and_full_ones_shown(
    tmp_path: Path, save: Save
) -> None:
    def png(values: Pixels) -> bytes:
        def chunk(kind: bytes, data: bytes) -> bytes:
            check = zlib.crc32(kind + data)
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        header = struct.pack(">2I5B", 8, 6, 16, 2, 0, 0, 0)
        parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    colors = np.stack([DRAWING] * 3, axis=-1).astype(np.uint16)
    path = save(DRAWING, "1.png") / "a" / "1.png"
    path.write_bytes(png(colors * 257))
    np.testing.assert_array_equal(_load(path.parents[1])[0, 0].numpy(), DRAWING)
    path.write_bytes(png(colors * 16))
    with pytest.raises(ConfigError, match=r"^task\.dataset: .*set/a/1\.png .*12 bits"):
        _load(path.parents[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float, save: Save) -> None:
    values = DRAWING.astype(np.float32)
    values[3, 3] = value
    with pytest.raises(ConfigError, match=r"^task\.dataset: .*set/a/1\.tif .*not finite"):
        _load(save(values, "1.tif"))


# Transparency


def _transparent(mode: str) -> Image.Image:
    """The drawing in the alpha channel, black on nothing."""
    black, alpha = Image.new("L", (8, 6)), Image.fromarray(DRAWING)
    if mode == "LA":
        return Image.merge("LA", [black, alpha])
    return Image.merge("RGBA", [black, black, black, alpha])


@pytest.mark.parametrize("color", [False, True], ids=["grey", "color"])
@pytest.mark.parametrize("name", ["1.png", "1.tif", "1.webp"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_image_is_composited_on_white(
    mode: str, name: str, color: bool, save: Save
) -> None:
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    (image,) = _load(save(_transparent(mode), name, **options), color=color)
    for channel in image:
        np.testing.assert_array_equal(channel.numpy(), 255 - DRAWING)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [*((mode, "png") for mode in ("P", "L", "RGB", "1")), ("P", "gif"), ("L", "gif")],
)
def test_transparent_color_is_white(mode: str, suffix: str, save: Save) -> None:
    black = DRAWING > 127
    values = np.where(black, 0, 255 if mode == "1" else 9).astype(np.uint8)
    image = Image.fromarray(values).convert(mode, dither=Image.Dither.NONE)
    if mode == "P":
        image.putpalette([0, 0, 0] * 256)
    transparent: Any = {"RGB": (9, 9, 9), "1": 255}.get(mode, 9)
    (found,) = _load(save(image, f"1.{suffix}", transparency=transparent))
    np.testing.assert_array_equal(found[0].numpy(), np.where(black, 0, 255))


def test_opaque_image_with_an_alpha_channel_is_not_changed(save: Save) -> None:
    image = Image.fromarray(DRAWING)
    image.putalpha(255)
    np.testing.assert_array_equal(_load(save(image, "1.png"))[0, 0].numpy(), DRAWING)


def test_drawing_that_vanishes_on_white_is_refused(save: Save) -> None:
    white, alpha = Image.new("L", (8, 6), 255), Image.fromarray(DRAWING)
    root = save(Image.merge("RGBA", [white, white, white, alpha]), "1.png")
    with pytest.raises(ConfigError, match=r"^task\.dataset: .*set/a/1\.png .*white"):
        _load(root)


def test_blank_transparent_image_is_white(save: Save) -> None:
    assert _load(save(Image.new("RGBA", (8, 6)), "1.png")).unique().tolist() == [255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
@pytest.mark.parametrize("color", [False, True], ids=["grey", "color"])
def test_other_modes_are_what_pillow_makes_of_them(mode: str, color: bool, save: Save) -> None:
    image = Image.fromarray(DRAWING).convert(mode)
    (found,) = _load(save(image, "1.tif"), color=color)
    expected = np.array(image.convert("RGB" if color else "L"))
    shown = found.permute(1, 2, 0).numpy() if color else found[0].numpy()
    assert np.abs(shown.astype(int) - expected).max() <= (2 if mode == "YCbCr" else 0)


# Orientation

SEEN = {  # what a viewer shows for every orientation of the stored pixels
    1: DRAWING,
    2: DRAWING[:, ::-1],
    3: DRAWING[::-1, ::-1],
    4: DRAWING[::-1],
    5: DRAWING.T,
    6: np.rot90(DRAWING, -1),
    7: DRAWING[::-1, ::-1].T,
    8: np.rot90(DRAWING),
    9: DRAWING,  # not defined
}


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("values", [DRAWING, DRAWING.astype(np.uint16) * 257], ids=["8", "16"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", SEEN)
def test_image_stands_upright(orientation: int, suffix: str, values: Pixels, save: Save) -> None:
    root = save(values, f"1.{suffix}", exif=_exif(orientation))
    np.testing.assert_array_equal(_load(root)[0, 0].numpy(), SEEN[orientation])


@pytest.mark.parametrize("kind", ["folder", "parquet"])
@pytest.mark.parametrize("orientation", SEEN)
def test_photograph_of_a_phone_stands_upright(orientation: int, kind: str, tmp_path: Path) -> None:
    dark_left = np.zeros((16, 32), np.uint8)
    dark_left[:, 16:] = 255
    stream = io.BytesIO()
    image = Image.fromarray(dark_left).convert("RGB")
    image.save(stream, "JPEG", exif=_exif(orientation), quality=95)
    if kind == "folder":
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "1.jpg").write_bytes(stream.getvalue())
    else:
        table = pa.table({"image": [{"bytes": stream.getvalue()}]})
        pq.write_table(table, tmp_path / "train.parquet")
    pool = load_dataset(f"{kind}:{tmp_path}", color=False, size=None, key="k")
    is_bright = pool.images[0, 0].numpy() > 127
    turned: dict[int, Any] = {2: np.s_[:, ::-1], 3: np.s_[::-1, ::-1], 4: np.s_[::-1]}
    expected = dark_left > 127
    if orientation in turned:
        expected = expected[turned[orientation]]
    elif orientation in (5, 6):  # the left side as stored is the top
        expected = expected.T
    elif orientation in (7, 8):
        expected = expected.T[::-1]
    np.testing.assert_array_equal(is_bright, expected)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(40)]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_exif_is_ignored(exif: bytes, save: Save) -> None:
    root = save(DRAWING, "1.jpg", exif=exif, quality=100)
    assert _load(root).shape == (1, 1, 6, 8)


# Several images in a file


@pytest.mark.parametrize("name", ["1.gif", "1.tif", "1.png", "1.webp"])
def test_file_of_several_images_is_refused(name: str, save: Save) -> None:
    more = [Image.fromarray(DRAWING[::-1])]
    root = save(Image.fromarray(DRAWING), name, save_all=True, append_images=more)
    with pytest.raises(ConfigError, match=rf"^task\.dataset: .*set/a/{name} .*allowed: one"):
        _load(root)


def test_photograph_with_a_preview_is_read(save: Save) -> None:
    preview = Image.fromarray(DRAWING).resize((4, 3))
    options = {"format": "MPO", "save_all": True, "append_images": [preview]}
    assert _load(save(Image.fromarray(DRAWING), "1.jpg", **options)).shape == (1, 1, 6, 8)


# Equal images


@pytest.mark.parametrize("kind", ["folder", "parquet", "arrow"])
def test_photographs_of_every_kind_are_shown_in_every_layout(kind: str, tmp_path: Path) -> None:
    opaque = Image.fromarray(np.full_like(DRAWING, 255))
    drawing = Image.fromarray(DRAWING)
    wide = Image.fromarray(DRAWING.astype(np.uint16) * 257)
    smooth = Image.fromarray(np.tile(np.linspace(0, 255, 8).astype(np.uint8), (6, 1)))
    jpeg = {"quality": 100, "subsampling": 0}
    stored: list[tuple[Image.Image, str, dict[str, Any], Pixels]] = [
        (smooth.convert("CMYK"), "jpeg", jpeg, np.array(smooth)),
        (drawing.convert("P"), "png", {}, DRAWING),
        (Image.merge("LA", (drawing, opaque)), "png", {}, DRAWING),
        (wide, "png", {}, DRAWING),
        (smooth.rotate(180), "jpeg", {"exif": _exif(3), **jpeg}, np.array(smooth)),
    ]
    encoded = []
    for image, suffix, options, _ in stored:
        stream = io.BytesIO()
        image.save(stream, suffix, **options)
        encoded.append(stream.getvalue())
    root = tmp_path / "set"
    if kind == "arrow":
        save_dataset(root, encoded, {}, {})
    else:
        (root / "a").mkdir(parents=True)
        for number, (data, (_, suffix, _, _)) in enumerate(zip(encoded, stored, strict=True)):
            (root / "a" / f"{number}.{suffix}").write_bytes(data)
        pq.write_table(pa.table({"img": [{"bytes": b} for b in encoded]}), root / "train.parquet")
    pool = load_dataset(f"{kind}:{root}", color=False, size=None, key="k")
    for image, (_, _, _, expected) in zip(pool.images, stored, strict=True):
        assert np.abs(image[0].numpy().astype(int) - expected).max() <= 3


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_equal_images_are_refused(kind: str, save: Save, tmp_path: Path, make_png: Any) -> None:
    for number in range(6):
        root = save(DRAWING, f"{number}.png")
        path = root / "b" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((root / "a" / f"{number}.png").read_bytes())
    if kind == "parquet":
        root = tmp_path
        images = [{"bytes": make_png(0)}] * 12
        pq.write_table(pa.table({"image": images, "label": [0, 1] * 6}), root / "train.parquet")
    name = f"{kind}:{root}"
    with pytest.raises(ConfigError, match=rf"^task\.dataset: {name}: all 12 images are equal"):
        load_task(TaskConfig(dataset=name, num_test=2, image_size=8))
