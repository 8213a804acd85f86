"""A segmenter as training leaves it, scans with masks of an organ, and predictions of them."""

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from organ_scans import DATASET, OBLIQUE, ORGAN, image_of, noise, write

from nnunet_xmodal import trainers
from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.predict import predict


@pytest.fixture
def make_model(write_model, make_plans, make_dataset_json):
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
        write_model(trainer, plans, dataset_json, [network], mirrored=(0, 1))
        return ["-d", DATASET, "-c", name, "-tr", trainer, "-f", 0, "-device", "cpu", "--disable_progress_bar"]

    return make


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
