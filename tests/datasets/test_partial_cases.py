import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.datasets.partial_cases import partial_cases
from nnunet_xmodal.errors import XModalError

STREAMS = [[0, 2], [1]]


@pytest.fixture
def dataset_json(make_dataset_json):
    return make_dataset_json(channels=3)


@pytest.fixture
def cases(tmp_path, dataset_json):
    """`(channels, file ending)` → the case of a folder with files of these channels."""

    def cases(channels, ending=".nii.gz"):
        for channel in channels:
            (tmp_path / f"anna_{channel:04d}{ending}").touch()
        return partial_cases(tmp_path, dataset_json | {"file_ending": ending})

    return cases


@pytest.mark.parametrize(
    "channels, missing, given",
    [([0, 1, 2], [], [0, 1]), ([0, 2], [1], [0]), ([1, 2], [0], [1]), ([2], [0, 1], [])],
)
def test_channels_go_by_the_number_in_the_name(cases, dataset_json, channels, missing, given):
    (case,) = cases(channels)
    assert {channel: file.name for channel, file in case.files.items()} == {
        channel: f"anna_{channel:04d}.nii.gz" for channel in channels
    }
    assert case.missing(dataset_json) == missing and case.given(STREAMS) == given


def test_the_first_file_that_a_begun_stream_lacks_is_named(cases, dataset_json, tmp_path):
    (case,) = cases([2])
    with pytest.raises(XModalError, match=rf"{tmp_path}/anna_0000.nii.gz \(T1\) is missing: case anna needs all"):
        case.check_has_a_stream(STREAMS, dataset_json)
    case.check_has_a_stream([[0], [1], [2]], dataset_json)


@pytest.mark.parametrize("channels, missing", [(3, []), (1, [1, 2])])
def test_a_picture_may_hold_its_channels_in_one_file(dataset_json, tmp_path, channels, missing):
    pixels = np.zeros((5, 6, channels), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=channels > 1), str(tmp_path / "anna_0000.png"))
    (case,) = partial_cases(tmp_path, dataset_json | {"file_ending": ".png"})
    assert case.missing(dataset_json) == missing


def test_a_number_that_no_channel_has_is_named(cases):
    with pytest.raises(XModalError, match="anna_0003.nii.gz is one channel too many: dataset.json names 3"):
        cases([0, 3])
