"""Steps of a segmenter whose gradients are not clipped."""

from nnunet_xmodal.datasets.batch_check import check_batch
from nnunet_xmodal.trainers.base.own_steps import OwnSteps


class UnclippedSteps(OwnSteps):
    """A mixin before a trainer: nnU-Net's training step, with gradients as they come."""

    largest_gradient: float | None = None

    def train_step(self, batch: dict) -> dict:
        """Train on one batch; return the loss.

        Raises:
            XModalError: for NaN in the batch, which names the case, and for a loss that is NaN or infinite.
        """
        check_batch(batch)
        data, target = batch["data"].to(self.device, non_blocking=True), batch["target"]
        if isinstance(target, list):
            target = [level.to(self.device, non_blocking=True) for level in target]
        else:
            target = target.to(self.device, non_blocking=True)
        with self.mixed_precision():
            loss = self.loss(self.network(data), target)
        self.descend(loss, self.optimizer)
        self.end_step()
        self.check_losses({"loss": loss.item()})
        return {"loss": loss.detach().cpu().numpy()}
