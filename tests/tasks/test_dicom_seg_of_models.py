"""`--dicom_seg`: which models it is for, and what is said before anything is prepared or predicted."""

import sys

import pytest
from torch import nn

from nnunet_xmodal import discovery
from nnunet_xmodal.commands.predict import KINDS as KINDS_OF_OPTIONS
from nnunet_xmodal.commands.predict import main
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.predict import predictor_class

KINDS = {
    "nnUNetTrainer": True,
    "nnUNetTrainerMultiStream": True,
    "nnUNetTrainerPANetR18": True,
    "nnUNetTrainerCMFT": False,
    "nnUNetTrainerSelfReconstruction": False,
    "nnUNetTrainerQSM": False,
    "nnUNetTrainerAttentionReg": False,
}
"""A trainer of each kind of model → whether its models write label maps."""


@pytest.fixture
def refused(tmp_path, write_model, make_plans, make_dataset_json, capsys):
    """`(trainer, *flags)` → what is said of patients that lack a channel, which is looked for after everything else."""

    def run(trainer="nnUNetTrainer", *flags, **dataset):
        plans = make_plans(2, streams=None if trainer == "nnUNetTrainer" else [[0], [1]])
        write_model(trainer, plans, make_dataset_json() | dataset, [nn.Identity()])
        (tmp_path / "patients" / "anna").mkdir(parents=True)
        words = ["-m", tmp_path / "nnUNet_results", "--scans", tmp_path / "patients", "-o", tmp_path / "out"]
        with pytest.raises(SystemExit) as caught:
            main([*map(str, words), "-device", "cpu", "--channels", "T1=t1.*", *flags])
        assert caught.value.code == 2 and not (tmp_path / "out").exists()
        said = capsys.readouterr().err
        assert "Traceback" not in said and len(said.strip().splitlines()) == 1
        return said

    return run


def test_there_is_one_of_every_kind():
    discovery.register()
    assert {predictor_class(trainer).options_class for trainer in KINDS} >= set(KINDS_OF_OPTIONS)


@pytest.mark.parametrize("trainer", KINDS)
def test_it_is_for_models_that_write_label_maps(refused, trainer):
    pytest.importorskip("highdicom", reason='highdicom is not installed: pip install "nnunet-xmodal[dicom]"')
    said = refused(trainer, "--dicom_seg")
    if KINDS[trainer]:
        assert "--channels lacks T1c" in said
    elif trainer == "nnUNetTrainerAttentionReg":
        assert "read both images as they are" in said
    else:
        assert f"--dicom_seg is made of label maps, and models of {trainer} write none: leave it out." in said


@pytest.mark.parametrize("hidden", [("pydicom",), ("highdicom",), ("pydicom", "highdicom")])
def test_missing_libraries_are_named_before_anything_else(refused, monkeypatch, hidden):
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)
    said = refused("nnUNetTrainer", "--dicom_seg")
    assert "--dicom_seg writes DICOM segmentations" in said and 'pip install "nnunet-xmodal[dicom]"' in said


def test_without_it_no_such_library_is_wanted(refused, monkeypatch):
    for name in ("pydicom", "highdicom"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "--channels lacks T1c" in refused()


def test_codes_are_read_before_anything_else(refused):
    pytest.importorskip("highdicom", reason='highdicom is not installed: pip install "nnunet-xmodal[dicom]"')
    said = refused("nnUNetTrainer", "--dicom_seg", xmodal={"codes": {"gland": {}}})
    assert "'gland', and wants a label" in said


def test_few_shot_segments_are_those_of_the_support(tmp_path, refused, make_dataset_json):
    """Whose labels the predictions have; here their codes are what is wrong."""
    pytest.importorskip("highdicom", reason='highdicom is not installed: pip install "nnunet-xmodal[dicom]"')
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / "support" / name).mkdir(parents=True)
    own = {"labels": {"background": 0, "spleen": 1}, "xmodal": {"codes": {"spleen": {"type": "Spleen"}}}}
    write_json(make_dataset_json() | own, tmp_path / "support" / "dataset.json")
    said = refused("nnUNetTrainerPANetR18", "--dicom_seg", "--support", str(tmp_path / "support"))
    assert "a code of spleen" in said
