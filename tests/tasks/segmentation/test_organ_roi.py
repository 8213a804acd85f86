"""`nnUNetXModal_predict --roi` with a stock model of random weights, whose answers depend on all that it sees."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.spatial.transform import Rotation

from nnunet_xmodal import discovery, trainers
from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.organ_crop import box_around, crop
from nnunet_xmodal.geometry.resampling import same_grid
from nnunet_xmodal.predict import predict, predictor_class

DATASET, SIZE, SPACING = "Dataset999_Tiny", (26, 22, 12), (1.0, 1.3, 2.5)
OBLIQUE = Rotation.from_euler("xyz", [14, -9, 20], degrees=True).as_matrix()
DIRECTIONS = {
    "straight": np.eye(3),
    "oblique": OBLIQUE,
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "left-handed": np.diag([1.0, -1.0, 1.0]),
    "axes swapped": np.eye(3)[[1, 2, 0]],
}


@pytest.fixture
def make_model(nnunet_folders, make_plans, make_dataset_json):
    """Writes a model folder as training leaves it, and returns the flags that name it."""

    def make(
        dimensions=3,
        kind="labels",
        trainer="nnUNetTrainer",
        cascade=False,
        reader="SimpleITKIO",
        streams=((0,), (1,)),
        **dataset,
    ):
        channels = sum(map(len, streams))
        streams = None if trainer == "nnUNetTrainer" else [list(stream) for stream in streams]
        plans = make_plans(dimensions, channels=channels, streams=streams)
        plans["image_reader_writer"] = reader
        if reader != "NaturalImage2DIO":
            plans["transpose_forward"], plans["transpose_backward"] = [1, 2, 0], [2, 0, 1]
        (name,) = plans["configurations"]
        plans["configurations"][name]["spacing"] = [1.9, 1.3, 1.1][:dimensions]
        if cascade:
            plans["configurations"][name]["previous_stage"] = "3d_lowres"
        dataset_json = {**make_dataset_json(kind, channels=channels), **dataset}
        manager = PlansManager(plans)
        heads = manager.get_label_manager(dataset_json).num_segmentation_heads
        torch.manual_seed(3)
        architecture = manager.get_configuration(name)
        trainer_class = nnUNetTrainer if trainer == "nnUNetTrainer" else getattr(trainers, trainer)
        network = trainer_class.build_network_architecture(manager, architecture, channels + 2 * cascade, heads, False)
        for parameter_name, parameter in network.named_parameters():  # so that every label wins somewhere
            if parameter_name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
            elif "seg_layers" in parameter_name:
                parameter.data -= parameter.data.mean(1, keepdim=True)
        folder = nnunet_folders / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__{name}"
        (folder / "fold_0").mkdir(parents=True)
        for file, content in (("plans", plans), ("dataset", dataset_json)):
            (folder / f"{file}.json").write_text(json.dumps(content))
        torch.save(
            {
                "network_weights": network.state_dict(),
                "trainer_name": trainer,
                "init_args": {"plans": plans, "configuration": name, "fold": 0},
                "inference_allowed_mirroring_axes": (0, 1),
            },
            folder / "fold_0" / "checkpoint_final.pth",
        )
        return ["-d", DATASET, "-c", name, "-tr", trainer, "-f", 0, "-device", "cpu", "--disable_progress_bar"]

    return make


def image_of(array, direction=OBLIQUE, spacing=SPACING):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetDirection(np.asarray(direction).ravel().tolist())
    image.SetOrigin((100.0, -40.0, 7.0))
    return image


def noise(seed):
    return np.random.default_rng(seed).normal(100, 30, SIZE[::-1]).astype(np.float32)


def block(*slices, value=1):
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[slices] = value
    return mask


ORGAN = block(slice(3, 7), slice(6, 15), slice(5, 14))
EVERYTHING = block(slice(None))


def write(image, *place):
    file = place[0].joinpath(*place[1:])
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))
    return file


@pytest.fixture
def scans(tmp_path):
    """Writes two channels of every case, and its mask."""

    def make(direction=OBLIQUE, mask=ORGAN, cases=("anna", "bert")):
        for number, case in enumerate(cases):
            for channel in range(2):
                write(image_of(noise(2 * number + channel), direction), tmp_path, "in", f"{case}_000{channel}.nii.gz")
            write(image_of(mask, direction), tmp_path, "masks", f"{case}.nii.gz")

    return make


@pytest.fixture
def run(tmp_path):
    def run(model, output, *flags, images="in"):
        words = ["-i", tmp_path / images, "-o", tmp_path / output, "-npp", 0, "-nps", 0]
        predict(request_of(parser().parse_args([str(word) for word in (*words, *model, *flags)])))
        return tmp_path / output

    return run


def voxels(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def probabilities(file):
    return np.load(file)["probabilities"]


@pytest.mark.parametrize("kind", ["labels", "regions"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_whole_image_is_predicted_to_the_bit_as_without(make_model, scans, run, tmp_path, dimensions, kind):
    model = make_model(dimensions, kind)
    scans(mask=EVERYTHING)
    plain = run(model, "plain", "--save_probabilities")
    cropped = run(model, "cropped", "--save_probabilities", "--roi", tmp_path / "masks")
    for case in ("anna", "bert"):
        assert len(np.unique(voxels(plain / f"{case}.nii.gz"))) > 1
        assert (plain / f"{case}.nii.gz").read_bytes() == (cropped / f"{case}.nii.gz").read_bytes()
        assert np.array_equal(probabilities(plain / f"{case}.npz"), probabilities(cropped / f"{case}.npz"))


@pytest.mark.parametrize("kind", ["labels", "regions"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_case_is_predicted_as_its_crop_and_lies_in_the_whole(make_model, scans, run, tmp_path, direction, kind):
    """To the bit what the cropped files give; beyond the crop there is background."""
    model, margin = make_model(3, kind), 3.0
    scans(DIRECTIONS[direction], cases=["anna"])
    box = box_around(image_of(ORGAN, DIRECTIONS[direction]), margin)
    for channel in range(2):
        whole = sitk.ReadImage(str(tmp_path / "in" / f"anna_000{channel}.nii.gz"))
        write(crop(whole, box), tmp_path, "cut", f"anna_000{channel}.nii.gz")
    cut = run(model, "of_cut", "--save_probabilities", images="cut")
    full = run(model, "full", "--save_probabilities", "--roi", tmp_path / "masks", "--margin", margin)
    prediction = sitk.ReadImage(str(full / "anna.nii.gz"))
    assert same_grid(prediction, sitk.ReadImage(str(tmp_path / "in" / "anna_0000.nii.gz")))
    part = tuple(slice(first, first + side) for first, side in zip(box.start[::-1], box.size[::-1]))
    expected = np.zeros(SIZE[::-1], np.uint8)
    expected[part] = voxels(cut / "anna.nii.gz")
    assert expected.any() and np.array_equal(sitk.GetArrayFromImage(prediction), expected)
    found = probabilities(full / "anna.npz")
    assert np.array_equal(found[(slice(None), *part)], probabilities(cut / "anna.npz"))
    outside = np.ones(SIZE[::-1], bool)
    outside[part] = False
    assert (found[1 if kind == "labels" else 0 :, outside] == 0).all()
    assert kind == "regions" or (found[0, outside] == 1).all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_cascade_reads_the_same_part_of_the_stage_before(make_model, scans, run, tmp_path, dimensions):
    model, box = make_model(dimensions, cascade=True), box_around(image_of(ORGAN), 0.0)
    scans(cases=["anna"])
    stage = np.random.default_rng(7).integers(0, 3, SIZE[::-1]).astype(np.uint8)
    write(image_of(stage), tmp_path, "stage", "anna.nii.gz")
    for folder, file in (("in", "anna_0000"), ("in", "anna_0001"), ("stage", "anna")):
        whole = sitk.ReadImage(str(tmp_path / folder / f"{file}.nii.gz"))
        write(crop(whole, box), tmp_path, f"cut_{folder}", f"{file}.nii.gz")
    cut = run(model, "of_cut", "-prev_stage_predictions", tmp_path / "cut_stage", images="cut_in")
    full = run(model, "full", "-prev_stage_predictions", tmp_path / "stage", "--roi", tmp_path / "masks")
    part = ORGAN.astype(bool)
    assert np.array_equal(voxels(full / "anna.nii.gz")[part], voxels(cut / "anna.nii.gz").ravel())
    assert not voxels(full / "anna.nii.gz")[~part].any()


def test_masks_of_any_grid_ending_and_value(make_model, scans, run, tmp_path):
    """The same box, as a mask on the image's grid, and of 0.5 mm voxels about it in straight axes."""
    model = make_model()
    scans(direction=np.eye(3), cases=["anna"])
    usual = run(model, "usual", "--roi", tmp_path / "masks", "--margin", 2)
    fine = np.zeros((80, 80, 80), np.uint8)
    z, y, x = np.meshgrid(*[np.arange(80) * 0.5] * 3, indexing="ij")
    inside = [
        (np.round(axis / mm) >= low) & (np.round(axis / mm) <= high)
        for axis, mm, low, high in zip((z, y, x), SPACING[::-1], (3, 6, 5), (6, 14, 13))
    ]
    fine[np.logical_and.reduce(inside)] = 7
    fine[:3, :3, :3] = 2
    write(image_of(fine, np.eye(3), (0.5,) * 3), tmp_path, "fine", "anna.mha")
    other = run(model, "other", "--roi", tmp_path / "fine", "--roi_label", 7, "--margin", 2)
    assert np.array_equal(voxels(usual / "anna.nii.gz"), voxels(other / "anna.nii.gz"))
    # ±2 mm: two voxels of 1 mm, two of 1.3 mm, one of 2.5 mm
    assert voxels(usual / "anna.nii.gz")[2, 4, 3:16].any() and not voxels(usual / "anna.nii.gz")[:2].any()
    assert not voxels(usual / "anna.nii.gz")[:, :4].any() and not voxels(usual / "anna.nii.gz")[..., :3].any()


