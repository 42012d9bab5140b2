"""What a task's dataset holds, in a few lines."""

from __future__ import annotations

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.config.trial import TaskConfig
from simreg_core.data.listing import printable
from simreg_core.data.registry import load_dataset
from simreg_core.data.task import TaskData
from simreg_core.errors import counted
from simreg_core.registry import DATASETS

LEFT_OUT = "left out"
MISSING = "missing"
_NUM_LISTED = 10  # classes with a number of images each


def describe_data(data: TaskData) -> dict[str, str]:
    """Label to text: the classes, and the images per class and split."""
    known = data.info.class_names
    names = [printable(n) for n in (*known, *map(str, range(len(known), data.num_classes)))]
    counts = {
        name: data.split(name).labels.bincount(minlength=data.num_classes).tolist()
        for name in ("train", "validation", "test")
    }
    is_short = len(names) <= _NUM_LISTED
    shown = ", ".join(names if is_short else [*names[:3], "...", names[-1]])
    lines = {"classes": f"{len(names)}: {shown}"}
    for split, numbers in counts.items():
        text = f"{counted(sum(numbers), 'image')}: "
        if is_short:
            text += ", ".join(f"{name} {n:,}" for name, n in zip(names, numbers, strict=True))
        else:
            fewest, most = min(numbers), max(numbers)
            few, many = names[numbers.index(fewest)], names[numbers.index(most)]
            is_even = fewest == most
            text += f"{fewest:,}" if is_even else f"{fewest:,} ({few}) to {most:,} ({many})"
            text += " per class"
        lines[split] = text
    lacking = []
    for split, numbers in counts.items():
        if absent := [name for name, n in zip(names, numbers, strict=True) if not n]:
            more = ", ..." if len(absent) > 3 else ""
            lacking.append(f"no {split} images of {', '.join(absent[:3])}{more}")
    if lacking:
        lines[MISSING] = "; ".join(lacking)
    if data.info.label_column:
        lines["labels"] = data.info.label_column
    if data.info.left_out:
        lines[LEFT_OUT] = data.info.left_out
    return lines


def describe_regularization(config: RegularizerConfig, task: TaskConfig) -> dict[str, str]:
    """Label to text of the files that a regularization dataset of its own leaves out."""
    known = DATASETS.known.get(config.dataset.partition(":")[0])
    if config.dataset == task.dataset or known is None or not known.argument:
        return {}
    pool = load_dataset(
        config.dataset, color=task.color, size=task.image_size, key="regularizer.dataset", limit=1
    )
    left_out = pool.info.left_out
    return {f"{LEFT_OUT} of {config.dataset}": left_out} if left_out else {}
