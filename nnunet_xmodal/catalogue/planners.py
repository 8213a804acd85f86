"""Every planner of this package; nnU-Net's own serve all segmentation trainers."""

from nnunet_xmodal.catalogue.entry import Entry

_STREAMS = "patch, batch and width for several encoders"

PLANNERS = (
    Entry(("XModalPlanner",), "segmentation", f"{_STREAMS}, for 8 GB", page="how-to/planners.md"),
    Entry(
        ("XModalResEncPlannerM", "XModalResEncPlannerL", "XModalResEncPlannerXL"),
        "segmentation",
        f"{_STREAMS}, residual, for 8, 24 and 40 GB",
        page="how-to/planners.md",
    ),
    Entry(
        ("RegistrationPlanner",),
        "registration",
        "one grid around the organ, the same for both images",
        page="how-to/register.md",
        streams="a fixed and a moving image",
        dimensions="3D",
    ),
    Entry(
        ("ReconstructionPlanner", "ReconstructionUNetPlanner"),
        "reconstruction",
        "images in physical units, the last channel learnt from those before it; the paper's backbone, or nnU-Net's",
        page="how-to/reconstruct.md",
        streams="1 or more, and the map to be made",
        dimensions="3D",
    ),
    Entry(
        ("FewShotPlanner",),
        "few-shot",
        "slices of one size, and their superpixels",
        page="how-to/few_shot.md",
        streams="1",
        dimensions="3D, slice by slice",
    ),
)