def test_the_margin_is_that_of_the_training(make_model, scans, run, tmp_path, capsys):
    model = make_model(xmodal={"roi": {"margin_mm": 2.0}})
    scans(cases=["anna"])
    by_default = run(model, "default", "--roi", tmp_path / "masks")
    assert "Warning" not in capsys.readouterr().out
    by_flag = run(model, "flag", "--roi", tmp_path / "masks", "--margin", 2)
    assert (by_default / "anna.nii.gz").read_bytes() == (by_flag / "anna.nii.gz").read_bytes()
    run(model, "other", "--roi", tmp_path / "masks", "--margin", 0)
    assert "trained with a margin of 2 mm, and --margin is 0." in capsys.readouterr().out
    run(model, "whole")
    assert "trained on images cropped to an organ and 2 mm around it" in capsys.readouterr().out


def test_a_margin_that_is_none_is_a_sentence(make_model, scans, run):
    model = make_model(xmodal={"roi": {"margin": 2.0}})
    scans()
    with pytest.raises(XModalError, match="\"roi\" of the model's dataset.json is {'margin': 2.0}"):
        run(model, "out")


def test_a_model_of_whole_images_says_so(make_model, scans, run, tmp_path, capsys):
    model = make_model()
    scans(cases=["anna"])
    run(model, "whole")
    assert "Warning" not in capsys.readouterr().out
    run(model, "cropped", "--roi", tmp_path / "masks")
    assert "Warning: the model was trained on whole images" in capsys.readouterr().out


