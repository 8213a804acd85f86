"""Recipe `bids`: channels and masks of one case by their names, whatever entities these have; what is refused."""

import re

import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.preparation.patterns import paths_by_case
from nnunet_xmodal.preparation.recipe import read_recipe
from nnunet_xmodal.preparation.sources import SourcePatterns, cases_in_folder

SESSION = "sub-01_ses-1"
DERIVATIVES = (
    "mask",
    "label-lesion_mask",
    "desc-manual_mask",
    "space-orig_mask",
    "space-T1w_label-lesion_mask",
    "space-orig_res-hi_label-lesion_desc-manual_mask",
    "acq-mprage_run-2_space-FLAIR_label-lesion_mask",
    "dseg",
    "space-T1w_res-2_desc-manual_dseg",
)


def place_of(name):
    return "/".join(part for part in name.split("_") if part.startswith(("sub-", "ses-")))


def scan(folder, *names):
    for name in names:
        file = folder / place_of(name) / "anat" / f"{name}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def mask(folder, *names, pipeline="raters"):
    scan(folder / "derivatives" / pipeline, *names)


def found(folder, label=None, **channels):
    recipe = read_recipe("bids")
    patterns = {name: recipe["channels"][name] for name in ("T1w", "FLAIR")} | channels
    return {case.name: case for case in cases_in_folder(folder, SourcePatterns(patterns, label or recipe["label"]))}


@pytest.mark.parametrize("case", ["sub-01", SESSION])
@pytest.mark.parametrize("name", DERIVATIVES)
def test_a_mask_is_found_whatever_entities_it_has(tmp_path, case, name):
    scan(tmp_path, f"{case}_T1w", f"{case}_acq-3d_run-1_FLAIR")
    mask(tmp_path, f"{case}_{name}")
    cases = found(tmp_path)
    assert list(cases) == [case] and not cases[case].faults
    assert cases[case].label.name == f"{case}_{name}.nii.gz"
    assert cases[case].images["FLAIR"].name == f"{case}_acq-3d_run-1_FLAIR.nii.gz"


@pytest.mark.parametrize("name", DERIVATIVES)
def test_these_are_names_of_the_specification(name):
    """By its own rules of derivatives, which the validator of names leaves out."""
    schema = pytest.importorskip("bidsschematools.schema", reason="bids_validator is not installed")
    rules = pytest.importorskip("bidsschematools.rules", reason="bids_validator is not installed")
    loaded = schema.load_schema()
    of_derivatives = rules.regexify_filename_rules(loaded.rules.files.deriv, loaded, level=2)
    file = f"sub-01/ses-1/anat/{SESSION}_{name}.nii.gz"
    assert any(re.match(rule["regex"], file) for rule in of_derivatives)


def test_a_sessions_files_are_not_its_subjects(tmp_path):
    scan(tmp_path, f"{SESSION}_T1w", f"{SESSION}_FLAIR", "sub-01_ses-2_T1w", "sub-01_ses-2_acq-3d_FLAIR")
    mask(tmp_path, f"{SESSION}_mask", "sub-01_mask")
    cases = found(tmp_path)
    assert list(cases) == [SESSION, "sub-01_ses-2"] and not any(case.faults for case in cases.values())
    assert cases[SESSION].label.name == f"{SESSION}_mask.nii.gz" and cases["sub-01_ses-2"].label is None


def test_other_suffixes_that_end_alike_are_no_masks(tmp_path):
    scan(tmp_path, "sub-01_T1w", "sub-01_FLAIR", "sub-02_T1w", "sub-02_FLAIR")
    mask(tmp_path, "sub-01_label-lesion_mask", "sub-01_mod-T1w_defacemask", "sub-02_label-lesion_probseg")
    assert found(tmp_path)["sub-01"].label.name == "sub-01_label-lesion_mask.nii.gz"
    assert found(tmp_path)["sub-02"].label is None


def test_two_files_for_one_channel_are_listed_and_a_pattern_chooses(tmp_path):
    runs = [f"sub-01_{name}T1w" for name in ("", "acq-hi_run-1_", "acq-hi_run-2_")]
    scan(tmp_path, *runs, "sub-01_FLAIR")
    mask(tmp_path, "sub-01_space-T1w_mask")  # of which nothing is said as long as the channel has two files
    (fault,) = found(tmp_path)["sub-01"].faults
    assert all(f"{run}.nii.gz" in fault for run in runs) and "all match the pattern of T1w: narrow it" in fault
    for pattern, chosen in (("{sub_ses}_T1w", runs[0]), ("{sub_ses}*_run-2*_T1w", runs[2])):
        case = found(tmp_path, T1w=f"sub-*/**/anat/{pattern}.nii.gz")["sub-01"]
        assert not case.faults and case.images["T1w"].name == f"{chosen}.nii.gz"


