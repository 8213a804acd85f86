"""What a support holds, what it refuses, and which chunk answers."""

import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.support_set import SupportSet

LABELS, CHUNKS, SHOTS, CHANNELS, SIZE = 2, 4, 3, 2, (8, 16)


@pytest.fixture
def support():
    return SupportSet(LABELS, CHUNKS, SHOTS, CHANNELS, SIZE)


def image():
    return torch.randn(CHANNELS, *SIZE)


def test_buffers_of_fixed_shape_that_nnunets_pretraining_passes_over(support):
    shapes = {key: tuple(value.shape) for key, value in support.state_dict(prefix="support.").items()}
    places = (LABELS, CHUNKS, SHOTS)
    assert shapes == {
        "support.seg_layers.images": (*places, CHANNELS, *SIZE),
        "support.seg_layers.masks": (*places, *SIZE),
        "support.seg_layers.exists": places,
        "support.seg_layers.positions": places,
    }
    assert not list(support.parameters())


def test_a_slice_lies_where_it_was_put_and_nowhere_else_until_all_is_cleared(support):
    shown, mask = image(), 7 * torch.eye(*SIZE, dtype=torch.int64)
    support.put(1, 2, 0, shown, mask, position=0.25)
    assert support.exists.nonzero().tolist() == [[1, 2, 0]]
    assert torch.equal(support.images[1, 2, 0], shown)
    assert torch.equal(support.masks[1, 2, 0], torch.eye(*SIZE, dtype=torch.uint8))
    assert support.positions[1, 2, 0] == 0.25
    support.put(0, 3, 1, image(), mask)
    assert support.positions[0, 3, 1] == 3.5 / CHUNKS
    support.clear()
    assert not any(buffer.any() for buffer in support.buffers())


@pytest.mark.parametrize(
    "place, content, sentence",
    [
        ((2, 0, 0), {}, "the support has no label 2: it takes 0 to 1."),
        ((0, -1, 0), {}, "the support has no chunk -1: it takes 0 to 3."),
        ((0, 0, 3), {}, "the support has no shot 3: it takes 0 to 2."),
        ((0, 0, 0), {"image": torch.zeros(1, *SIZE)}, r"an image of the shape \[1, 8, 16\]: cut or pad it"),
        ((0, 0, 0), {"mask": torch.ones(16, 8)}, r"a mask of the shape \[16, 8\]: cut or pad it to \[8, 16\]"),
        ((1, 3, 2), {"image": torch.full((2, *SIZE), torch.nan)}, "label 1, chunk 3, shot 2 holds NaN or infinite"),
        ((0, 0, 0), {"mask": torch.zeros(SIZE)}, "has an empty mask: take a slice that shows the label."),
    ],
)  # fmt: skip
def test_what_it_refuses(support, place, content, sentence):
    with pytest.raises(XModalError, match=sentence):
        support.put(*place, **{"image": image(), "mask": torch.ones(SIZE), **content})
    assert not support.exists.any()


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_chunk_answers_as_a_search_finds_it(support, seed):
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(CHUNKS, SHOTS, generator=generator) < 0.4
    present[seed % CHUNKS, 0] = True
    for chunk, shot in present.nonzero().tolist():
        support.put(0, chunk, shot, image(), torch.ones(SIZE), torch.rand((), generator=generator).item())
    wanted = torch.rand(6, generator=generator)
    chunks = torch.randint(0, CHUNKS, (6,), generator=generator)

    def search(wanted, own):
        """Over all places that exist; of several as near the lowest chunk."""
        return min((abs(wanted - own(chunk, shot)), chunk) for chunk, shot in present.nonzero().tolist())[1]

    positions = support.positions[0]
    expected = [[search(position, lambda chunk, shot: positions[chunk, shot])] for position in wanted]
    assert support.answering(0, 6, position=wanted).tolist() == expected
    expected = [[search(number, lambda chunk, shot: chunk)] for number in chunks.tolist()]
    assert support.answering(0, 6, chunk=chunks).tolist() == expected
    assert support.answering(0, 6).tolist() == [list(range(CHUNKS))] * 6
