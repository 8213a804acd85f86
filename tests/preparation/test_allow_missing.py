"""Cases that lack channels, prepared with what there is."""

import json

import numpy as np
import SimpleITK as sitk
from preparation_runs import ADC, NAME, T2W, USUAL, image, rows_of, run


def test_a_case_is_prepared_with_the_channels_that_it_has(patients, raw, capsys):
    (patients / "anna" / "adc.mha").unlink()
    (patients / "bert" / "t2w.nii.gz").unlink()
    run(patients, *USUAL, "--allow_missing")
    written = sorted(file.name for file in (raw / NAME / "imagesTr").iterdir())
    assert written == ["anna_0000.nii.gz", "bert_0001.nii.gz", "carl_0000.nii.gz", "carl_0001.nii.gz"]
    assert json.loads((raw / NAME / "missing.json").read_text()) == {"anna": ["ADC"], "bert": ["T2W"]}
    assert "missing.json (what 2 cases lack)" in capsys.readouterr().out
    rows = rows_of(raw)
    assert rows["anna", "ADC"]["status"] == rows["bert", "T2W"]["status"] == "missing"
    assert rows["bert", "T2W"]["note"] == "ADC gives the grid in its place" and not rows["anna", "ADC"]["note"]
    assert image(raw, "imagesTr/bert_0001.nii.gz").GetSize() == image(raw, "labelsTr/bert.nii.gz").GetSize() == ADC[0]
    assert image(raw, "imagesTr/carl_0001.nii.gz").GetSize() == T2W[0]
    assert json.loads((raw / NAME / "dataset.json").read_text())["numTraining"] == 3
    assert sitk.GetArrayFromImage(image(raw, "labelsTr/bert.nii.gz")).any()


def test_of_every_case_a_stream_has_to_be_whole(patients, scans, raw):
    for name in ("anna", "bert"):
        scans.write(scans.scan_of(scans.grid_around(*ADC, np.eye(3))), patients / name / "dwi.mha")
    (patients / "anna" / "adc.mha").unlink()
    (patients / "bert" / "adc.mha").unlink()
    (patients / "bert" / "t2w.nii.gz").unlink()
    channels = ("--channels", "T2W=t2w*", "ADC=adc*", "DWI=dwi*", "--streams", "T2W", "ADC+DWI")
    run(patients, *channels, *USUAL[3:], "--allow_missing", code=1)
    assert rows_of(raw)["bert", ""]["note"] == "T2W and ADC are missing, and no stream is whole."
    assert json.loads((raw / NAME / "missing.json").read_text()) == {"anna": ["ADC"], "carl": ["DWI"]}


def test_without_the_flag_a_missing_channel_is_a_fault(patients, raw):
    (patients / "anna" / "adc.mha").unlink()
    run(patients, *USUAL, code=1)
    assert rows_of(raw)["anna", ""]["note"] == "ADC is missing." and not (raw / NAME / "missing.json").exists()


def test_a_known_transform_leads_nowhere_without_the_channel_that_it_starts_from(patients, raw):
    transform = sitk.TranslationTransform(3, (1.0, 0.0, 0.0))
    for name in ("anna", "bert", "carl"):
        sitk.WriteTransform(transform, str(patients / name / "adc.tfm"))
    (patients / "bert" / "t2w.nii.gz").unlink()
    run(patients, *USUAL[:2], "ADC=adc.mha", *USUAL[3:], "--transform", "ADC=*.tfm", "--allow_missing", code=1)
    assert "T2W is missing, from which transforms and landmarks lead" in rows_of(raw)["bert", ""]["note"]
