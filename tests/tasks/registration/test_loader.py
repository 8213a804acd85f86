"""Grids around organs: where they lie, what they hold, and who is named when there is none."""

import numpy as np
import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import sre, surface_points
from nnunet_xmodal.tasks.registration.loader import FixedStartsLoader, RegistrationLoader
from nnunet_xmodal.tasks.registration.surroundings import amid, voxels_around
from nnunet_xmodal.tasks.registration.training_cases import RegistrationCases

GRID = (12, 24, 20)
SPACING = (3.0, 1.5, 1.2)
SHAPE = (22, 40, 36)
BOXES = {"a": ((5, 10, 8), (13, 25, 20)), "b": ((9, 20, 15), (16, 33, 30)), "c": ((1, 2, 3), (8, 16, 15))}


class InMemory:
    """As much of nnU-Net's dataset as is asked for; values tell case and place."""

    source_folder = "nowhere"

    def __init__(self, boxes=BOXES, shape=SHAPE, old_shape=None, reader="sitk_stuff"):
        self.identifiers = list(boxes)
        self.cases = {}
        for number, (case, (low, high)) in enumerate(boxes.items()):
            data = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, *shape) + 1e6 * (number + 1)
            label = np.full((1, *shape), -1 if number % 2 else 0, np.int16)  # −1: outside, by nnU-Net
            label[0][tuple(map(slice, low, high))] = 1 + number % 2
            place = {"spacing": SPACING[::-1], "origin": (4.0, -7.0, 30.0), "direction": (0, 1, 0, 1, 0, 0, 0, 0, -1)}
            properties = {
                reader: place,
                "bbox_used_for_cropping": [[2, 2 + side] for side in shape],
                "shape_after_cropping_and_before_resampling": old_shape or shape,
            }
            self.cases[case] = data, label, None, properties

    def load_case(self, case):
        return self.cases[case]


def cases_of(dataset=None, labels=(1, 2)):
    return RegistrationCases(dataset or InMemory(), (0, 1, 2), GRID, labels)


@pytest.mark.parametrize("case", BOXES)
def test_the_grid_lies_around_the_centre_of_the_labels_bounding_box(case):
    on_grid = cases_of().cut(case)
    assert on_grid.fixed.shape == (1, *GRID) and on_grid.fixed.dtype == on_grid.moving.dtype == torch.float32
    inside = on_grid.label[0].nonzero()
    low, high = inside.amin(0), inside.amax(0)
    size = torch.tensor(BOXES[case][1]) - torch.tensor(BOXES[case][0])
    assert torch.equal(high - low + 1, size)
    assert ((low + high) / 2 - (torch.tensor(GRID) - 1) / 2).abs().max() <= 0.5


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (7.0, -6.0, 4.0), (-10.0, 10.0, -10.0)], ids=str)
def test_images_label_and_points_move_together(shift):
    cases = cases_of()
    still, moved = cases.cut("a"), cases.cut("a", shift)
    voxels = np.subtract(moved.chain.start, still.chain.start)
    assert np.abs(voxels * SPACING - shift).max() <= max(SPACING) / 2
    expected = still.points - torch.tensor(voxels * SPACING)[None].flip(-1)
    torch.testing.assert_close(moved.points, expected)
    data = InMemory().cases["a"][0]
    for index in ((3, 5, 6), (8, 20, 11)):
        place = np.add(moved.chain.start, index)
        value = data[(0, *place)] if (place >= 0).all() and (place < SHAPE).all() else 0
        assert moved.fixed[(0, *index)] == value
        assert amid(moved.moving, GRID)[(0, *index)] == (value + np.prod(SHAPE) if value else 0)


def test_the_moving_image_reaches_beyond_the_grid_as_far_as_starts_can():
    around = voxels_around(GRID, SPACING, 20.0)
    moving = cases_of().cut("a").moving
    assert list(moving.shape[1:]) == [side + 2 * more for side, more in zip(GRID, around)]
    whole = InMemory().cases["a"][0][1]
    assert (moving > 0).sum() == whole.size  # all of this small image, once
    assert torch.equal(moving[moving > 0], torch.from_numpy(whole).flatten())


