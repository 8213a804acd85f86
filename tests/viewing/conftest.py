"""A case with two channels, two label maps, probabilities and maps, on an oblique grid."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

ANGLE = 0.3
DIRECTION = (np.cos(ANGLE), -np.sin(ANGLE), 0, np.sin(ANGLE), np.cos(ANGLE), 0, 0, 0, 1)
LABELS = {"background": 0, "organ": 1, "lesion": 2, "ignore": 3}


@pytest.fixture
def folders(tmp_path):
    """Folders of nnU-Net with the cases anna and bert, and `add(folder, name, array)` for more."""
    rng = np.random.default_rng(0)

    def add(folder, name, array):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.0, 1.5, 3.0)[: array.ndim])
        image.SetOrigin((10.0, -20.0, 5.0)[: array.ndim])
        if array.ndim == 3:
            image.SetDirection(DIRECTION)
        (tmp_path / folder).mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / folder / f"{name}.nii.gz"))

    label_map = np.zeros((6, 20, 24), np.uint8)
    label_map[1:5, 4:16, 4:16], label_map[2:4, 6:10, 6:10] = 1, 2
    for case in ("anna", "bert"):
        for channel in range(2):
            noise = rng.normal(0, 20, label_map.shape)
            add("imagesTs", f"{case}_{channel:04d}", (100.0 * label_map * (-1) ** channel + noise).astype(np.int16))
        add("labelsTs", case, label_map)
        predicted = np.roll(label_map, 2, axis=2)
        add("predicted", case, predicted)
        add("maps", f"{case}_stream0_level2", rng.random(label_map.shape, dtype=np.float32) * label_map)
        probabilities = np.stack([predicted == value for value in range(3)]).astype(np.float16)
        np.savez_compressed(tmp_path / "predicted" / f"{case}.npz", probabilities=probabilities)
    content = {"channel_names": {"0": "T2W", "1": "ADC"}, "labels": LABELS, "file_ending": ".nii.gz", "numTraining": 2}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return SimpleNamespace(root=tmp_path, add=add, label_map=label_map, dataset_json=content)
