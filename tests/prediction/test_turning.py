"""A reader that turns cases, and writes what is predicted for them as they were stored, bit by bit."""

import pickle

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from fast_ones import one_fast_in
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.spatial.transform import Rotation

from nnunet_xmodal.geometry.orientation import CODES, code_of
from nnunet_xmodal.prediction.turning import TurningPlans, like, turning_reader
from nnunet_xmodal.tasks.segmentation.attention_maps import with_geometry

OBLIQUE = Rotation.from_euler("xyz", [14, -9, 20], degrees=True).as_matrix()


@pytest.fixture
def stored(tmp_path):
    """`(code)` → an oblique image of whole numbers, each its own, stored along these axes."""

    def write(code, name="case_0000.nii.gz"):
        image = sitk.GetImageFromArray(np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6))
        image.SetSpacing((0.7, 1.3, 3.1))
        image.SetOrigin((-7.3, 11.1, 2.7))
        image.SetDirection(OBLIQUE.ravel().tolist())
        file = tmp_path / name
        sitk.WriteImage(sitk.DICOMOrient(image, code), str(file))
        return file

    return write


@pytest.mark.parametrize("base", [SimpleITKIO, NibabelIO])
@pytest.mark.parametrize("code", one_fast_in(3, CODES))
def test_a_case_is_read_along_one_way_and_written_along_its_own(stored, tmp_path, base, code):
    reader = turning_reader(base, "RAI")()
    array, properties = reader.read_images([str(stored(code))])
    straight, as_rai = base().read_images([str(stored("RAI", "straight.nii.gz"))])
    assert np.array_equal(array, straight)
    assert np.allclose(properties["spacing"], as_rai["spacing"])

    ours, theirs = tmp_path / "ours.nii", tmp_path / "theirs.nii"
    reader.write_seg(array[0].astype(np.uint8), str(ours), properties)
    voxels, noted = base().read_images([str(stored(code))])
    base().write_seg(voxels[0].astype(np.uint8), str(theirs), noted)  # as nnU-Net writes what it has not turned
    assert ours.read_bytes() == theirs.read_bytes()
    given = nibabel.load(stored(code))
    assert np.array_equal(np.asarray(nibabel.load(ours).dataobj), np.asarray(given.dataobj))


def test_what_lies_right_is_left_alone(stored):
    file = str(stored("LPS"))
    array, properties = turning_reader(SimpleITKIO, "LPS")().read_images([file])
    expected, noted = SimpleITKIO().read_images([file])
    assert np.array_equal(array, expected) and properties == noted


def test_other_results_lie_as_the_case_does(stored):
    file = stored("PSR")
    array, properties = turning_reader(SimpleITKIO, "LPS")().read_images([str(file)])
    image, given = with_geometry(array[0], properties), sitk.ReadImage(str(file))
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(given))
    assert image.GetDirection() == given.GetDirection() and image.GetOrigin() == given.GetOrigin()


def test_properties_describe_what_was_read(stored):
    """So that masks and main fields are looked up at the right place."""
    file = stored("PSR")
    _, properties = turning_reader(SimpleITKIO, "LPS")().read_images([str(file)])
    assert code_of(properties["sitk_stuff"]["direction"]) == "LPS"
    assert np.allclose(properties["sitk_stuff"]["origin"], (-7.3, 11.1, 2.7), atol=1e-4)


def test_readers_that_turn_by_themselves_stay():
    assert turning_reader(NibabelIOWithReorient, "LPS") is NibabelIOWithReorient


def test_pictures_have_no_axes(tmp_path):
    from skimage.io import imsave

    imsave(tmp_path / "a.png", np.arange(20, dtype=np.uint8).reshape(4, 5), check_contrast=False)
    array, properties = turning_reader(NaturalImage2DIO, "RAS")().read_images([str(tmp_path / "a.png")])
    assert array.shape == (1, 1, 4, 5) and "as_stored" not in properties


def test_plans_travel_to_other_processes():
    plans = TurningPlans({"image_reader_writer": "SimpleITKIO"}, "RAS")
    again = pickle.loads(pickle.dumps(plans))
    assert again.axes == "RAS" and issubclass(again.image_reader_writer_class, SimpleITKIO)
    assert again.image_reader_writer_class is not SimpleITKIO
    assert like(plans, {"image_reader_writer": "NibabelIO"}).axes == "RAS"
    assert type(like(PlansManager({}), {})) is PlansManager
