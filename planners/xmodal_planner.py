"""nnU-Net's default planner for networks with one encoder per stream."""

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from nnunet_xmodal.planners.multi_stream_planning import MultiStreamPlanning


class XModalPlanner(MultiStreamPlanning, ExperimentPlanner):
    """Plain convolutional encoders, 8 GB unless -gpu_memory_target says otherwise."""

    plans_name = "nnUNetXModalPlans"
