"""Where the voxels of a DICOM segmentation lie, frame by frame, by plain loops over what the file says."""

import numpy as np
import SimpleITK as sitk


def masks_of(segmentation, frames, grid: sitk.Image) -> dict[str, np.ndarray]:
    """Segment's name → bool of the grid's shape `(z, y, x)`.

    Args:
        segmentation: as pydicom reads the file.
        frames: `(N, rows, columns)` of that file, by whatever has read its pixels.
    """
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    names = {segment.SegmentNumber: segment.SegmentLabel for segment in segmentation.SegmentSequence}
    masks = {name: np.zeros(grid.GetSize()[::-1], bool) for name in names.values()}
    groups = segmentation.PerFrameFunctionalGroupsSequence
    assert len(frames) == len(groups) == int(segmentation.NumberOfFrames)
    for frame, group in zip(frames, groups):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        plane = group.get("PlaneOrientationSequence") or shared.PlaneOrientationSequence
        along_row, along_column = np.reshape(np.array(plane[0].ImageOrientationPatient, float), (2, 3))
        measures = group.get("PixelMeasuresSequence") or shared.PixelMeasuresSequence
        between_rows, between_columns = map(float, measures[0].PixelSpacing)
        for row, column in np.argwhere(frame):
            point = position + along_row * between_columns * column + along_column * between_rows * row
            x, y, z = grid.TransformPhysicalPointToIndex(point.tolist())
            assert not masks[names[number]][z, y, x]  # no voxel comes twice
            masks[names[number]][z, y, x] = True
    return masks


def check_masks(file, labels: sitk.Image, values: dict[str, tuple[int, ...]]) -> None:
    """Assert that a file holds a label map voxel by voxel and segment by segment, as pydicom and as SimpleITK read it.

    Args:
        values: of each segment in the label map.
    """
    import pydicom

    segmentation, array = pydicom.dcmread(file), sitk.GetArrayFromImage(labels)
    itk = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    for frames in (segmentation.pixel_array, itk):
        masks = masks_of(segmentation, np.reshape(frames, (-1, *np.shape(frames)[-2:])), labels)
        assert set(masks) == set(values)
        for name, of_segment in values.items():
            np.testing.assert_array_equal(masks[name], np.isin(array, of_segment), name)
