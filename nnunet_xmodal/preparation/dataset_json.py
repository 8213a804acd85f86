"""`dataset.json` of a prepared dataset."""

from nnunet_xmodal.preparation.label_maps import regions_class_order
from nnunet_xmodal.preparation.settings import PreparationSettings

FILE_ENDING = ".nii.gz"


def dataset_json_of(settings: PreparationSettings, n_train: int) -> dict:
    """Return dataset.json with streams, regions and their order where there are any, and the margin of a crop.

    Without labels there is still the one that nnU-Net cannot do without: 1, of which there is no voxel.
    """
    labels = settings.labels or {"background": 0, "foreground": 1}
    content = {
        "channel_names": {str(number): name for number, name in enumerate(settings.channels)},
        "labels": dict(labels),
        "numTraining": n_train,
        "file_ending": FILE_ENDING,
        **{key: value for key, value in settings.described.items() if key != "xmodal"},
    }
    order = content.get("regions_class_order") or regions_class_order(labels)
    if order is not None:
        content["regions_class_order"] = order
    ours = dict(settings.described.get("xmodal", {}))
    if settings.streams is not None:
        ours["streams"] = [list(stream) for stream in settings.streams]
    if settings.roi is not None:  # for prediction, which crops alike
        ours["roi"] = {"margin_mm": settings.margin_mm}
    if settings.orientation is not None:  # for prediction, which turns alike, and back
        ours["orientation"] = settings.orientation
    return {**content, "xmodal": ours} if ours else content
