"""Points of one image by name, in LPS millimetres, from markups, tables and label maps."""

import csv
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.scan import read_whole
from nnunet_xmodal.files.tables import decimal, read_columns

_LPS_OF = {"LPS": 1.0, "1": 1.0, "RAS": -1.0, "0": -1.0}


def read_landmarks(file: Path) -> dict[str, np.ndarray]:
    """Read the points of one image.

    Args:
        file: `.fcsv` or `.mrk.json` of 3D Slicer, in the coordinate system that they name; `.csv` with the columns x, y
            and z in LPS mm, and perhaps label; or a label map, whose values, or volumes if it is 4D, have their centres
            of mass for landmarks. Points without names are named by their numbers.

    Returns:
        Name → `(3,)` in LPS mm.

    Raises:
        XModalError: for a file that is none of these, and see `scan.read_whole`.
    """
    try:
        if file.name.endswith(".fcsv"):
            return _of_fcsv(file)
        if file.name.endswith(".json"):
            return _of_markups(file)
        if file.name.endswith(".csv"):
            return _of_table(file)
        return _of_label_map(file)
    except XModalError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, AttributeError) as error:
        raise XModalError(
            f"{file} holds no landmarks ({error}): give .fcsv or .mrk.json of 3D Slicer, a .csv with x,y,z in LPS mm, "
            "or a label map."
        ) from error


def _of_fcsv(file: Path) -> dict[str, np.ndarray]:
    points: dict[str, np.ndarray] = {}
    columns, sign = ["id", "x", "y", "z"], -1.0  # RAS, as before Slicer 4.11
    for line in file.read_text(encoding="utf-8-sig").splitlines():
        key, _, value = line.lstrip("# ").partition("=")
        if line.startswith("#"):
            if key.strip() == "CoordinateSystem":
                sign = _LPS_OF[value.strip()]
            elif key.strip() == "columns":
                columns = [name.strip() for name in value.split(",")]
        elif line.strip():
            row = dict(zip(columns, next(csv.reader([line]))))
            _add(points, row.get("label"), [sign * float(row["x"]), sign * float(row["y"]), float(row["z"])])
    return points


def _of_markups(file: Path) -> dict[str, np.ndarray]:
    points: dict[str, np.ndarray] = {}
    for markup in json.loads(file.read_text(encoding="utf-8-sig"))["markups"]:
        sign = _LPS_OF[str(markup.get("coordinateSystem", "LPS"))]
        for point in markup["controlPoints"]:
            x, y, z = point["position"]
            _add(points, point.get("label"), [sign * x, sign * y, z])
    return points


def _of_table(file: Path) -> dict[str, np.ndarray]:
    points: dict[str, np.ndarray] = {}
    for _, row in read_columns(file, "xyz"):
        _add(points, row.get("label") or None, [decimal(row[axis]) for axis in "xyz"])
    return points


def _of_label_map(file: Path) -> dict[str, np.ndarray]:
    image = read_whole(file)
    if image.GetDimension() == 4:
        sides = image.GetSize()
        volumes = [sitk.Extract(image, [*sides[:3], 0], [0, 0, 0, number]) > 0 for number in range(sides[3])]
        found = {str(number): _centres(volume) for number, volume in enumerate(volumes)}
        return {name: centres[1] for name, centres in found.items() if 1 in centres}
    return {str(value): centre for value, centre in _centres(sitk.Cast(image, sitk.sitkUInt16)).items()}


def _centres(labels: sitk.Image) -> dict[int, np.ndarray]:
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(labels)
    return {value: np.array(statistics.GetCentroid(value)) for value in statistics.GetLabels()}


def _add(points: dict[str, np.ndarray], name: str | None, xyz: list[float]) -> None:
    name = name or str(len(points))
    if name in points or not np.isfinite(xyz).all():
        raise ValueError(f"the point {name} comes twice, or has no place")
    points[name] = np.array(xyz)
