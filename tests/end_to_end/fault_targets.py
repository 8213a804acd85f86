"""The commands that faults are tried on, with tiny data and untrained-as-good-as models, made once."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.phantoms.heads import write_susceptibility_dataset
from nnunet_xmodal.phantoms.mr_us import write_mr_us_dataset
from nnunet_xmodal.phantoms.two_channel import write_phantom_dataset

TRAINER = "nnUNetTrainerCSAD_1epochs_1its"
OTHER = "nnUNetTrainerMultiStream_1epochs_1its"
REGISTERS = "nnUNetTrainerAttentionReg_1epochs_1its"
RECONSTRUCTS = "nnUNetTrainerQSM_1epochs_1its"
SEGMENTATION, REGISTRATION, RECONSTRUCTION = "Dataset901_Phantom", "Dataset951_MrUs", "Dataset952_Susceptibility"


@dataclass(frozen=True)
class Target:
    """
    Attributes:
        arguments: of the command; `{out}` is the folder that it writes to.
        again: what is added when it is given for the second time.
        variable: of nnU-Net's, that is to point at `{out}`.
        needed: files, as patterns, that there must be at the end; where results are random, instead of a comparison.
        ignored: patterns of files that differ from run to run.
        workers: whether there are processes of multiprocessing that do a part of the work.
        seconds: that it takes about, where its work is done by processes that are no forks and cannot be watched.
    """

    name: str
    command: str
    arguments: Sequence[str]
    again: Sequence[str] = ()
    variable: str | None = None
    needed: Sequence[str] = ()
    ignored: Sequence[str] = ()
    environment: tuple[tuple[str, str], ...] = ()
    workers: bool = False
    seconds: float | None = None


def targets(root: Path) -> list[Target]:
    """All of them, on the data that `make_base` has made in a workspace's folder."""
    predict = ["-o", "{out}", "-device", "cpu", "--disable_tta", "--disable_progress_bar", "-f", "0"]
    images = ["-i", f"{root}/raw/{SEGMENTATION}/imagesNew"]
    segment = [*images, *predict, "-d", "901", "-c", "2d", "-tr", TRAINER]
    settings = ("predict_from_raw_data_args.json",)
    fold = f"{SEGMENTATION}/*__2d/fold_0"
    trained = (
        f"{fold}/validation/*.nii.gz",
        f"{fold}/checkpoint_final.pth",
        f"{fold}/validation/summary.json",
        f"{fold}/progress.png",
    )
    scans = ["-i", f"{root}/scans", "-o", "Dataset910_Kill", "--channels", "T1=*t1*", "T2=*t2*", "--label", "*seg*"]
    plan = ["-d", "901", "-c", "2d", "-np", "2", "-npfp", "2", "--no_pbar"]
    go_on = ("--continue_prediction",)

    def of_own_task(name: str, dataset: str, plans: str, trainer: str) -> Target:
        model = ["-d", dataset, "-c", "3d_fullres", "-p", plans, "-tr", trainer]
        arguments = ["-i", f"{root}/raw/{dataset}/imagesTs", *predict, *model]
        return Target(name, "nnUNetXModal_predict", arguments, go_on, ignored=settings)

    return [
        Target(
            "prepare",
            "nnUNetXModal_prepare",
            [*scans, "--labels", "lesion=1", "-np", "2"],
            variable="nnUNet_raw",
            workers=True,
        ),
        Target("plan", "nnUNetXModal_plan_and_preprocess", plan, variable="nnUNet_preprocessed", workers=True),
        Target(
            "predict",
            "nnUNetXModal_predict",
            [*segment, "-npp", "1", "-nps", "1"],
            go_on,
            ignored=settings,
            workers=True,
        ),
        Target(
            "predict, one process",
            "nnUNetXModal_predict",
            [*segment, "-npp", "0", "-nps", "0", "--save_probabilities"],
            go_on,
            ignored=settings,
        ),
        of_own_task("register", REGISTRATION, "nnUNetRegistrationPlans", REGISTERS),
        of_own_task("reconstruct", RECONSTRUCTION, "nnUNetReconstructionPlans", RECONSTRUCTS),
        Target(
            "compare",
            "nnUNetXModal_compare",
            ["-d", "901", "-c", "2d", "-tr", TRAINER, OTHER, "-f", "0", "-o", "{out}", "-np", "2", "--overlays", "1"],
            workers=True,
        ),
        Target(
            "train",
            "nnUNetv2_train",
            ["901", "2d", "0", "-tr", TRAINER.replace("1epochs", "2epochs"), "-device", "cpu"],
            ("--c",),
            "nnUNet_results",
            needed=trained,
            environment=(("nnUNet_n_proc_DA", "1"),),
            workers=True,
        ),
        Target(
            "crossval",
            "nnUNetXModal_crossval",
            ["-d", "901", "-c", "2d", "-tr", TRAINER, "-f", "0", "-device", "cpu"],
            variable="nnUNet_results",
            needed=trained,
            seconds=20,
        ),
    ]


def make_base(space, shrink, narrow) -> None:
    """Datasets, plans and a model of each kind, in an empty workspace."""
    raw = space.raw / SEGMENTATION
    write_phantom_dataset(raw, n_train=6, n_test=1, seed=0)
    (raw / "imagesNew").mkdir()
    for file in sorted((raw / "imagesTr").iterdir())[:6]:
        shutil.copy(file, raw / "imagesNew")
    for case, label in enumerate(sorted((raw / "labelsTr").iterdir())[:4]):
        folder = space.root / "scans" / f"patient{case}"
        folder.mkdir(parents=True)
        shutil.copy(label, folder / "seg.nii.gz")
        for channel in (0, 1):
            image = raw / "imagesTr" / label.name.replace(".nii.gz", f"_{channel:04d}.nii.gz")
            shutil.copy(image, folder / f"t{channel + 1}.nii.gz")
    space.plan(901, "-c", "2d")
    shrink(space.plans_file(SEGMENTATION))
    for trainer in (TRAINER, OTHER):
        space.run("nnUNetv2_train", SEGMENTATION, "2d", 0, "-tr", trainer, "-device", "cpu")

    shape = {"shape": (16, 24, 24), "spacing": (4.5, 3.0, 3.0)}
    write_mr_us_dataset(space.raw / REGISTRATION, n_train=5, n_test=2, seed=0, **shape)
    space.plan(951, "-c", "3d_fullres", "-pl", "RegistrationPlanner", "--grid", 8, 24, 24)
    write_susceptibility_dataset(space.raw / RECONSTRUCTION, 5, 2, 0, shape=(16, 24, 32), spacing=(3.0, 2.0, 2.0))
    space.plan(952, "-pl", "ReconstructionPlanner", "--patch", 16, 16, 32, "-c", "3d_fullres")
    narrow(space.plans_file(RECONSTRUCTION, "nnUNetReconstructionPlans"))
    for dataset, trainer, plans in (
        (REGISTRATION, REGISTERS, "nnUNetRegistrationPlans"),
        (RECONSTRUCTION, RECONSTRUCTS, "nnUNetReconstructionPlans"),
    ):
        space.run("nnUNetv2_train", dataset, "3d_fullres", 0, "-tr", trainer, "-p", plans, "-device", "cpu")
