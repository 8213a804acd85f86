"""Whole datasets: what is written, told, kept and left alone."""

import csv
import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.commands import paste
from nnunet_xmodal.commands.prepare import main
from nnunet_xmodal.datasets.checks import check_cases, training_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.organ_crop import empty_grid
from nnunet_xmodal.geometry.resampling import same_grid
from nnunet_xmodal.preparation.paste import paste_folder

NAME = "Dataset510_Prostate"
T2W = ((28, 26, 12), (1.0, 1.1, 3.0))
ADC = ((18, 16, 14), (2.0, 2.0, 2.6))


@pytest.fixture
def patients(scans, tmp_path):
    """Three folders of two scans and a label, each oblique in its own way."""
    folder = tmp_path / "patients"
    for name in ("anna", "bert", "carl"):
        t2w = scans.grid_around(*T2W, scans.oblique)
        scans.write(sitk.Cast(scans.scan_of(t2w), sitk.sitkInt16), folder / name / "t2w.nii.gz")
        scans.write(scans.scan_of(scans.grid_around(*ADC, np.eye(3))), folder / name / "adc.mha")
        scans.write(scans.ball_of(t2w), folder / name / "seg.nii.gz")
    return folder


def run(source, *flags, output=NAME, code=0):
    words = ["-i", str(source), "-o", output, "-np", "1", *map(str, flags)]
    if not code:
        return main(words)
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == code


USUAL = ("--channels", "T2W=t2w*", "ADC=adc*", "--label", "seg*", "--labels", "lesion=1")


def rows_of(raw, name=NAME):
    with open(raw / name / "prepare.csv", newline="") as file:
        return {(row["case"], row["channel"]): row for row in csv.DictReader(file)}


def image(raw, file, name=NAME):
    return sitk.ReadImage(str(raw / name / file))


def written(raw):
    return {file: file.stat().st_mtime_ns for file in sorted(raw.rglob("*.nii.gz"))}


def test_a_folder_per_patient_becomes_a_dataset(patients, raw):
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


def test_a_table_gives_the_same_dataset_as_a_folder(patients, raw, tmp_path):
    lines = ["case,channel,file,label"]
    for name in ("anna", "bert", "carl"):
        lines += [f"{name},T2W,patients/{name}/t2w.nii.gz,patients/{name}/seg.nii.gz"]
        lines += [f"{name},ADC,patients/{name}/adc.mha,"]
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    run(patients, *USUAL)
    run(tmp_path / "cases.csv", "--labels", "lesion=1", output="Dataset511_Table")
    for file in sorted((raw / NAME).rglob("*.nii.gz")):
        other = image(raw, file.relative_to(raw / NAME), "Dataset511_Table")
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(file))), sitk.GetArrayFromImage(other))


def test_unlabelled_cases_are_for_testing_unless_asked(patients, raw):
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


def test_a_registration_that_gains_nothing_is_left_out(scans, raw, tmp_path):
    """Two scans that already lie on each other."""
    t2w = scans.scan_of(scans.grid_around((40, 40, 26), (1.0, 1.0, 1.6), np.eye(3)))
    for name in ("t2w", "adc"):
        scans.write(t2w, tmp_path / "p" / "anna" / f"{name}.nii.gz")
    run(tmp_path / "p", "--channels", "T2W=t2w*", "ADC=adc*", "--register")
    assert rows_of(raw)["anna", "ADC"]["transform"] == ""
    assert np.array_equal(*(sitk.GetArrayFromImage(image(raw, f"imagesTs/anna_000{n}.nii.gz")) for n in (0, 1)))


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


@pytest.mark.parametrize("by", ["label", "value", "folder"])
def test_a_crop_is_a_part_of_the_whole_and_goes_back(patients, scans, raw, tmp_path, by):
    """Every voxel of a cropped channel, resampled or not, is the whole image's; a prediction on it is pasted back."""
    run(patients, *USUAL)
    if by == "folder":
        for name in ("anna", "bert", "carl"):
            mask = scans.ball_of(scans.grid_around((22, 22, 22), (2, 2, 2), np.eye(3)))
            scans.write(mask, tmp_path / "masks" / f"{name}.nii.gz")
    roi = {"label": "lesion", "value": "1", "folder": tmp_path / "masks"}[by]
    run(patients, *USUAL, "--roi", roi, "--margin", 2, output="Dataset511_Crop")
    record = json.loads((raw / "Dataset511_Crop" / "preparation" / "records" / "anna.json").read_text())
    full = empty_grid(**record["grid"])
    assert same_grid(full, image(raw, "imagesTr/anna_0000.nii.gz"))
    start, size = record["box"]["start"], record["box"]["size"]
    part = tuple(slice(first, first + side) for first, side in zip(start[::-1], size[::-1]))
    for file in ("imagesTr/anna_0000.nii.gz", "imagesTr/anna_0001.nii.gz", "labelsTr/anna.nii.gz"):
        cropped, whole = image(raw, file, "Dataset511_Crop"), sitk.GetArrayFromImage(image(raw, file))
        assert cropped.GetSize() == tuple(size) and np.prod(size) < whole.size
        assert np.allclose(sitk.GetArrayFromImage(cropped), whole[part], rtol=1e-4, atol=1e-2)
    paste.main(["-i", str(raw / "Dataset511_Crop" / "labelsTr"), "-o", str(tmp_path / "back"), "-d", "511"])
    for name in ("anna", "bert", "carl"):
        files = tmp_path / "back" / f"{name}.nii.gz", patients / name / "seg.nii.gz"
        back, label = (sitk.ReadImage(str(file)) for file in files)
        assert same_grid(back, label)
        assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(label))


