"""Facts that hold of every trainer with a task of its own: registration, few-shot, reconstruction, synthesis."""

import pickle
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel  # torch does not count what the CPU's fused kernel does
from torch.utils.flop_counter import FlopCounterMode

from nnunet_xmodal.comparison.cost import network_cost
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.prediction.building import building

Make = Callable[[], nnUNetTrainer]
"""Returns an initialised trainer, with other weights every time."""
BatchFor = Callable[..., dict]
"""(trainer, seed=0) → what the trainer's own loader hands out."""


def weights_and_optimizer(trainer: nnUNetTrainer) -> tuple:
    """Every number that a step may change, of a trainer with one network and one optimiser."""
    return deepcopy((trainer.network.state_dict(), trainer.optimizer.state_dict()))


class OwnTask:
    """Each method asserts one fact, or measures what a test asserts."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, assert_equal: Callable):
        self.folder, self.monkeypatch, self.assert_equal = folder, monkeypatch, assert_equal

    def without_gradient(self, network: nn.Module) -> list[str]:
        """Names of parameters whose gradient is missing, NaN or infinite."""
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        return [name for name, value in gradients.items() if value is None or not torch.isfinite(value).all()]

    def is_saved_and_loaded(
        self,
        trainer: nnUNetTrainer,
        make: Make,
        x: torch.Tensor,
        state_of: Callable = weights_and_optimizer,
        pickles: bool = True,
    ) -> None:
        """A checkpoint, alone in its folder, brings back outputs for `x` and state; the class pickles, and if `pickles`
        the network."""
        with torch.no_grad():
            expected = trainer.network.eval()(x)
        file = self.folder / "checkpoint_final.pth"
        trainer.save_checkpoint(str(file))
        assert [path.name for path in self.folder.glob("checkpoint*")] == [file.name]
        other = make()
        other.load_checkpoint(str(file))
        with torch.no_grad():
            assert torch.equal(other.network.eval()(x), expected)
            if pickles:
                assert torch.equal(pickle.loads(pickle.dumps(trainer.network))(x), expected)
        self.assert_equal(state_of(other), state_of(trainer))
        assert pickle.loads(pickle.dumps(type(trainer))) is type(trainer)

    def resumes_bit_for_bit(
        self,
        make: Make,
        batch_for: BatchFor,
        epochs: int,
        steps: int,
        killed_after: int,
        state_of: Callable = weights_and_optimizer,
    ) -> None:
        """Losses and state of a training that goes on from a checkpoint are those of one that was never killed."""
        batches: dict[int, dict] = {}

        def made(seed: int) -> nnUNetTrainer:
            torch.manual_seed(seed)
            return make()

        def train(trainer: nnUNetTrainer, numbers: range) -> list[dict]:
            losses = []
            for trainer.current_epoch in numbers:
                trainer.on_train_epoch_start()
                for seed in range(10 * trainer.current_epoch, 10 * trainer.current_epoch + steps):
                    if seed not in batches:
                        batches[seed] = batch_for(trainer, seed=seed)
                    torch.manual_seed(seed)  # perturbations, angles and dropped streams are drawn anew in every step
                    losses.append(trainer.train_step(deepcopy(batches[seed])))
            return losses

        whole = made(seed=1)
        expected = train(whole, range(epochs))
        killed = made(seed=1)
        losses = train(killed, range(killed_after))
        file = str(self.folder / "checkpoint_latest.pth")
        killed.save_checkpoint(file)
        del killed
        resumed = made(seed=2)
        resumed.load_checkpoint(file)
        assert resumed.current_epoch == killed_after
        losses += train(resumed, range(killed_after, epochs))
        assert losses == expected
        self.assert_equal(state_of(resumed), state_of(whole))

    def is_finite_in_bfloat16(self, trainer: nnUNetTrainer, batch_for: BatchFor) -> None:
        """Three steps with autocast have losses and gradients that are numbers."""
        batch = batch_for(trainer)
        trainer.network.train()
        self.monkeypatch.setattr(trainer, "mixed_precision", lambda: torch.autocast("cpu", torch.bfloat16))
        assert np.isfinite([trainer.train_step(batch)["loss"] for _ in range(3)]).all()
        assert not self.without_gradient(trainer.network)

    def has_the_same_gradients_when_scaled(self, make: Make, batch_for: BatchFor) -> None:
        """A GradScaler's factor is gone before gradients are clipped, to a norm that all exceed, and from weights."""
        plain, scaled = make(), make()
        scaled.network.load_state_dict(plain.network.state_dict())
        scaled.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for trainer in (plain, scaled):
            torch.manual_seed(1)
            trainer.largest_gradient = 1e-3
            trainer.network.train()
            trainer.train_step(batch_for(trainer))
        for ours, theirs in zip(plain.network.parameters(), scaled.network.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-9)

    def names_the_case_with_nan(self, trainer: nnUNetTrainer, batch_for: BatchFor) -> None:
        """One voxel of the batch's last case is enough."""
        batch = batch_for(trainer)
        image = batch["data"][-1, 0]
        image[(3,) * image.ndim] = float("nan")
        case = batch["keys"][-1]
        with pytest.raises(XModalError, match=f"the preprocessed case {case} holds NaN or infinite voxels"):
            trainer.train_step(batch)

    def is_all_on_a_gpu(self, gpu: FakeTensorMode, make: Make, batch_for: BatchFor) -> None:
        """A step of the training and one of the validation mix no tensors of the CPU with those of a GPU."""
        with gpu, pytest.warns(UserWarning, match="CUDA is not available"):  # nnU-Net's scaler of gradients
            trainer = make()
        assert {parameter.device.type for parameter in trainer.network.parameters()} == {"cuda"}
        batches = batch_for(trainer), batch_for(trainer)
        with gpu, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # autocast's
            trainer.network.train()
            trainer.train_step(batches[0])
            trainer.network.eval()
            with torch.no_grad():
                trainer.validation_step(batches[1])

    def stops_at_nan(self, trainer: nnUNetTrainer, parameter: nn.Parameter, batch_for: BatchFor, message: str) -> None:
        """A weight that is NaN stops the training with a message that matches."""
        trainer.network.train()
        with torch.no_grad():
            parameter.fill_(float("nan"))
        with pytest.raises(XModalError, match=message):
            trainer.train_step(batch_for(trainer))

    def refuses_stock_prediction(self, trainer: nnUNetTrainer, predicts: str, weights: dict | None = None) -> None:
        """nnUNetv2_predict is told which command to use, and that command builds the network that was trained."""
        plans, heads = trainer.plans_manager, trainer.label_manager.num_segmentation_heads
        build = (plans, trainer.configuration_manager, trainer.num_input_channels, heads, False)
        name = type(trainer).__name__
        with pytest.raises(XModalError, match=f"{name} predict {predicts}, .* use nnUNetXModal_predict"):
            trainer.build_network_architecture(*build)
        with building("predictor"):
            network = trainer.build_network_architecture(*build)
        network.load_state_dict(trainer.network.state_dict() if weights is None else weights)

    def rates(self, trainer: nnUNetTrainer, epochs: tuple[int, ...]) -> list[float]:
        """Learning rates in these epochs."""
        rates = []
        for epoch in epochs:
            trainer.lr_scheduler.step(epoch)
            rates.append(trainer.optimizer.param_groups[0]["lr"])
        return rates

    def cost(self, trainer: nnUNetTrainer) -> tuple[int, int]:
        """Parameters and operations that a comparison finds in the model folder; the trainer may be uninitialised."""
        write_json(trainer.plans_manager.plans, self.folder / "plans.json")
        write_json(trainer.dataset_json, self.folder / "dataset.json")
        return network_cost(self.folder, type(trainer).__name__, trainer.configuration_name)

    def counted_flops(self, network: nn.Module, *shape: int) -> int:
        """Operations that torch counts while the network predicts an image of this shape."""
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            network.eval()(torch.zeros(shape))
        return counter.get_total_flops()


@pytest.fixture
def own_task(tmp_path, monkeypatch, assert_equal) -> OwnTask:
    return OwnTask(tmp_path, monkeypatch, assert_equal)
