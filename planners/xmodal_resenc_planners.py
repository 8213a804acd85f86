"""nnU-Net's presets of residual encoders, for networks with one encoder per stream."""

from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
    nnUNetPlannerResEncXL,
)

from nnunet_xmodal.planners.multi_stream_planning import MultiStreamPlanning


class XModalResEncPlannerM(MultiStreamPlanning, nnUNetPlannerResEncM):
    """For 9–11 GB of GPU memory."""

    plans_name = "nnUNetXModalResEncMPlans"


class XModalResEncPlannerL(MultiStreamPlanning, nnUNetPlannerResEncL):
    """For 24 GB of GPU memory."""

    plans_name = "nnUNetXModalResEncLPlans"


class XModalResEncPlannerXL(MultiStreamPlanning, nnUNetPlannerResEncXL):
    """For 40 GB of GPU memory."""

    plans_name = "nnUNetXModalResEncXLPlans"
