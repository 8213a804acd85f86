"""Whether plans may read the preprocessed data of others."""

from pathlib import Path

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.paths import nnUNet_preprocessed

from nnunet_xmodal.files.complete import is_complete
from nnunet_xmodal.files.json_files import read_json

STOCK_DATA = ("2d", "3d_fullres")
"""Configurations whose preprocessed data know nothing of network, patch and width."""


def shares_data(planner: ExperimentPlanner, plans_name: str, configuration: str) -> bool:
    """Tell whether a configuration preprocesses to the very data of the same one in plans of another name.

    Never with a preprocessor or a spacing of the user's: nnU-Net takes spacing and order of axes of 2d from those of
    3d_fullres. And not where the other plans lie there with another spacing, order of axes or normalisation, because
    whoever preprocesses replaces the other's data.
    """
    as_planned = planner.preprocessor_name == "DefaultPreprocessor" and planner.overwrite_target_spacing is None
    if configuration not in STOCK_DATA or not as_planned or planner.suppress_transpose:
        return False
    file = Path(str(nnUNet_preprocessed)) / planner.dataset_name / f"{plans_name}.json"
    if not is_complete(file):  # those that are cut off are planned anew
        return True
    plans = read_json(file)
    other = plans["configurations"].get(configuration)
    if other is None:
        return True
    forward, _ = planner.determine_transpose()
    spacing = planner.determine_fullres_target_spacing()[forward][-len(other["spacing"]) :]
    schemes, masked = planner.determine_normalization_scheme_and_whether_mask_is_used_for_norm()
    return bool(
        list(plans["transpose_forward"]) == list(forward)
        and np.allclose(other["spacing"], spacing, rtol=1e-6, atol=0)
        and other["normalization_schemes"] == list(schemes)
        and other["use_mask_for_norm"] == list(masked)
    )
