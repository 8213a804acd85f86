"""Episodes: every superpixel is drawn, none is empty, and a query is its support transformed."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetDatasetBlosc2

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.phantoms.organs import LABELS, organ_phantom
from nnunet_xmodal.tasks.few_shot.episode_transforms import EpisodeTransform, unchanged
from nnunet_xmodal.tasks.few_shot.episodes import EpisodeLoader, on_patch
from nnunet_xmodal.tasks.few_shot.superpixel_cache import ensure_superpixels, superpixel_folder
from nnunet_xmodal.tasks.few_shot.superpixels import SuperpixelSettings
from nnunet_xmodal.tasks.few_shot.support_slices import choose_support

PATCH = (24, 32)


class Labels:
    def __getitem__(self, index):
        raise AssertionError("a label was read")


class OneSlice:
    """An array on disk that refuses to be read as a whole."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __getitem__(self, key):
        assert isinstance(key[1], (int, np.integer))
        return self.array[key]


class Cases:
    """As much of nnU-Net's dataset, and of superpixel maps, as is asked for: superpixels are vertical stripes."""

    def __init__(self, counts, shape=(20, 30)):
        rng = np.random.default_rng(0)
        self.identifiers = list(counts)
        self.counts = {case: np.array(numbers, np.int32) for case, numbers in counts.items()}
        self.volumes = {case: rng.normal(size=(2, len(n), *shape)).astype(np.float32) for case, n in counts.items()}

    def load_case(self, case):
        return OneSlice(self.volumes[case]), Labels(), None, {}

    def slice(self, case, index):
        height, width = self.volumes[case].shape[2:]
        n = self.counts[case][index]
        stripes = np.minimum(np.arange(width) // (width // (n + 1)), n)
        return np.tile(stripes.astype(np.int32), (height, 1))


COUNTS = {"a": (0, 3, 1, 0), "b": (2,), "none": (0, 0), "c": (4, 0, 2)}


def loader_of(cases=None, **others):
    cases = cases or Cases(COUNTS)
    return EpisodeLoader(cases, cases, **{"patch_size": PATCH, **others})


def test_case_slice_and_superpixel_are_drawn_uniformly_and_all_of_them():
    loader = loader_of(superpixels_per_pair=1)
    np.random.seed(0)
    n = 18_000
    drawn = (loader.drawn() for _ in range(n))
    seen = Counter((case, index, *superpixels) for case, index, superpixels in drawn)
    expected = {}
    for case, numbers in COUNTS.items():
        slices = [index for index, number in enumerate(numbers) if number]
        for index in slices:
            for superpixel in range(1, numbers[index] + 1):
                expected[case, index, superpixel] = 1 / 3 / len(slices) / numbers[index]
    assert seen.keys() == expected.keys()
    for key, probability in expected.items():
        assert abs(seen[key] - n * probability) < 5 * np.sqrt(n * probability)


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_superpixels_of_a_slice_are_drawn_once_each_and_as_many_as_there_are(most):
    loader = loader_of(superpixels_per_pair=most)
    np.random.seed(0)
    together = Counter()
    for _ in range(2_000):
        case, index, superpixels = loader.drawn()
        assert len(superpixels) == len(set(superpixels)) == min(most, COUNTS[case][index])
        together.update((case, index, number) for number in superpixels)
    assert len(together) == sum(map(sum, COUNTS.values()))


def test_a_pair_has_an_episode_for_each_of_its_superpixels():
    cases = Cases({"a": (5, 2), "b": (9,)}, shape=(20, 40))
    np.random.seed(3)
    batch = next(loader_of(cases, batch_size=6, patch_size=(20, 40), superpixels_per_pair=4))
    assert len(batch["keys"]) == len(batch["data"]) == len(batch["support"]) == 6
    assert batch["pair"].dtype == torch.int64 and batch["pair"].tolist() == sorted(batch["pair"].tolist())
    assert set(batch["pair"].tolist()) == set(range(6))
    numbers = zip(batch["pair"].tolist(), batch["superpixels"], strict=True)
    for (of, number), mask in zip(numbers, batch["support_mask"], strict=True):
        stripes = cases.slice(batch["keys"][of], batch["slices"][of])
        np.testing.assert_array_equal(mask[0].numpy(), stripes == number)
    assert len(batch["query_mask"]) == len(batch["pair"]) > 6 and batch["query_mask"].flatten(1).any(1).all()
    assert not (batch["query_mask"][batch["pair"] == 0].sum(0) > 1).any()  # one transform for all of a pair


def test_slices_smaller_than_the_patch_lie_in_their_background():
    np.random.seed(0)
    for padded, loader in ((True, loader_of()), (False, loader_of(padded_by_background=False))):
        image = next(loader)["support"][0, 0].numpy()
        expected = image[:, 2:-2, 1:-1].min((1, 2)) if padded else np.zeros(2)
        for frame in (image[:, :2], image[:, -2:], image[:, :, :1], image[:, :, -1:]):
            assert (frame == expected[:, None, None]).all()


def test_the_support_is_the_slice_itself_and_the_mask_its_superpixel():
    cases = Cases(COUNTS)
    loader = loader_of(cases, batch_size=5, superpixels_per_pair=1)
    np.random.seed(1)
    batch = next(loader)
    assert {name: (value.dtype, tuple(value.shape)) for name, value in batch.items() if torch.is_tensor(value)} == {
        "data": (torch.float32, (5, 2, *PATCH)),
        "query_mask": (torch.uint8, (5, *PATCH)),
        "support": (torch.float32, (5, 1, 2, *PATCH)),
        "support_mask": (torch.uint8, (5, 1, *PATCH)),
        "pair": (torch.int64, (5,)),
    }
    for sample, (case, index, superpixel) in enumerate(zip(batch["keys"], batch["slices"], batch["superpixels"])):
        whole = batch["support"][sample, 0, :, 2:-2, 1:-1].numpy()
        np.testing.assert_array_equal(whole, cases.volumes[case][:, index])
        mask = batch["support_mask"][sample, 0, 2:-2, 1:-1].numpy()
        np.testing.assert_array_equal(mask, cases.slice(case, index) == superpixel)
        assert batch["query_mask"][sample].any()
    assert not torch.equal(batch["data"], batch["support"][:, 0])


def test_without_a_transform_query_and_support_are_one():
    batch = next(loader_of(transform_query=unchanged))
    assert torch.equal(batch["data"], batch["support"][:, 0])
    assert torch.equal(batch["query_mask"], batch["support_mask"][:, 0])


def test_both_may_be_transformed_each_for_itself():
    np.random.seed(0)
    batch = next(loader_of(transform_support=EpisodeTransform(), batch_size=4))
    assert not torch.equal(batch["data"], batch["support"][:, 0])
    cases = Cases(COUNTS)
    original = on_patch(cases.volumes[batch["keys"][0]][:, batch["slices"][0]], PATCH)
    assert not np.array_equal(batch["support"][0, 0].numpy(), original)


class EmptiesSome:
    """Every second mask."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image, mask):
        self.calls += 1
        return image, mask * (self.calls % 2 == 0)


@pytest.mark.parametrize("which", ["transform_query", "transform_support"])
def test_an_empty_mask_is_drawn_again(which):
    transform = EmptiesSome()
    loader = loader_of(batch_size=10, superpixels_per_pair=1, **{which: transform})
    batch = next(loader)
    assert batch["query_mask"].flatten(1).any(1).all() and batch["support_mask"].flatten(1).any(1).all()
    assert transform.calls == 20


def test_what_the_patch_cuts_off_is_not_drawn():
    cases = Cases({"a": (5,)})  # stripes of five pixels; a patch of eight sees the third and its neighbours
    cut = {"patch_size": (16, 8), "transform_query": unchanged}
    assert sorted(next(loader_of(cases, **cut))["superpixels"]) == [2, 3]  # of the five
    batch = next(loader_of(cases, batch_size=40, superpixels_per_pair=1, **cut))
    assert set(batch["superpixels"]) == {2, 3}
    assert batch["data"].shape == (40, 2, 16, 8)


def test_a_fold_without_superpixels_is_a_sentence():
    with pytest.raises(XModalError, match="none of the 2 training cases has a superpixel"):
        loader_of(Cases({"a": (0, 0), "b": (0,)}))


def nothing(image, mask):
    return image, mask * 0


def test_transforms_that_leave_nothing_are_a_sentence():
    with pytest.raises(
        XModalError, match="100 times in a row all superpixels were empty on a patch of 24×32 pixels .*plan with"
    ):
        next(loader_of(transform_query=nothing))


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 9), (8, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("shape", [(5, 6), (2, 4, 7)], ids=str)
def test_patches_keep_the_centre(shape, size):
    image = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    patch = on_patch(image, size)
    assert np.array_equal(np.where(patch == 0, -7, patch), on_patch(image, size, -7))
    assert patch.shape == (*shape[:-2], *size)
    back = on_patch(patch, shape[-2:])
    kept = back != 0
    np.testing.assert_array_equal(back[kept], image[kept])
    assert kept.sum() == (patch != 0).sum() == np.prod(np.minimum(shape[-2:], size)) * np.prod(shape[:-2])


def test_episodes_and_supports_of_preprocessed_phantoms(tmp_path):
    """With nnU-Net's own dataset on disk, from images to a batch."""
    folder = tmp_path / "Plans_2d"
    folder.mkdir()
    for number in range(2):
        phantom = organ_phantom(np.random.default_rng(number), "ct", (12, 64, 64))
        image = (phantom.image - phantom.image.mean()) / phantom.image.std()
        label = phantom.label[None].astype(np.int16)
        one_slice = (1, 1, 64, 64)
        nnUNetDatasetBlosc2.save_case(image[None], label, {}, f"{folder}/{number}", chunks=one_slice, blocks=one_slice)
    dataset = nnUNetDatasetBlosc2(str(folder))
    maps = ensure_superpixels(
        dataset, superpixel_folder(folder), SuperpixelSettings.for_patch((64, 64)), progress=False
    )
    assert infer_dataset_class(str(folder)) is nnUNetDatasetBlosc2  # nothing foreign in it
    np.random.seed(0)
    batch = next(EpisodeLoader(dataset, maps, (64, 64), batch_size=8, superpixels_per_pair=1))
    for sample in range(8):
        mask = batch["support_mask"][sample, 0].bool()
        case, index = batch["keys"][sample], batch["slices"][sample]
        np.testing.assert_array_equal(mask, maps.slice(case, index) == batch["superpixels"][sample])
        assert mask.sum() >= 25 and batch["query_mask"][sample].sum() > 0.5 * mask.sum()
    support = choose_support(dataset, dataset.identifiers, {name: (value,) for name, value in LABELS.items() if value})
    for name, chosen in support.items():
        for (case, index), *none in chosen.values():
            assert (dataset.load_case(case)[1][0, index] == LABELS[name]).any() and not none


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # a batch is under way at the end
def test_loaders_run_in_processes_of_their_own():
    loader = pickle.loads(pickle.dumps(loader_of(batch_size=2)))
    augmenter = NonDetMultiThreadedAugmenter(loader, None, num_processes=1, num_cached=1, wait_time=0.002)
    try:
        batch = next(augmenter)
    finally:
        augmenter._finish()
    assert batch["support"].shape == (2, 1, 2, *PATCH) and len(batch["keys"]) == 2 <= len(batch["pair"])
