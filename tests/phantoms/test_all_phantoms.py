"""What phantoms of every kind are: the same ones for equal seeds, and a dataset as nnU-Net reads it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.phantoms import heads, mr_us, prostate, shown_in_one, two_channel


@dataclass(frozen=True)
class Kind:
    """
    Attributes:
        make: a phantom, from a generator of random numbers.
        varying: its fields that are others for other seeds.
        write: a raw dataset; None where it has a layout of its own.
        prefix: of the names of cases.
        grid: shape and spacing of the cases; `write` takes them where `options` says so.
    """

    make: Callable[..., NamedTuple]
    write: Callable[..., None] | None = None
    prefix: str = ""
    channels: tuple[str, ...] = ("T2W", "ADC")
    labels: tuple[str, ...] = ()
    grid: tuple[tuple[int, ...], tuple[float, ...]] = ((), ())
    options: bool = False
    varying: tuple[str, ...] = ("images", "label")


KINDS = {
    "two channels": Kind(
        *(two_channel.phantom_case, two_channel.write_phantom_dataset, "phantom"),
        labels=("background", "lesion"),
        grid=(two_channel.SHAPE, two_channel.SPACING),
    ),
    "prostate": Kind(
        *(prostate.prostate_phantom, prostate.write_prostate_dataset, "prostate"),
        labels=("background", "prostate", "lesion"),
        grid=(prostate.SHAPE, prostate.SPACING),
    ),
    "one modality": Kind(
        *(shown_in_one.one_modality_phantom, shown_in_one.write_one_modality_dataset, "onemodality"),
        labels=("background", "lesion"),
        grid=(shown_in_one.SHAPE, shown_in_one.SPACING),
    ),
    "MR and ultrasound": Kind(
        *(mr_us.mr_us_phantom, mr_us.write_mr_us_dataset, "mrus", ("MR", "US")),
        labels=("background", "prostate"),
        grid=((24, 32, 32), (3.0, 2.4, 2.4)),
        options=True,
    ),
    "heads": Kind(
        lambda rng: heads.susceptibility_phantom(rng, (24, 36, 32), (5.0, 4.5, 4.5)),
        varying=("field", "susceptibility", "mask"),
    ),
}
WRITTEN = {name: kind for name, kind in KINDS.items() if kind.write is not None}


def write(kind: Kind, folder, n_train: int, n_test: int) -> None:
    options = dict(zip(("shape", "spacing"), kind.grid, strict=True)) if kind.options else {}
    kind.write(folder, n_train=n_train, n_test=n_test, seed=3, **options)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_equal_seeds_give_equal_phantoms_and_others_do_not(kind):
    first, again, other = (kind.make(np.random.default_rng(seed)) for seed in (0, 0, 1))
    for ours, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for field in kind.varying:
        assert not np.array_equal(getattr(first, field), getattr(other, field)), field


@pytest.mark.parametrize("kind", WRITTEN.values(), ids=WRITTEN)
def test_dataset_in_raw_format(kind, tmp_path):
    folder = tmp_path / "Dataset950_Phantom"
    write(kind, folder, n_train=2, n_test=1)
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["channel_names"] == dict(zip("01", kind.channels, strict=True))
    assert dataset["labels"] == {name: value for value, name in enumerate(kind.labels)}
    assert dataset["numTraining"] == 2
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.nii.gz"))
    assert names == sorted(
        f"{name}.nii.gz"
        for split, cases in (("Tr", ("tr000", "tr001")), ("Ts", ("ts000",)))
        for case in (f"{kind.prefix}_{case}" for case in cases)
        for name in (f"images{split}/{case}_0000", f"images{split}/{case}_0001", f"labels{split}/{case}")
    )
    assert not list(folder.rglob(".tmp*"))
    for file in folder.rglob("*.nii.gz"):
        image = sitk.ReadImage(str(file))
        shape, spacing = kind.grid
        assert image.GetSize() == shape[::-1]
        assert image.GetSpacing() == pytest.approx(spacing[::-1], rel=1e-7)  # NIfTI holds single precision


@pytest.mark.parametrize("kind", WRITTEN.values(), ids=WRITTEN)
def test_more_cases_leave_the_others_as_they_are(kind, tmp_path):
    def first(n_train):
        write(kind, tmp_path / str(n_train), n_train, n_test=0)
        file = tmp_path / str(n_train) / "imagesTr" / f"{kind.prefix}_tr000_0001.nii.gz"
        return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))

    np.testing.assert_array_equal(first(1), first(2))
