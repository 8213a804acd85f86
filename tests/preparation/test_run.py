"""Whole datasets: what is written, told, kept and left alone."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from preparation_runs import ADC, NAME, T2W, USUAL, image, rows_of, run, written

from nnunet_xmodal.datasets.cases import training_cases
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.resampling import same_grid


def test_a_folder_per_patient_becomes_a_dataset(patients, raw, drawn):
    run(patients, *USUAL, "--streams", "T2W", "ADC")
    dataset_json = json.loads((raw / NAME / "dataset.json").read_text())
    assert dataset_json == {
        "channel_names": {"0": "T2W", "1": "ADC"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        "xmodal": {"streams": [["T2W"], ["ADC"]]},
    }
    check_cases(training_cases(raw / NAME, dataset_json), dataset_json, progress=False)  # as planning does
    t2w = image(raw, "imagesTr/anna_0000.nii.gz")
    assert np.array_equal(
        sitk.GetArrayFromImage(t2w), sitk.GetArrayFromImage(sitk.ReadImage(str(patients / "anna" / "t2w.nii.gz")))
    )
    rows = rows_of(raw)
    assert len(rows) == 9
    assert rows["anna", "T2W"]["resampled"] == "no" and rows["anna", "ADC"]["resampled"] == "yes"
    assert rows["anna", "ADC"]["size_before"] == "18x16x14" and not rows["anna", "ADC"]["note"]
    figure = sitk.ReadImage(str(raw / NAME / "preparation" / "figures" / "anna.png"))
    assert min(figure.GetSize()) > 100


def test_the_labels_grid_wins_if_asked(patients, scans, raw):
    for patient in patients.iterdir():
        scans.write(scans.ball_of(scans.grid_around((20, 20, 20), (2, 2, 2), np.eye(3))), patient / "seg.nii.gz")
    run(patients, *USUAL, "--reference", "label")
    for file in ("imagesTr/bert_0000.nii.gz", "imagesTr/bert_0001.nii.gz", "labelsTr/bert.nii.gz"):
        assert same_grid(image(raw, file), scans.grid_around((20, 20, 20), (2, 2, 2), np.eye(3)))


@pytest.mark.parametrize("ending, separator", [("csv", ","), ("tsv", "\t")])
def test_a_table_gives_the_same_dataset_as_a_folder(patients, raw, tmp_path, ending, separator):
    lines = ["case,channel,file,label"]
    for name in ("anna", "bert", "carl"):
        lines += [f"{name},T2W,patients/{name}/t2w.nii.gz,patients/{name}/seg.nii.gz"]
        lines += [f"{name},ADC,patients/{name}/adc.mha,"]
    table = tmp_path / f"cases.{ending}"
    table.write_text("\n".join(lines).replace(",", separator))
    run(patients, *USUAL)
    run(table, "--labels", "lesion=1", output="Dataset511_Table")
    for file in sorted((raw / NAME).rglob("*.nii.gz")):
        other = image(raw, file.relative_to(raw / NAME), "Dataset511_Table")
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(file))), sitk.GetArrayFromImage(other))


def test_unlabelled_cases_are_for_testing_unless_asked(patients, raw, drawn):
    (patients / "bert" / "seg.nii.gz").unlink()
    run(patients, *USUAL)
    assert (raw / NAME / "imagesTs" / "bert_0001.nii.gz").is_file()
    assert json.loads((raw / NAME / "dataset.json").read_text())["numTraining"] == 2
    run(patients, *USUAL, "--unlabelled", "Tr", output="Dataset511_Tr")
    assert json.loads((raw / "Dataset511_Tr" / "dataset.json").read_text())["numTraining"] == 3


def test_a_second_run_does_what_is_missing(patients, raw, scans, capsys):
    scan = patients / "carl" / "adc.mha"
    intact = scan.read_bytes()
    scan.write_text("no image")
    run(patients, *USUAL, code=1)
    assert "1 at fault" in capsys.readouterr().out
    row = rows_of(raw)["carl", ""]
    assert row["status"] == "fault" and "adc.mha cannot be read" in row["note"]
    before = written(raw)
    assert len(before) == 6
    scan.write_bytes(intact)
    run(patients, *USUAL)
    assert "1 cases prepared, 2 were done before, 0 at fault" in capsys.readouterr().out
    after = written(raw)
    assert len(after) == 9 and {file: after[file] for file in before} == before
    assert json.loads((raw / NAME / "dataset.json").read_text())["numTraining"] == 3
    lost = raw / NAME / "imagesTr" / "anna_0000.nii.gz"
    lost.unlink()
    run(patients, *USUAL)
    assert (
        lost.is_file()
        and written(raw)[raw / NAME / "imagesTr" / "bert_0000.nii.gz"]
        == after[raw / NAME / "imagesTr" / "bert_0000.nii.gz"]
    )


def test_nothing_is_overwritten_without_the_flag(patients, raw, scans, capsys):
    run(patients, *USUAL)
    before = written(raw)
    run(patients, *USUAL, "--map", "1:1", code=2)
    assert "another value of label_map" in capsys.readouterr().err
    scans.write(scans.scan_of(scans.grid_around(*ADC, np.eye(3)), height=5), patients / "anna" / "adc.mha")
    run(patients, *USUAL, code=1)
    assert "have changed since" in rows_of(raw)["anna", ""]["note"]
    assert written(raw) == before
    run(patients, *USUAL, "--overwrite")
    assert sitk.MinimumMaximum(image(raw, "imagesTr/anna_0001.nii.gz"))[1] <= 5
    assert ("anna", "") not in rows_of(raw)


@pytest.mark.parametrize("lose", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-9])])
def test_what_is_done_stays_when_a_file_of_it_is_lost(patients, raw, lose):
    """Only that file is made again, and nothing of a case whose scans are others now."""
    run(patients, *USUAL)
    label, lost = raw / NAME / "labelsTr" / "anna.nii.gz", raw / NAME / "imagesTr" / "anna_0000.nii.gz"
    corrected = image(raw, "labelsTr/anna.nii.gz") * 0
    sitk.WriteImage(corrected, str(label))
    before = lost.read_bytes()
    lose(lost)
    for figure in (raw / NAME / "preparation" / "figures").iterdir():
        figure.unlink()
    (patients / "bert" / "adc.mha").write_text("no image")
    others = {file: time for file, time in written(raw).items() if file != lost}
    run(patients, *USUAL, code=1)
    assert lost.read_bytes() == before and not sitk.GetArrayFromImage(sitk.ReadImage(str(label))).any()
    assert {file: time for file, time in written(raw).items() if file != lost} == others
    assert (raw / NAME / "preparation" / "figures" / "anna.png").is_file()
    assert "have changed since" in rows_of(raw)["bert", ""]["note"]
    assert json.loads((raw / NAME / "dataset.json").read_text())["numTraining"] == 3


def test_a_killed_process_leaves_a_report_of_what_is_done(patients, raw, monkeypatch):
    def run_one(function, tasks, processes, doing):
        function(tasks[0])
        raise XModalError("a process was killed")

    monkeypatch.setattr("nnunet_xmodal.preparation.run.run_all", run_one)
    run(patients, *USUAL, code=2)
    assert rows_of(raw)["anna", "T2W"]["status"] == "done"
    assert json.loads((raw / NAME / "dataset.json").read_text())["numTraining"] == 1


def test_an_interrupted_run_goes_on(patients, raw):
    """Files of a case that was begun and not finished are replaced, without a flag."""
    run(patients, *USUAL)
    file = raw / NAME / "preparation" / "records" / "anna.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "done": False}))
    torn = raw / NAME / "imagesTr" / "anna_0000.nii.gz"
    torn.write_bytes(b"")
    run(patients, *USUAL)
    assert torn.stat().st_size and json.loads(file.read_text())["done"]


def test_what_others_made_is_not_touched(patients, raw, capsys):
    (raw / NAME).mkdir(parents=True)
    (raw / NAME / "dataset.json").write_text("{}")
    run(patients, *USUAL, code=2)
    assert "was not made here" in capsys.readouterr().err
    (raw / NAME / "dataset.json").unlink()
    theirs = raw / NAME / "imagesTr" / "anna_0001.nii.gz"
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    run(patients, *USUAL, code=1)
    assert theirs.read_text() == "theirs" and "no record knows it" in rows_of(raw)["anna", ""]["note"]
    assert not (raw / NAME / "imagesTr" / "anna_0000.nii.gz").exists()
    run(patients, *USUAL, output="Dataset510_Twin", code=2)
    assert "has the ID of" in capsys.readouterr().err
    run(patients, *USUAL, output="prostate", code=2)
    assert "not named as nnU-Net wants it" in capsys.readouterr().err


def test_bad_cases_are_a_sentence_each_and_the_others_are_done(patients, scans, raw, tmp_path):
    t2w = scans.grid_around(*T2W, scans.oblique)
    adc = scans.scan_of(scans.grid_around(*ADC, np.eye(3)))

    def patient(name, adc_image=adc, label=None):
        scans.write(sitk.Cast(scans.scan_of(t2w), sitk.sitkInt16), patients / name / "t2w.nii.gz")
        scans.write(adc_image, patients / name / "adc.nii.gz")
        scans.write(scans.ball_of(t2w) if label is None else label, patients / name / "seg.nii.gz")

    patient("far", scans.scan_of(scans.grid_around(*ADC, np.eye(3), (500, 0, 0))))
    patient("four", sitk.JoinSeries([adc, adc]))
    elsewhere = scans.ball_of(t2w)
    elsewhere.SetOrigin((900.0, 0.0, 0.0))
    patient("elsewhere", label=elsewhere)
    patient("unknown", label=scans.ball_of(t2w) * 7)
    patient("alone")
    (patients / "alone" / "adc.nii.gz").unlink()
    lost = scans.ball_of(t2w)
    lost.SetDirection(np.eye(3).ravel().tolist())
    patient("lost_header", label=lost)
    patient("half", label=scans.ball_of(scans.grid_around((40, 40, 40), (2, 2, 2), np.eye(3)), 10, (14, 0, 0)))
    for name, other in (("mixed", "Bert"), ("two", "Anna")):
        scans.write_dicom(sitk.Cast(scans.scan_of(t2w), sitk.sitkInt16), patients / name / "t2w")
        scans.write_dicom(sitk.Cast(adc, sitk.sitkInt16), patients / name / "adc", patient=other)
    names = {"names": lambda index: f"B{index}", "series": "1.7.7"}
    scans.write_dicom(sitk.Cast(adc, sitk.sitkInt16), patients / "two" / "adc", **names)
    run(patients, *USUAL, code=1)
    rows = rows_of(raw)
    for name, sentence in {
        "far": "ADC (adc.nii.gz) does not overlap with T2W",
        "four": "is 4D",
        "elsewhere": "on a wrong grid",
        "unknown": "holds the label 7",
        "alone": "ADC is missing.",
        "mixed": "T2W is of the patient Anna but ADC of Bert",
        "two": "holds 2 series (of 14 and 14 images)",
    }.items():
        assert rows[name, ""]["status"] == "fault" and sentence in rows[name, ""]["note"], name
    assert "its header may be wrong" in rows["lost_header", "label"]["note"]
    assert "% of its volume" in rows["half", "label"]["note"]
    assert all(rows[name, "T2W"]["status"] == "done" for name in ("anna", "bert", "carl", "lost_header", "half"))
    assert json.loads((raw / NAME / "dataset.json").read_text())["numTraining"] == 5


def test_the_advice_to_map_a_negative_value_works(patients, scans, raw):
    outside = sitk.Cast(scans.ball_of(scans.grid_around(*T2W, scans.oblique)), sitk.sitkInt16) * 2 - 1
    for name in ("anna", "bert", "carl"):
        scans.write(outside, patients / name / "seg.nii.gz")
    run(patients, *USUAL, code=1)
    assert "give --map -1:0" in rows_of(raw)["anna", ""]["note"]
    run(patients, *USUAL, "--map", "-1:0", output="Dataset511_Map")
    label = sitk.GetArrayFromImage(image(raw, "labelsTr/anna.nii.gz", "Dataset511_Map"))
    assert set(np.unique(label)) == {0, 1}


def test_files_at_two_places_are_a_remark_or_a_fault(scans, tmp_path, raw):
    """SPM moves the sform of what it registers; as long as it moves all files, they lie on each other for everyone."""
    grid = scans.grid_around((20, 18, 12), (1, 1, 2), np.eye(3))

    def patient(name, *moved):
        files = {"t2w": scans.scan_of(grid), "adc": scans.scan_of(grid), "seg": scans.ball_of(grid, 5)}
        for part, content in files.items():
            file = scans.write(content, tmp_path / "patients" / name / f"{part}.nii.gz")
            if part in moved:
                old = nibabel.load(file)
                affine = old.affine.copy()
                affine[0, 3] += 6
                header = old.header.copy()
                voxels = np.asanyarray(old.dataobj).copy()
                new = nibabel.Nifti1Image(voxels, None, header)
                new.set_sform(affine, 2)
                new.set_qform(old.affine, 1)
                nibabel.save(new, file)

    patient("alike", "t2w", "adc", "seg")
    patient("apart", "adc")
    patient("label", "seg")
    run(tmp_path / "patients", *USUAL, code=1)
    rows = rows_of(raw)
    for part in ("T2W", "ADC", "label"):
        note = rows["alike", part]["note"]
        assert "lies at two places: its sform and qform differ" in note and "6 mm apart" in note
    for name, file in (("apart", "adc.nii.gz"), ("label", "seg.nii.gz")):
        note = rows[name, ""]["note"]
        assert file in note and "at two places" in note and "t2w.nii.gz not along with it" in note


@pytest.mark.slow
def test_two_processes_write_what_one_does(patients, raw):
    run(patients, *USUAL)
    run(patients, *USUAL, "-np", "2", output="Dataset511_Two")
    for file in sorted((raw / NAME / "imagesTr").iterdir()):
        assert file.read_bytes() == (raw / "Dataset511_Two" / "imagesTr" / file.name).read_bytes()


@pytest.mark.parametrize(
    "flags, sentence",
    [
        ((), "name its channels"),
        (("--channels", "T2W"), "takes a channel and a pattern"),
        ((*USUAL, "--reference", "DWI"), "unknown channel DWI: known are T2W, ADC, label"),
        ((*USUAL, "--streams", "T2W"), "channel 1 (ADC) in none of them"),
        ((*USUAL, "--roi", "gland"), "--roi gland is no folder of masks"),
        ((*USUAL, "--margin", "4"), "--margin is the distance around the organ of --roi"),
        ((*USUAL, "--roi", "lesion", "--margin", "nan"), "--margin takes millimetres from 0, got nan"),
        ((*USUAL, "--roi", "lesion", "--margin", "inf"), "--margin takes millimetres from 0, got inf"),
        ((*USUAL, "--label_component", "-1"), "--label_component counts from 0, got -1"),
        ((*USUAL, "--margin", "0"), "--margin is the distance around the organ of --roi"),
        ((*USUAL, "--map", "1"), "--map takes pairs"),
        (USUAL[:-2], "the label's values have no names"),
        ((*USUAL, "--transform", "DWI=*.tfm"), "--transform names the unknown channel DWI"),
        (("--recipe", "acdc"), "there is no recipe acdc"),
    ],
)
def test_flags_that_make_no_sense_write_nothing(patients, raw, capsys, flags, sentence):
    run(patients, *flags, code=2)
    assert sentence in capsys.readouterr().err
    assert not raw.exists()


def test_settings_of_absent_cases_are_not_mixed(patients, raw, tmp_path):
    run(patients, *USUAL)
    (patients / "carl").rename(tmp_path / "carl")
    run(patients, *USUAL)  # cases of earlier runs stay
    assert json.loads((raw / NAME / "dataset.json").read_text())["numTraining"] == 3
    with pytest.raises(XModalError, match="holds carl, prepared with another value of unlabelled"):
        from nnunet_xmodal.preparation.request import PreparationRequest
        from nnunet_xmodal.preparation.run import prepare

        prepare(
            PreparationRequest(
                patients,
                NAME,
                ("T2W=t2w*", "ADC=adc*"),
                label="seg*",
                labels=("lesion=1",),
                unlabelled="Tr",
                overwrite=True,
                processes=1,
            )
        )


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_nothing_is_made_of_files_of_the_output(patients, raw, capsys, flags):
    """It would replace them, with --overwrite by their crops."""
    run(patients, *USUAL)
    before = {file: file.read_bytes() for file in (raw / NAME / "imagesTr").iterdir()}
    patterns = ("--channels", "T2W={case}_0000.nii.gz", "ADC={case}_0001.nii.gz")
    run(raw / NAME / "imagesTr", *patterns, *flags, code=2)
    assert f"lies in the output, {NAME}, where what is prepared would replace it" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in (raw / NAME / "imagesTr").iterdir()} == before
