"""From logits to the label map of a case, one class after the other: what nnU-Net makes of them, in less memory.

nnU-Net resamples all classes at once and takes the largest; with a running maximum two volumes suffice, however many
classes there are. Labels are the same, ties included: the first class wins.
"""

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager


def can_go_by_class(manager: LabelManager) -> bool:
    """Return whether classes can be told apart without all others: not by a nonlinearity of somebody's own."""
    return not manager.has_regions or manager.inference_nonlin is torch.sigmoid


def segmentation_of(
    logits: np.ndarray | torch.Tensor,
    properties: dict,
    configuration: ConfigurationManager,
    plans: PlansManager,
    manager: LabelManager,
) -> np.ndarray:
    """Return the label map of a case as its reader returns images: `(z, y, x)`, uint8 or uint16.

    Args:
        logits: `(heads, *spatial)` on the network's grid.
        properties: what nnU-Net's reader and preprocessor have noted about the case.
    """
    cropped = properties["shape_after_cropping_and_before_resampling"]
    spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
    planned = list(configuration.spacing)
    if len(planned) != len(cropped):  # 2d plans leave the slice axis as it is
        planned = [spacing[0], *planned]
    kind = np.uint8 if len(manager.foreground_labels) < 255 else np.uint16
    labels, highest = np.zeros(tuple(cropped), kind), None
    for head in range(len(logits)):
        on_grid = configuration.resampling_fn_probabilities(logits[head : head + 1], cropped, planned, spacing)
        of_head = torch.as_tensor(on_grid)[0]
        if manager.has_regions:
            labels[(torch.sigmoid(of_head.float()) > 0.5).numpy()] = manager.regions_class_order[head]
        elif highest is None:
            highest = of_head.numpy().copy()
        else:
            above = of_head.numpy() > highest
            labels[above] = head
            np.copyto(highest, of_head.numpy(), where=above)
    whole = np.zeros(properties["shape_before_cropping"], kind)
    whole = insert_crop_into_image(whole, labels, properties["bbox_used_for_cropping"])
    return whole.transpose(plans.transpose_backward)
