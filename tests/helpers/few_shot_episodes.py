"""Plans, episodes and supports of tiny few-shot trainings, and their narrow backbone."""

import torch
import torchvision
from torch import nn

SIZE = (64, 64)


class NarrowResNet18(torchvision.models.ResNet):
    """ResNet-18 with an eighth of its channels behind the first convolution."""

    def __init__(self):
        super().__init__(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])
        self.fc = nn.Linear(512 // 8, 1000)

    def _make_layer(self, block, planes, *args, **kwargs):
        return super()._make_layer(block, planes // 8, *args, **kwargs)


def few_shot_plans(plans: dict, size=SIZE) -> dict:
    """As FewShotPlanner writes them."""
    plans["plans_name"] = "nnUNetFewShotPlans"
    plans["configurations"]["2d"]["architecture"] = {
        "network_class_name": "nnunet_xmodal.networks.prototype_network.PrototypeNetwork",
        "arch_kwargs": {"size": list(size), "chunks": 3, "shots": 1},
        "_kw_requires_import": [],
    }
    return plans


def batch_for(trainer, seed=0):
    """An episode as the trainer's own loader hands it out: a bright disc, and the same one elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*map(torch.arange, SIZE), indexing="ij")
    centres = torch.randint(20, 44, (2, 2), generator=generator)
    masks = torch.stack([(y - row) ** 2 + (x - column) ** 2 < 15**2 for row, column in centres]).to(torch.uint8)
    noise = torch.randn(2, trainer.num_input_channels, *SIZE, generator=generator)
    support, query = 2 * masks[:, None] + 0.3 * noise
    return {
        "data": query[None],
        "query_mask": masks[1:],
        "support": support[None, None],
        "support_mask": masks[None, :1],
        "pair": torch.tensor([0]),
        "keys": ["anna"],
    }


def with_support(trainer):
    """One slice for every label, in the middle chunk."""
    for label in range(trainer.plain_network.labels):
        episode = batch_for(trainer, seed=label)
        trainer.plain_network.set_support(label, 1, 0, episode["support"][0, 0], episode["support_mask"][0, 0])
    return trainer