def test_what_cannot_be_pasted_is_a_sentence(patients, raw, tmp_path):
    run(patients, *USUAL)
    labels, output = raw / NAME / "labelsTr", tmp_path / "back"
    (tmp_path / "empty").mkdir()
    for dataset, folder, sentence in (
        ("777", labels, "-d 777 names no dataset"),
        (NAME, tmp_path / "empty", "holds no files that end in .nii.gz"),
        ("Dataset512_Other", labels, "was not made by nnUNetXModal_prepare"),
    ):
        (raw / "Dataset512_Other").mkdir(exist_ok=True)
        with pytest.raises(XModalError, match=sentence):
            paste_folder(folder, dataset, output)
    paste_folder(labels, NAME, output)
    with pytest.raises(XModalError, match=r"anna.nii.gz exists: give another folder, or --overwrite"):
        paste_folder(labels, NAME, output)
    assert len(paste_folder(raw / NAME / "imagesTr", NAME, output, overwrite=True)) == 6  # <case>_0000.nii.gz as well
    (labels / "anna.nii.gz").rename(labels / "nina.nii.gz")
    with pytest.raises(XModalError, match=r"nina.nii.gz is of no case that Dataset510_Prostate holds"):
        paste_folder(labels, NAME, output, overwrite=True)
    (labels / "nina.nii.gz").rename(labels / "anna.nii.gz")
    other = sitk.ReadImage(str(labels / "anna.nii.gz"))
    other.SetOrigin((0.0, 0.0, 0.0))
    sitk.WriteImage(other, str(labels / "anna.nii.gz"))
    with pytest.raises(XModalError, match=r"anna.nii.gz: the cropped image does not lie on voxels of the full one"):
        paste_folder(labels, NAME, output, overwrite=True)


def test_prediction_learns_what_was_cropped(patients, raw):
    run(patients, *USUAL, "--roi", "lesion", "--margin", 2, "--streams", "T2W", "ADC")
    dataset_json = json.loads((raw / NAME / "dataset.json").read_text())
    assert dataset_json["xmodal"] == {"streams": [["T2W"], ["ADC"]], "roi": {"margin_mm": 2.0}}


def test_values_of_masks_are_chosen(patients, scans, raw, tmp_path, capsys):
    """A multi-organ mask: the organ is one of its values."""
    for name in ("anna", "bert", "carl"):
        grid = scans.grid_around((22, 22, 22), (2, 2, 2), np.eye(3))
        mask = scans.ball_of(grid, 6, (4, 0, 0), 2) + scans.ball_of(grid, 5, (-14, 0, 0), 1)
        scans.write(mask, tmp_path / "masks" / f"{name}.nii.gz")
        scans.write(mask == 2, tmp_path / "one" / f"{name}.nii.gz")
    run(patients, *USUAL, "--roi", tmp_path / "masks", "--roi_label", 2)
    run(patients, *USUAL, "--roi", tmp_path / "one", output="Dataset511_One")
    for file in sorted((raw / NAME / "imagesTr").iterdir()):
        assert file.read_bytes() == (raw / "Dataset511_One" / "imagesTr" / file.name).read_bytes()
    run(patients, *USUAL, "--roi", tmp_path / "one", "--roi_label", 3, output="Dataset512_None", code=1)
    assert "has no voxel of 3: there is nothing to crop to" in rows_of(raw, "Dataset512_None")["anna", ""]["note"]
    run(patients, *USUAL, "--roi", "lesion", "--roi_label", 2, output="Dataset513_None", code=2)
    assert "--roi_label says which values of masks are the organ" in capsys.readouterr().err


def test_a_channel_that_misses_the_organ_is_remarked_on(patients, scans, raw):
    """ADC covers more than half of T2W, but not where the lesion is."""
    t2w = scans.grid_around(*T2W, np.eye(3))
    scans.write(sitk.Cast(scans.scan_of(t2w), sitk.sitkInt16), patients / "anna" / "t2w.nii.gz")
    scans.write(
        scans.scan_of(scans.grid_around((18, 18, 20), (2, 2, 2), np.eye(3), (12, 0, 0))), patients / "anna" / "adc.mha"
    )
    scans.write(scans.ball_of(t2w, 3, (-11, 0, 0)), patients / "anna" / "seg.nii.gz")
    run(patients, *USUAL, "--roi", "lesion")
    assert rows_of(raw)["anna", "ADC"]["note"] == "covers 0 % of the crop"
    assert not rows_of(raw)["bert", "ADC"]["note"]


