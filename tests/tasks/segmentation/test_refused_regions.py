"""Masks, margins and flags of --roi that are refused, each in a sentence."""

import pytest
import SimpleITK as sitk
from organ_scans import ORGAN, image_of, write

from nnunet_xmodal import discovery
from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.predict import predictor_class


def test_a_margin_that_is_none_is_a_sentence(make_model, scans, run):
    model = make_model(xmodal={"roi": {"margin": 2.0}})
    scans()
    with pytest.raises(XModalError, match="\"roi\" of the model's dataset.json is {'margin': 2.0}"):
        run(model, "out")


def far(image):
    image.SetOrigin((900.0, 0.0, 0.0))
    return image


@pytest.mark.parametrize(
    "fault, sentence",
    [
        (None, r"bert\.nii\.gz is missing: --roi needs a mask for every case"),
        (image_of(ORGAN * 0), r"bert\.nii\.gz is empty: there is nothing to crop to"),
        (far(image_of(ORGAN)), r"bert\.nii\.gz lies beside the image: none of it falls on a voxel"),
        ("no image", r"bert\.nii\.gz cannot be read"),
        (sitk.JoinSeries([image_of(ORGAN)] * 2), r"bert\.nii\.gz is 4D"),
    ],
    ids=["missing", "empty", "beside", "unreadable", "4D"],
)
def test_a_faulty_mask_is_a_sentence_before_anything_is_written(make_model, scans, run, tmp_path, fault, sentence):
    model, mask = make_model(), tmp_path / "masks" / "bert.nii.gz"
    scans()
    mask.unlink()
    if isinstance(fault, str):
        mask.write_text(fault)
    elif fault is not None:
        write(fault, mask)
    with pytest.raises(XModalError, match=sentence):
        run(model, "out", "--roi", tmp_path / "masks")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--margin", 3], "--margin needs masks: give their folder with --roi"),
        (["--roi_label", 1], "--roi_label needs masks: give their folder with --roi"),
        (["--roi", "nowhere"], "--roi nowhere is no folder"),
        (["--roi", ".", "--margin", -1], "--margin takes millimetres from 0, got -1"),
    ],
)
def test_flags_that_make_no_sense(make_model, scans, run, tmp_path, flags, sentence):
    model = make_model()
    scans()
    with pytest.raises(XModalError, match=sentence):
        run(model, "out", *flags)
    assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_read_is_a_sentence_also_where_channels_may_lack(make_model, scans, run, tmp_path):
    model = make_model(trainer="nnUNetTrainerMultiStreamDropout")
    scans()
    (tmp_path / "in" / "bert_0000.nii.gz").write_text("no image")
    with pytest.raises(XModalError, match=r"bert_0000\.nii\.gz cannot be read"):
        run(model, "out", "--roi", tmp_path / "masks", "--allow_missing")
    assert not (tmp_path / "out").exists()


def test_a_value_that_no_voxel_has_is_named(make_model, scans, run, tmp_path):
    model = make_model()
    scans()
    with pytest.raises(XModalError, match=r"anna\.nii\.gz has no voxel of 4 or 5.*1 other masks have faults, too"):
        run(model, "out", "--roi", tmp_path / "masks", "--roi_label", 4, 5)


def test_other_kinds_of_models_have_no_organ(nnunet_folders):
    discovery.register()
    cases = (
        ("nnUNetTrainerCRTP", "--roi", "3"),
        ("nnUNetTrainerQSM", "--margin", "5"),
        ("nnUNetTrainerQSM", "--margin", "0"),
    )
    for trainer, flag, value in cases:
        words = ["-i", "a", "-o", "b", "-d", "1", "-c", "2d", "-device", "cpu", "-tr", trainer, flag, value]
        with pytest.raises(XModalError, match=f"{flag} does not apply to models of {trainer}"):
            predictor_class(trainer).from_request(request_of(parser().parse_args(words)))
