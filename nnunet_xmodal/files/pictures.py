"""Files of pictures, as cameras and microscopes write them: two dimensions, no geometry."""

ENDINGS = (".png", ".bmp", ".tif", ".tiff")


def reads_pictures(dataset_json: dict) -> bool:
    """Return whether the cases of a dataset are pictures."""
    return dataset_json["file_ending"].lower() in ENDINGS