def test_points_are_the_surface_of_the_label_on_the_grid():
    on_grid = cases_of().cut("b")
    expected = surface_points(on_grid.label[0], on_grid.spacing.tolist())
    order = lambda points: points[np.lexsort(points.round(decimals=6).numpy().T)]  # noqa: E731
    torch.testing.assert_close(order(on_grid.points), order(expected))


def test_points_are_of_the_whole_organ_even_where_the_grid_cuts_it():
    cases = cases_of()
    assert len(cases.cut("a", (10.0, 10.0, 10.0)).points) == len(cases.cut("a").points)
    assert cases.cut("a", (20.0, 0.0, 0.0)).label.sum() < cases.cut("a").label.sum()


def test_the_effective_spacing_is_that_of_the_rounded_shape():
    on_grid = cases_of(InMemory(old_shape=(20, 45, 36))).cut("a")
    expected = [3.0 * 20 / 22, 1.5 * 45 / 40, 1.2]
    torch.testing.assert_close(on_grid.spacing, torch.tensor(expected, dtype=torch.float64))


def test_labels_are_chosen():
    with pytest.raises(XModalError, match="the label of b is empty after preprocessing"):
        cases_of(labels=[1])


def test_a_case_of_one_slice_is_named():
    flat = InMemory({"flat": ((0, 5, 5), (1, 15, 15))}, shape=(1, 30, 30))
    with pytest.raises(XModalError, match="the preprocessed case flat has one slice .1×30×30 voxels."):
        cases_of(flat)
    with pytest.raises(XModalError, match="the preprocessed case a has one slice"):
        cases_of(InMemory(old_shape=(1, 40, 36)))


def test_another_reader_is_named():
    with pytest.raises(XModalError, match='"overwrite_image_reader_writer": "SimpleITKIO"'):
        cases_of(InMemory(reader="nibabel_stuff"))


def test_a_batch_of_the_training():
    loader = RegistrationLoader(cases_of(), batch_size=6, jitter=10.0)
    np.random.seed(0)
    batch = next(loader)
    assert {name: (value.dtype, value.shape[:2]) for name, value in batch.items() if name != "keys"} == {
        "data": (torch.float32, (6, 1)),
        "moving": (torch.float32, (6, 1)),
        "label": (torch.float32, (6, 1)),
        "points": (torch.float32, (6, batch["points"].shape[1])),
        "exists": (torch.bool, (6, batch["points"].shape[1])),
        "spacing": (torch.float32, (6, 3)),
    }
    assert batch["data"].shape == (6, 1, *GRID) and batch["label"].shape == (6, 1, *GRID)
    assert set(batch["label"].unique().tolist()) == {0.0, 1.0}
    cases = cases_of()
    centres = []
    for sample, key in enumerate(batch["keys"]):
        points = batch["points"][sample][batch["exists"][sample]]
        still = cases.cut(key).points.float()
        assert len(points) == len(still)
        shift = (points - still).mean(0)
        torch.testing.assert_close(points, still + shift, atol=1e-4, rtol=0)
        centres.append(shift)
    centres = torch.stack(centres)
    assert (centres.abs() <= 10 + max(SPACING) / 2).all() and centres.std() > 2


def test_fixed_starts_come_in_rounds_that_are_all_alike():
    loader = FixedStartsLoader(cases_of(), batch_size=4, sre=(0.0, 20.0), starts=3)
    assert len(loader) == 3
    first, again = ([next(loader) for _ in range(3)] for _ in range(2))
    keys = sum((batch["keys"] for batch in first), [])
    assert keys == ["a", "b", "c"] * 3
    assert [len(batch["data"]) for batch in first] == [4, 4, 1]
    for one, other in zip(first, again):
        assert one["keys"] == other["keys"] and torch.equal(one["perturbation"], other["perturbation"])
    next(loader)
    loader.restart()
    assert torch.equal(next(loader)["perturbation"], first[0]["perturbation"])
    perturbations = torch.cat([batch["perturbation"] for batch in first])
    assert len(torch.unique(perturbations, dim=0)) == 9
    for batch in first:
        error = sre(rigid_transform.matrix(batch["perturbation"]), batch["points"], batch["exists"])
        assert (error <= 20.01).all()