def test_parts_and_what_is_there_already(make_model, scans, run, tmp_path):
    """Masks are needed of the cases that a call predicts, and of no others."""
    model = make_model()
    scans()
    (tmp_path / "masks" / "bert.nii.gz").unlink()
    output = run(model, "out", "--roi", tmp_path / "masks", "-num_parts", 2, "-part_id", 0)
    assert sorted(file.name for file in output.glob("*.nii.gz")) == ["anna.nii.gz"]
    (output / "bert.nii.gz").write_bytes((tmp_path / "in" / "bert_0000.nii.gz").read_bytes())
    run(model, "out", "--roi", tmp_path / "masks", "--continue_prediction")
    assert (output / "bert.nii.gz").read_bytes() == (tmp_path / "in" / "bert_0000.nii.gz").read_bytes()


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


@pytest.mark.parametrize("reader", ["NibabelIOWithReorient", "SimpleITKIOWithReorient"])
def test_a_reader_that_turns_the_axes(make_model, scans, run, tmp_path, reader):
    """nnU-Net's reorienting readers see other axes than the file has; the crop is about the same voxels."""
    model = make_model(reader=reader)
    scans(DIRECTIONS["axes swapped"], cases=["anna"])
    output = run(model, "out", "--roi", tmp_path / "masks")
    prediction = sitk.ReadImage(str(output / "anna.nii.gz"))
    assert same_grid(prediction, sitk.ReadImage(str(tmp_path / "in" / "anna_0000.nii.gz")))
    found = sitk.GetArrayFromImage(prediction) != 0
    assert found[ORGAN != 0].any() and not found[ORGAN == 0].any()


def turn_files(folder, code):
    for file in sorted(folder.rglob("*.nii.gz")):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), code), str(file))


@pytest.mark.parametrize("code", ["RAI", "PSR"])
@pytest.mark.parametrize("roi", [False, True])
def test_a_model_of_turned_cases_turns_its_cases_and_results_back(make_model, scans, run, tmp_path, capsys, code, roi):
    """What `nnUNetXModal_prepare --orientation` has recorded; the same as of a case that is stored like that."""
    model = make_model(3, xmodal={"orientation": "LPS"})
    scans()
    flags = ["--roi", tmp_path / "masks"] if roi else []
    expected = run(model, "out", *flags)
    turn_files(tmp_path / "in", code)
    capsys.readouterr()
    found = run(model, "again", *flags)
    assert f"2 of 2 cases, for example anna ({code}), are turned to LPS" in capsys.readouterr().out
    for case in ("anna", "bert"):
        ours, given = (
            sitk.ReadImage(str(file)) for file in (found / f"{case}.nii.gz", tmp_path / "in" / f"{case}_0000.nii.gz")
        )
        assert same_grid(ours, given) and ours.GetSize() == given.GetSize()
        back = sitk.GetArrayFromImage(sitk.DICOMOrient(ours, "LPS"))
        assert np.array_equal(back, voxels(expected / f"{case}.nii.gz")) and len(np.unique(back)) > 1


