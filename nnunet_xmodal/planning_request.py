"""What planning and preprocessing can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_xmodal.errors import XModalError


@dataclass(frozen=True)
class PlanRequest:
    """Describe which raw datasets are planned and preprocessed, and how; see `planning.plan_and_preprocess`.

    The options from `streams` to `b0_direction` belong to planners: None leaves each to the planner, and one that the
    planner does not take is refused.

    Attributes:
        datasets: IDs of raw datasets, for example `(501,)`.
        planner: class name of a planner of this package or of nnU-Net.
        streams: channels of each stream by name or number, `("T1+T1c", "T2+FLAIR")`; None takes those of dataset.json,
            else one stream per channel.
        iso_compute: whether streams are so narrow that a training step costs about what nnU-Net's network costs.
        patch: voxels of a patch along z, y, x of the plans' axes, of which 2d takes y, x; two numbers are for 2d alone.
        base_width: channels of the finest level, doubled by every coarser one.
        grid: voxels along z, y, x that a registration network reads.
        size: pixels of a slice that a few-shot network reads, one number or two for y and x.
        field_unit: of the field maps: `ppm`, `Hz` or `rad`.
        B0: strength of the main field in tesla.
        TE: echo time in seconds.
        b0_direction: of the main field in physical (LPS) space, x, y, z.
        unlabelled: whether training cases without a label file get an empty one.
        allow_missing: whether training cases may lack channels, of which none but those that there are count; at least
            one stream of each has to be whole.
        fingerprint_extractor: class name in nnU-Net.
        fingerprint_processes: processes for checks and fingerprint.
        verify_dataset_integrity: whether nnU-Net's own check runs as well; ours always does.
        recompute_fingerprint: whether an existing fingerprint is computed anew, as changed data need it.
        gpu_memory_gb: GPU memory to plan for, in GB; None for the planner's own.
        preprocessor: class name in nnU-Net.
        target_spacing_mm: of 3d_fullres, three numbers along z, y, x; None for the planner's own.
        plans_name: None for the planner's own.
        preprocess: False plans only.
        configurations: that are preprocessed.
        preprocessing_processes: one number, or one per configuration; None for nnU-Net's defaults.
        verbose: whether nnU-Net prints more.
        progress: whether progress bars are shown.

    Raises:
        XModalError: for no dataset, another number of spacings than three, and of processes than of configurations.
    """

    datasets: Sequence[int]
    planner: str = "ExperimentPlanner"
    streams: Sequence[str] | None = None
    iso_compute: bool | None = None
    patch: Sequence[int] | None = None
    base_width: int | None = None
    grid: Sequence[int] | None = None
    size: Sequence[int] | None = None
    field_unit: str | None = None
    B0: float | None = None
    TE: float | None = None
    b0_direction: Sequence[float] | None = None
    unlabelled: bool = False
    allow_missing: bool = False
    fingerprint_extractor: str = "DatasetFingerprintExtractor"
    fingerprint_processes: int = 8
    verify_dataset_integrity: bool = False
    recompute_fingerprint: bool = False
    gpu_memory_gb: float | None = None
    preprocessor: str = "DefaultPreprocessor"
    target_spacing_mm: Sequence[float] | None = None
    plans_name: str | None = None
    preprocess: bool = True
    configurations: Sequence[str] = ("2d", "3d_fullres", "3d_lowres")
    preprocessing_processes: Sequence[int] | None = None
    verbose: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if not self.datasets:
            raise XModalError("there is nothing to plan: give -d and the numbers of datasets.")
        spacing, processes = self.target_spacing_mm, self.preprocessing_processes
        if spacing is not None and len(spacing) != 3:
            raise XModalError(f"-overwrite_target_spacing takes three numbers in mm, got {list(spacing)}.")
        if processes is not None and len(processes) not in (1, len(self.configurations)):
            raise XModalError(
                f"-np takes one number of processes, or one for each of the {len(self.configurations)} configurations, "
                f"got {list(processes)}."
            )