def test_a_case_without_a_mask_is_listed(patients, scans, raw, tmp_path):
    scans.write(
        scans.ball_of(scans.grid_around((22, 22, 22), (2, 2, 2), np.eye(3))), tmp_path / "masks" / "anna.nii.gz"
    )
    run(patients, *USUAL, "--roi", tmp_path / "masks", code=1)
    assert "--roi needs a mask for every case" in rows_of(raw)["bert", ""]["note"]
    assert (raw / NAME / "imagesTr" / "anna_0000.nii.gz").is_file()


@pytest.mark.parametrize(
    "flags, sentence",
    [
        ((), "name its channels"),
        (("--channels", "T2W"), "takes a channel and a pattern"),
        ((*USUAL, "--reference", "DWI"), "unknown channel DWI: known are T2W, ADC, label"),
        ((*USUAL, "--streams", "T2W"), "channel 1 (ADC) in none of them"),
        ((*USUAL, "--roi", "gland"), "--roi gland is no folder of masks"),
        ((*USUAL, "--margin", "4"), "--margin is the distance around the organ of --roi"),
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


def test_transforms_and_landmarks_align_pairs(scans, raw, tmp_path):
    """A moving image in coordinates of its own, from either, lies on the fixed one afterwards."""
    matrix = np.eye(4)
    matrix[:3, :3] = scans.oblique
    matrix[:3, 3] = (300, -200, 100)
    back = np.linalg.inv(matrix)
    fixed = scans.scan_of(scans.grid_around(*T2W, scans.oblique))
    grid = scans.grid_around((30, 30, 30), (1.4, 1.4, 1.4), np.eye(3), matrix[:3, 3])
    moving = scans.scan_of(grid, lambda points: points @ back[:3, :3].T + back[:3, 3])
    pairs = tmp_path / "pairs"
    scans.write(fixed, pairs / "anna" / "mr.nii.gz")
    scans.write(moving, pairs / "anna" / "us.nii.gz")
    np.save(pairs / "anna" / "truth.npy", matrix)
    for name, points in (("mr", scans.landmarks), ("us", scans.landmarks @ matrix[:3, :3].T + matrix[:3, 3])):
        np.savetxt(pairs / "anna" / f"{name}.csv", points, delimiter=",", header="x,y,z", comments="")
    channels = ("--channels", "MR=mr.nii.gz", "TRUS=us.nii.gz")
    run(pairs, *channels, code=1)
    assert "need a transform or landmarks" in rows_of(raw)["anna", ""]["note"]
    run(pairs, *channels, "--transform", "TRUS=truth.npy", output="Dataset511_T")
    run(pairs, *channels, "--landmarks", "MR=mr.csv", "TRUS=us.csv", output="Dataset512_L")
    for name in ("Dataset511_T", "Dataset512_L"):
        made = [sitk.GetArrayFromImage(image(raw, f"imagesTs/anna_000{n}.nii.gz", name)) for n in (0, 1)]
        assert np.corrcoef(made[0].ravel(), made[1].ravel())[0, 1] > 0.98
        row = rows_of(raw, name)["anna", "TRUS"]
        transform = sitk.ReadTransform(str(raw / name / row["transform"]))
        assert np.allclose(transform.TransformPoint((0.0, 0.0, 0.0)), matrix[:3, 3], atol=1e-6)
    assert "aligned by landmarks, 0.00 mm" in row["note"]


def test_registration_is_reported_and_kept(scans, raw, tmp_path):
    moved = scans.grid_around((40, 40, 26), (1.0, 1.0, 1.6), np.eye(3))
    scans.write(scans.scan_of(moved), tmp_path / "p" / "anna" / "t2w.nii.gz")
    shifted = scans.scan_of(moved, lambda points: points - np.array([4.0, -3.0, 2.0]))
    scans.write(shifted, tmp_path / "p" / "anna" / "adc.nii.gz")
    run(tmp_path / "p", "--channels", "T2W=t2w*", "ADC=adc*", "--register")
    row = rows_of(raw)["anna", "ADC"]
    assert float(row["similarity_after"]) > float(row["similarity_before"]) + 0.1
    found = sitk.ReadTransform(str(raw / NAME / row["transform"])).TransformPoint((0.0, 0.0, 0.0))
    assert np.linalg.norm(np.array(found) - [4.0, -3.0, 2.0]) < 0.5
    assert "moved its middle by 5." in row["note"]
    assert rows_of(raw)["anna", "T2W"]["similarity_after"] == ""


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
