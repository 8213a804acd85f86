"""Every planner by name, each imported only when asked for; nnU-Net's own are found as well."""

from importlib import import_module
from pkgutil import walk_packages

from nnunet_xmodal.errors import XModalError

PLANNERS = {
    "XModalPlanner": "xmodal_planner",
    "XModalResEncPlannerM": "xmodal_resenc_planners",
    "XModalResEncPlannerL": "xmodal_resenc_planners",
    "XModalResEncPlannerXL": "xmodal_resenc_planners",
    "RegistrationPlanner": "registration_planner",
    "FewShotPlanner": "few_shot_planner",
    "ReconstructionPlanner": "reconstruction_planner",
    "ReconstructionUNetPlanner": "reconstruction_planner",
}
"""Names of the planners of this package, and their modules."""


def planner_class(name: str) -> type:
    """Return a planner of this package or of nnU-Net.

    Raises:
        XModalError: for an unknown name; lists the known ones.
    """
    if name in PLANNERS:
        return getattr(import_module(f"{__name__}.{PLANNERS[name]}"), name)
    stock = _planners_of_nnunet()
    if name not in stock:
        raise XModalError(f"there is no planner {name}; known are {', '.join([*PLANNERS, *sorted(stock)])}.")
    return stock[name]


def _planners_of_nnunet() -> dict[str, type]:
    from nnunetv2.experiment_planning import experiment_planners
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    found: dict[str, type] = {}
    for module_info in walk_packages(experiment_planners.__path__, f"{experiment_planners.__name__}."):
        module = import_module(module_info.name)
        found.update(
            (name, value)
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, ExperimentPlanner)
        )
    return found
