"""Files whose header says two places, or none: nnU-Net's own reader counts, and what moves apart is refused."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.comparison.case_table import read_label_map
from nnunet_xmodal.datasets.cases import training_cases
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.datasets.organ_mask import organ_on_grid
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.two_places import check_moved_alike, two_places


def check(folder, description):
    check_cases(training_cases(folder, description), description, progress=False)


def itk_writes(label, file, place):
    """As nnU-Net, 3D Slicer and ITK-SNAP write what was drawn on an image."""
    image = sitk.GetImageFromArray(label.T)
    image.CopyInformation(sitk.ReadImage(str(place)))
    sitk.WriteImage(image, str(file))


def test_one_place_is_none_to_talk_about(tmp_path, nifti):
    for number, (sform, qform) in enumerate(
        [(nifti.affine, None), (None, nifti.affine), (nifti.affine, nifti.affine), (nifti.moved(0.05), nifti.affine)]
    ):
        file = tmp_path / f"{number}.nii.gz"
        nibabel.save(nifti.with_forms(nifti.voxels(), sform, qform), file)
        assert two_places(file) is None


def test_both_places_are_told_with_their_distance(tmp_path, nifti):
    file = tmp_path / "a.nii.gz"
    nibabel.save(nifti.with_forms(nifti.voxels(), nifti.affine, nifti.moved(3, -4, 0)), file)
    places = two_places(file)
    told = places.described()
    assert np.allclose(places.itk[:3, 3], sitk.ReadImage(str(file)).GetOrigin())
    assert "its sform and qform differ" in told and "5 mm apart" in told
    assert "[-3.0, 4.0, 0.0] mm for ITK" in told and "[0.0, 0.0, 0.0] mm (LPS) for nibabel" in told
    nibabel.save(nifti.with_forms(nifti.voxels(), None, None), file)
    assert "it has neither sform nor qform" in two_places(file).described()


def test_a_label_drawn_in_itk_on_an_image_of_two_places_is_accepted(raw, nifti, capsys):
    folder, description = raw()
    for file in sorted((folder / "imagesTr").iterdir()):
        nibabel.save(nifti.with_forms(nifti.voxels(), nifti.affine, nifti.moved(4, -3, 2)), file)
    for case in "ab":
        itk_writes(nifti.label(), folder / f"labelsTr/{case}.nii.gz", folder / f"imagesTr/{case}_0000.nii.gz")
    check(folder, description)
    told = capsys.readouterr().err
    assert "a_0000.nii.gz lies at two places" in told and "(3 other files, too.)" in told


def test_the_reader_of_the_dataset_decides(raw, nifti):
    """The same files: apart for ITK, which goes by the qform here, and together for nibabel."""
    for ending, reader, refused in (
        (".nii.gz", None, True),
        (".nii.gz", "NibabelIO", False),
        (".nii.gz", "NibabelIOWithReorient", False),
        (".nii", None, False),
        (".nii", "SimpleITKIO", True),
    ):
        folder, description = raw(ending, **({"overwrite_image_reader_writer": reader} if reader else {}))
        nibabel.save(
            nifti.with_forms(nifti.voxels(), nifti.affine, nifti.moved(9, -7, 5)), folder / f"imagesTr/b_0001{ending}"
        )
        if refused:
            with pytest.raises(XModalError, match="b_0001.* has the origin .*-9.*resample them onto one grid"):
                check(folder, description)
        else:
            check(folder, description)
        folder.rename(folder.with_name(f"{ending}{reader}"))


def test_predictions_lie_where_nnunet_read_the_reference(tmp_path, nifti):
    nibabel.save(nifti.with_forms(nifti.label(), None, None), tmp_path / "gt.nii.gz")
    itk_writes(nifti.label(), tmp_path / "prediction.nii.gz", tmp_path / "gt.nii.gz")
    description = {"labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (first, place), (second, other) = (
        read_label_map(tmp_path / f"{name}.nii.gz", description) for name in ("gt", "prediction")
    )
    assert np.array_equal(first, second) and np.array_equal(first, nifti.label().T)
    assert all(np.allclose(place[key], other[key]) for key in place)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_geometry_is_that_of_nnunets_reader(tmp_path, nifti, ending):
    file = tmp_path / f"a{ending}"
    nibabel.save(nifti.with_forms(nifti.voxels(), nifti.affine, nifti.moved(3)), file)
    voxels, geometry = read_image(file, {"file_ending": ending}, is_label=False)
    assert np.array_equal(voxels[0], nifti.voxels().T)
    assert np.allclose(geometry["spacing"], (2, 1, 1)) and tuple(geometry["size"]) == (4, 5, 6)
    assert np.allclose(geometry["origin"], (-3, 0, 0) if ending == ".nii.gz" else (0, 0, 0))


def test_files_that_move_together_are_harmless_and_others_are_not(tmp_path, nifti):
    def at(name, sform, qform):
        nibabel.save(nifti.with_forms(nifti.voxels(), sform, qform), tmp_path / name)
        return tmp_path / name

    t2w, adc = (at(f"{name}.nii.gz", nifti.affine, nifti.moved(6)) for name in ("t2w", "adc"))
    other = at("other.nii.gz", nifti.affine, nifti.moved(-6))
    nowhere, nowhere_else = (at(f"{name}.nii.gz", None, None) for name in ("nowhere", "else"))
    still = at("still.nii.gz", nifti.affine, None)
    nrrd = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.ReadImage(str(still)), str(nrrd))
    assert list(check_moved_alike([t2w, adc])) == [t2w, adc]
    assert list(check_moved_alike([nowhere, nowhere_else])) == [nowhere, nowhere_else]
    assert check_moved_alike([still, nrrd]) == {}
    for files in ([t2w, still], [still, t2w], [t2w, other], [t2w, nrrd], [nowhere, still], [t2w, nowhere]):
        with pytest.raises(XModalError, match="at two places, and .* not along with it") as caught:
            check_moved_alike(files)
        assert all(file.name in str(caught.value) for file in files)


def test_a_mask_lies_where_the_images_reader_puts_it(tmp_path, nifti):
    """Image and mask of a dataset that nnU-Net reads with nibabel."""
    file = tmp_path / "mask.nii.gz"
    nibabel.save(nifti.with_forms(nifti.label(), nifti.affine, nifti.moved(60)), file)
    grid = sitk.GetImageFromArray(nifti.label().T * 0)
    grid.SetSpacing((1, 1, 2))
    assert np.array_equal(sitk.GetArrayFromImage(organ_on_grid(file, grid, by_nibabel=True)).T, nifti.label())
    with pytest.raises(XModalError, match="lies beside the image"):
        organ_on_grid(file, grid)


def test_what_itk_cannot_read_is_fine_where_nnunet_reads_with_nibabel(raw, nifti):
    folder, description = raw(".nii")
    for file in folder.glob("*Tr/b*"):
        voxels = np.asanyarray(nibabel.load(file).dataobj).copy()  # no view of the file that is replaced
        nibabel.save(nibabel.Nifti2Image(voxels, nifti.affine), file)
    check(folder, description)
    with pytest.raises(XModalError, match="is a NIfTI-2 file, which ITK does not read"):
        check(folder, description | {"overwrite_image_reader_writer": "SimpleITKIO"})