def test_the_pattern_that_a_fault_proposes_does(tmp_path):
    scan(tmp_path, "sub-01_acq-hi_T1w", "sub-01_acq-lo_T1w", "sub-01_FLAIR")
    mask(tmp_path, "sub-01_mask")
    (fault,) = found(tmp_path)["sub-01"].faults
    proposed = fault.rpartition(" to ")[2].removesuffix(".")
    assert proposed == "{sub_ses}_acq-hi_T1w.nii.gz"
    case = found(tmp_path, T1w=f"sub-*/**/anat/{proposed}")["sub-01"]
    assert not case.faults and case.images["T1w"].name == "sub-01_acq-hi_T1w.nii.gz"


def test_two_masks_of_a_case_are_listed(tmp_path):
    scan(tmp_path, "sub-01_T1w", "sub-01_FLAIR")
    mask(tmp_path, "sub-01_label-lesion_mask", "sub-01_desc-brain_mask")
    (fault,) = found(tmp_path)["sub-01"].faults
    assert "sub-01_desc-brain_mask.nii.gz and " in fault and "both match the pattern of the label" in fault
    case = found(tmp_path, label="derivatives/**/{sub_ses}*_label-lesion*_mask.nii.gz")["sub-01"]
    assert not case.faults and case.label.name == "sub-01_label-lesion_mask.nii.gz"
    mask(tmp_path, "sub-01_label-lesion_mask", pipeline="others")
    (fault,) = found(tmp_path, label="derivatives/**/{sub_ses}*_label-lesion*_mask.nii.gz")["sub-01"].faults
    assert "derivatives/others/" in fault and "derivatives/raters/" in fault


def test_a_dataset_of_lesions_and_brains_is_refused_as_a_whole(tmp_path):
    scan(tmp_path, *(f"sub-0{number}_{suffix}" for number in (1, 2, 3) for suffix in ("T1w", "FLAIR")))
    mask(tmp_path, "sub-01_space-orig_label-lesion_desc-one_mask", "sub-02_label-lesion_desc-two_mask")
    assert sum(case.label is not None for case in found(tmp_path).values()) == 2
    mask(tmp_path, "sub-03_desc-brain_mask")
    with pytest.raises(XModalError, match=r"masks of 2 kinds, .*sub-03_desc-brain_mask.nii.gz \(brain\), .*\(lesion\)"):
        found(tmp_path)
    label = "derivatives/**/{sub_ses}*_label-lesion*_mask.nii.gz|derivatives/**/{sub_ses}_desc-brain_mask.nii.gz"
    assert all(case.label for case in found(tmp_path, label=label).values())


def test_a_mask_of_another_space_is_a_fault(tmp_path):
    scan(tmp_path, "sub-01_T1w", "sub-01_FLAIR")
    mask(tmp_path, "sub-01_space-MNI152NLin2009cAsym_label-lesion_mask")
    (fault,) = found(tmp_path)["sub-01"].faults
    assert "in the space MNI152NLin2009cAsym and sub-01_T1w.nii.gz in that of the scanner" in fault
    named = "derivatives/**/{sub_ses}_space-MNI*_mask.nii.gz"
    assert not found(tmp_path, label=named)["sub-01"].faults
    scans = {name: f"derivatives/**/{{sub_ses}}*_{name}.nii.gz" for name in ("T1w", "FLAIR")}
    scan(tmp_path / "derivatives" / "raters", *(f"sub-01_space-MNI152NLin2009cAsym_{name}" for name in scans))
    assert not found(tmp_path, **scans)["sub-01"].faults


def test_the_space_of_a_channel_that_the_case_lacks_is_the_scanners(tmp_path):
    scan(tmp_path, "sub-01_T1w", "sub-01_FLAIR", "sub-02_FLAIR")
    mask(tmp_path, "sub-01_space-T1w_mask", "sub-02_space-T1w_mask")
    assert found(tmp_path)["sub-02"].faults == ("T1w is missing.",)


@pytest.mark.parametrize("pattern", ["{sub_ses}*_T1w.nii.gz", "{sub_ses}/anat/{sub_ses}*_T1w.nii.gz"])
def test_the_word_stands_for_subjects_and_sessions(tmp_path, pattern):
    inside = "/" in pattern
    for name in ("sub-1_T1w", "sub-2_ses-a_acq-x_T1w", "case3_T1w"):
        file = tmp_path / (f"{name.partition('_')[0]}/anat" if inside else "") / f"{name}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert list(paths_by_case(tmp_path, pattern)) == (["sub-1"] if inside else ["sub-1", "sub-2_ses-a"])
