"""Steps and final validation of susceptibility mapping on two ranks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xmodal.networks.qsm_unet import QSMUNet
from nnunet_xmodal.tasks.reconstruction.validation import validate_reconstruction

PATCH = (8, 8, 8)


class InMemory:
    """Three cases, as much of nnU-Net's dataset as is asked for."""

    source_folder, identifiers = "nowhere", ["a", "b", "c"]

    def load_case(self, case):
        data = 0.02 * np.random.default_rng(ord(case)).standard_normal((2, *PATCH)).astype(np.float32)
        mask = np.ones((1, *PATCH), np.int16)
        mask[:, :2] = -1
        place = {"spacing": (1.0, 1.0, 1.0), "origin": (0.0, 0.0, 0.0), "direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}
        return (
            data,
            mask,
            None,
            {
                "sitk_stuff": place,
                "spacing": (1.0, 1.0, 1.0),
                "bbox_used_for_cropping": [[0, side] for side in PATCH],
                "shape_before_cropping": PATCH,
                "shape_after_cropping_and_before_resampling": PATCH,
            },
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nnUNetTrainerQSM", "nnUNetTrainerQSMFADirect"])
def test_both_ranks_learn_the_same_and_share_the_validation(
    make_trainer, make_plans, nnunet_folders, on_two_ranks, name
):
    plans = make_plans(dimensions=3, patch_size=PATCH)
    plans["xmodal"] = {"target_channel": 1, "outputs": 1}
    for channel in "01":
        plans["foreground_intensity_properties_per_channel"][channel]["std"] = 0.02  # that of the cases
    plans["configurations"]["3d_fullres"]["architecture"] = {
        "network_class_name": f"{QSMUNet.__module__}.QSMUNet",
        "arch_kwargs": {"widths": [4, 8]},
        "_kw_requires_import": [],
    }
    trainer = make_trainer(name, plans)
    start = trainer.network.state_dict()
    torch.save(start, nnunet_folders / "start.pth")
    on_two_ranks(__file__, nnunet_folders, trainer)
    first, second = (torch.load(nnunet_folders / f"{rank}.pth") for rank in range(2))
    for parameter, _ in trainer.network.named_parameters():
        assert torch.equal(first[parameter], second[parameter]), parameter
    changed = [name for name, _ in trainer.network.named_parameters() if not torch.equal(first[name], start[name])]
    assert len(changed) > 0.8 * len(list(trainer.network.parameters()))
    summary = json.loads((nnunet_folders / "validation" / "summary.json").read_text())
    cases = [Path(content["prediction_file"]).name for content in summary["metric_per_case"]]
    assert cases == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    assert len(list((nnunet_folders / "validation" / "images").glob("*.nii.gz"))) == 3


def train_on_rank(rank: int, folder: Path, made: nnUNetTrainer) -> None:
    from two_ranks import initialize_on_rank  # which runs this

    initialize_on_rank(made, rank, folder / "start.pth")
    dataset = InMemory()
    for case in made.cases(dataset):
        made.look_at(*case)
    made.augmentation()
    made.network.train()
    for _ in range(3):
        channels = 2 + (0 if made.field_inputs is None else len(made.field_inputs.alphas))  # behind the target
        batch = {
            "data": 0.02 * torch.randn(2, channels, *PATCH),
            "target": torch.ones(2, 1, *PATCH),
            "keys": ["a", "b"],
        }
        made.train_step(batch)
    made.network.eval()
    with torch.no_grad():
        outputs = [made.validation_step(batch) for _ in range(1 + rank)]  # not the same number
    made.on_validation_epoch_end(outputs)
    described = made.plans_manager, made.configuration_manager, made.dataset_json, folder
    validate_reconstruction(made.method(), dataset, dataset.identifiers, *described, lambda line: None, rank, ranks=2)
    torch.save(made.plain_network.state_dict(), folder / f"{rank}.pth")
