"""What the pages say about nnU-Net's own commands; if one of these changes for the better, so should the pages."""

import stat
import zipfile

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.model_sharing import model_import
from nnunetv2.model_sharing.model_import import install_model_from_zip_file


def test_a_zip_leads_out_of_no_results_folder_and_replaces_what_is_there(tmp_path, monkeypatch):
    results = tmp_path / "a" / "results"
    results.mkdir(parents=True)
    (results / "model").write_text("mine")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name in ("../evil", "../../evil", str(tmp_path / "evil"), "model"):
            archive.writestr(name, "theirs")
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(tmp_path))
    monkeypatch.setattr(model_import, "nnUNet_results", str(results))
    install_model_from_zip_file(str(tmp_path / "model.zip"))
    outside = [file for file in tmp_path.rglob("*") if file.is_file() and results not in file.parents]
    assert outside == [tmp_path / "model.zip"]
    assert (results / "model").read_text() == "theirs" and not (results / "link").is_symlink()


def test_stock_prediction_runs_what_is_in_a_checkpoint(make_model):
    model = make_model()
    model.poison_checkpoint()
    nnUNetPredictor(device=torch.device("cpu")).initialize_from_trained_model_folder(str(model.folder), (0,))
    assert model.touched.exists()


def test_stock_prediction_runs_what_stock_trainers_plans_name(make_model):
    model = make_model()
    model.change_architecture(**model.run_command())
    with pytest.raises(TypeError):  # its output is no layer
        nnUNetPredictor(device=torch.device("cpu")).initialize_from_trained_model_folder(str(model.folder), (0,))
    assert model.touched.exists()


def test_stock_prediction_runs_nothing_that_our_trainers_plans_name(make_model):
    model = make_model("nnUNetTrainerMultiStream")
    model.change_architecture(**model.run_command())
    with pytest.raises(ValueError, match="nonlin in the plans is 'subprocess.check_output'"):
        nnUNetPredictor(device=torch.device("cpu")).initialize_from_trained_model_folder(str(model.folder), (0,))
    assert not model.touched.exists()
