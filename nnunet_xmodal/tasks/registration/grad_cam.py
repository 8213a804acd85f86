"""Grad-CAM of the two attention blocks (Song et al., 2021, Fig. 4; Selvaraju et al., Grad-CAM, 2017), by Captum.

Every channel of a feature map is weighted by the mean gradient of one number with respect to it; their sum is shown.
The paper does not name its number; here it is the length of the six outputs, which is how far the network moves the
image in the units of its loss, mm and degrees alike. Nor does it mention Grad-CAM's ReLU, which keeps what speaks for
a class: in a regression what makes a number smaller counts as much, so magnitudes are shown. Networks without
attention are shown by the feature maps in its place.
"""

import numpy as np
import SimpleITK as sitk
import torch
from torch import nn

from nnunet_xmodal.geometry.grid_chain import GridChain
from nnunet_xmodal.prediction.attributions import captum_attr
from nnunet_xmodal.tasks.registration.grid import RegistrationGrid
from nnunet_xmodal.tasks.registration.steps import NetworkStep

SIDES = ("fixed", "moving")


def attention_heat(step: NetworkStep, grid: RegistrationGrid) -> dict[str, np.ndarray]:
    """Return side → `(d, h, w)` at the features' positions, from 0 to 1; the mean over folds of maps of maximum 1."""
    attr = captum_attr("--grad_cam")
    network = step.network.to(step.device).eval()
    x = step.input_of((grid,))
    spacing = torch.tensor(grid.chain.effective_spacing, dtype=torch.float32, device=step.device)
    heat: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
    for parameters in step.parameters:
        network.load_state_dict(parameters)
        for side in SIDES:
            gradcam = attr.LayerGradCam(lambda images: network(images, spacing).norm(dim=1), shown_layer(network, side))
            with torch.enable_grad():
                found = gradcam.attribute(x)[0, 0].detach().abs()  # d h w
            heat[side].append((found / found.amax().clamp_min(1e-12)).cpu().numpy())
    return {side: np.mean(maps, 0) for side, maps in heat.items()}


def shown_layer(network: nn.Module, side: str) -> nn.Module:
    """Return the attention block whose primary input are features of this side's image, or its feature extractor."""
    return getattr(network, f"{side}_attention", None) or getattr(network, f"{side}_features")


def on_image(heat: np.ndarray, chain: GridChain, image: sitk.Image) -> sitk.Image:
    """Resample a map of features `(d, h, w)` onto the grid of an image, float32; 0 beyond.

    Pooling with stride s, kernel 3 and padding 1 centres position k on voxel s·k of the grid.
    """
    strides = [-(-side // positions) for side, positions in zip(chain.size, heat.shape)]
    spacing = np.multiply(strides, chain.effective_spacing)
    small = sitk.GetImageFromArray(np.ascontiguousarray(heat, np.float32))
    small.SetSpacing(spacing[::-1].tolist())
    small.SetDirection(chain.grid_to_physical[:3, :3].flatten().tolist())
    first = -(np.array(chain.size) - 1) / 2 * chain.effective_spacing
    small.SetOrigin(chain.to_physical(first[::-1]).tolist())
    return sitk.Resample(small, image, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