def test_cases_stored_otherwise_are_told_where_a_model_was_not_turned(make_model, scans, run, tmp_path, capsys):
    model = make_model(3)
    scans()
    for file in (tmp_path / "in").glob("bert*"):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), "RAI"), str(file))
    run(model, "out")
    told = capsys.readouterr().err
    assert "remark: bert (RAI) is stored along other axes than the rest (LPS)" in told and "--orientation LPS" in told
    assert "remark, again: bert (RAI)" in told  # at the end


def test_pictures_have_masks_of_their_size(make_model, run, tmp_path):
    model = make_model(2, reader="NaturalImage2DIO", file_ending=".png")
    for channel in range(2):
        picture = sitk.GetImageFromArray(noise(channel)[0].astype(np.uint8))
        write(picture, tmp_path, "in", f"anna_000{channel}.png")
    organ = ORGAN[4]
    write(sitk.GetImageFromArray(organ), tmp_path, "masks", "anna.png")
    found = voxels(run(model, "out", "--roi", tmp_path / "masks", "--margin", 1) / "anna.png")
    box = np.zeros_like(organ, bool)
    box[5:16, 4:15] = True
    assert found.shape == organ.shape and found[box].any() and not found[~box].any()
    write(sitk.GetImageFromArray(organ[1:]), tmp_path, "masks", "anna.png")
    with pytest.raises(XModalError, match=r"anna.png has 21×26 pixels and the image 22×26"):
        run(model, "again", "--roi", tmp_path / "masks")


@pytest.mark.slow  # starts processes
def test_attention_maps_lie_on_the_whole_image(make_model, scans, run, tmp_path):
    model = make_model(trainer="nnUNetTrainerMultiStream")
    scans(cases=["anna"])
    output = run(model, "out", "--roi", tmp_path / "masks", "--attention_maps")
    maps = sorted((output / "attention_maps").iterdir())
    assert len(maps) == 6
    for file in maps:
        assert same_grid(sitk.ReadImage(str(file)), sitk.ReadImage(str(tmp_path / "in" / "anna_0000.nii.gz")))
        assert (voxels(file)[ORGAN != 0] != 0).any() and not voxels(file)[ORGAN == 0].any()


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


def test_cases_that_lack_channels_are_cropped_too(make_model, scans, run, tmp_path):
    """A complete and a partial case, to the bit what the cropped files give."""
    model = make_model(3, trainer="nnUNetTrainerMultiStreamDropout")
    scans()
    (tmp_path / "in" / "bert_0001.nii.gz").unlink()
    whole = run(model, "whole", "--roi", tmp_path / "masks", "--allow_missing")
    for file in (tmp_path / "in").iterdir():
        mask = sitk.ReadImage(str(tmp_path / "masks" / file.name.replace("_0000", "").replace("_0001", "")))
        write(crop(sitk.ReadImage(str(file)), box_around(mask, 0)), tmp_path, "crops", file.name)
    cropped = run(model, "cropped", "--allow_missing", images="crops")
    for case in ("anna", "bert"):
        inside = voxels(whole / f"{case}.nii.gz")[ORGAN > 0]
        assert len(np.unique(inside)) > 1
        np.testing.assert_array_equal(inside, voxels(cropped / f"{case}.nii.gz").ravel())
        assert not voxels(whole / f"{case}.nii.gz")[ORGAN == 0].any()


@pytest.mark.slow  # with the one above
def test_files_of_an_absent_stream_are_not_looked_at(make_model, scans, run, tmp_path):
    """Of a stream that lacks a channel the other one may lie elsewhere: the crop is that of the rest."""
    model = make_model(3, trainer="nnUNetTrainerMultiStreamDropout", streams=((0, 1), (2,)))
    scans(cases=["anna"])
    folder = tmp_path / "in"
    (folder / "anna_0001.nii.gz").rename(folder / "anna_0002.nii.gz")
    write(image_of(noise(9)[:5, :7, :6], np.eye(3), (9, 9, 9)), folder, "anna_0000.nii.gz")
    elsewhere = run(model, "elsewhere", "--roi", tmp_path / "masks", "--allow_missing")
    (folder / "anna_0000.nii.gz").unlink()
    without = run(model, "without", "--roi", tmp_path / "masks", "--allow_missing")
    found = voxels(elsewhere / "anna.nii.gz")
    assert found[ORGAN != 0].any() and np.array_equal(found, voxels(without / "anna.nii.gz"))
