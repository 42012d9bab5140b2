from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simreg_core.registry import ATTACKS
from simreg_core.results.schema import SPLITS
from simreg_core.seeding import derive_seed, generator, global_rng

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.text(), st.lists(st.integers(0, 1000), max_size=2))
def test_seed_is_a_63_bit_function_of_its_arguments(
    root: int, stream: str, counters: list[int]
) -> None:
    seed = derive_seed(root, stream, *counters)
    assert 0 <= seed < 2**63
    assert seed == derive_seed(root, stream, *counters)


def test_seeds_of_streams_roots_and_epochs_are_all_different() -> None:
    names = ["batches", "augmentation", "pairs", "weights", "split", "surrogate"]
    names += [f"{attack} on {split}" for attack in ATTACKS.own for split in SPLITS]
    drawn = [derive_seed(*place) for place in product(range(20), names, range(20))]
    assert len(set(drawn)) == len(drawn)


def test_generators_draw_the_numbers_of_their_stream_and_leave_the_global_one_alone() -> None:
    before = torch.random.get_rng_state()
    draws = [torch.rand(8, generator=generator(3, "pairs", 5)) for _ in range(2)]
    assert torch.equal(*draws)
    assert torch.equal(torch.random.get_rng_state(), before)
    for root, stream, counter in ((4, "pairs", 5), (3, "batches", 5), (3, "pairs", 6)):
        other = torch.rand(8, generator=generator(root, stream, counter))
        assert not torch.equal(draws[0], other)


def test_global_rng_is_seeded_inside_and_restored_behind_errors_too() -> None:
    def draw() -> None:
        draws.append(torch.rand(4))
        raise KeyError("inside")

    before, draws = torch.random.get_rng_state(), list[torch.Tensor]()
    for _ in range(2):
        with pytest.raises(KeyError, match="inside"), global_rng(5):
            draw()
    assert torch.equal(*draws)
    assert torch.equal(torch.random.get_rng_state(), before)
