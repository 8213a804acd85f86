"""Landmarks and volumes survive: resampled, registered, given transforms, cropped and pasted back."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.landmarks import read_landmarks
from nnunet_xmodal.geometry.given_transform import fit_landmarks, read_transform
from nnunet_xmodal.geometry.organ_crop import box_around, crop, empty_grid, paste_back
from nnunet_xmodal.geometry.resampling import coverage, onto_grid, outside_value, same_grid
from nnunet_xmodal.preparation.alignment import align, as_transform
from nnunet_xmodal.preparation.label_maps import volume_mm3
from nnunet_xmodal.preparation.similarity import mutual_information

SWAPPED = np.eye(3)[[1, 2, 0]]
DIRECTIONS = {"straight": np.eye(3), "flipped": np.diag([-1.0, -1.0, 1.0]), "left-handed": np.diag([1.0, -1.0, 1.0])}
DIRECTIONS["axes swapped"] = SWAPPED


def rigid(angles=(4, -3, 6), shift=(3.0, -2.0, 4.0)):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def apply(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def landmark_errors(image, scans):
    """Voxels between each landmark and the centre of mass of what is seen around it."""
    points, values = scans.points_of(image), sitk.GetArrayFromImage(image).astype(float)
    errors = []
    for landmark in scans.landmarks:
        near = np.linalg.norm(points - landmark, axis=-1) < 6.0
        found = (points[near] * values[near, None]).sum(0) / values[near].sum()
        offset = np.reshape(image.GetDirection(), (3, 3)).T @ (found - landmark)
        errors.append(np.abs(offset / image.GetSpacing()).max())
    return errors


@pytest.mark.parametrize("reference", [*DIRECTIONS, "oblique"])
@pytest.mark.parametrize("moving", [*DIRECTIONS, "oblique"])
def test_landmarks_stay_within_half_a_voxel(scans, reference, moving):
    """Of different directions, anisotropic spacings and fields of view."""
    directions = DIRECTIONS | {"oblique": scans.oblique}
    grid = scans.grid_around((40, 44, 26), (1.1, 0.9, 2.0), directions[reference], (1.3, 0.4, -0.7))
    scan = scans.scan_of(scans.grid_around((30, 24, 36), (1.9, 2.3, 1.7), directions[moving], (-2.0, 1.0, 2.5)))
    image = onto_grid(scan, grid, "linear")
    assert same_grid(image, grid)
    assert max(landmark_errors(image, scans)) < 0.5


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 1.5), (1.6, 1.6, 2.4)])
def test_a_labels_volume_survives(scans, spacing):
    """On finer and on coarser grids, within 2 %."""
    label = scans.ball_of(scans.grid_around((40, 40, 30), (1.0, 1.0, 1.4), scans.oblique), radius=15)
    size = np.ceil(44 / np.array(spacing)).astype(int).tolist()
    on_grid = onto_grid(label, scans.grid_around(size, spacing, np.eye(3), (0.3, 0.2, 0.1)), "nearest")
    assert set(np.unique(sitk.GetArrayFromImage(on_grid))) == {0, 1}
    assert volume_mm3(on_grid) == pytest.approx(volume_mm3(label), rel=0.02)


def test_what_lies_on_the_grid_is_not_touched(scans):
    image = sitk.Cast(scans.scan_of(scans.grid_around((9, 8, 7), (1, 2, 3), scans.oblique)), sitk.sitkInt16)
    rounded = sitk.Image(image)
    rounded.SetOrigin(np.float32(image.GetOrigin()).astype(float).tolist())
    result = onto_grid(image, rounded, "linear")
    assert result.GetPixelID() == sitk.sitkInt16 and result.GetOrigin() == rounded.GetOrigin()
    assert np.array_equal(sitk.GetArrayFromImage(result), sitk.GetArrayFromImage(image))


def test_coverage_is_the_common_part(scans):
    reference = scans.grid_around((20, 20, 20), (1, 1, 1), np.eye(3))
    assert coverage(reference, reference) == 1
    half = scans.grid_around((10, 40, 40), (1, 1, 1), np.eye(3), (5, 0, 0))
    assert coverage(half, reference) == pytest.approx(0.5, abs=0.05)
    far = np.eye(4)
    far[0, 3] = 50
    assert coverage(reference, reference, far) == 0


def test_beyond_the_field_of_view_is_nothing_or_air(scans):
    image = scans.scan_of(scans.grid_around((5, 5, 5), (1, 1, 1), np.eye(3))) - 1000
    assert outside_value("CT", image) == sitk.MinimumMaximum(image)[0]
    assert outside_value("ADC", image) == 0


def test_registration_finds_a_known_movement(scans):
    """A patient who moved between two scans on oblique grids: landmarks meet within half a voxel."""
    truth = rigid()  # reference → moving point
    grid = scans.grid_around((36, 40, 26), (1.0, 1.1, 1.6), scans.oblique)
    fixed = scans.scan_of(grid)
    back = np.linalg.inv(truth)
    moving = scans.scan_of(
        scans.grid_around((34, 34, 34), (1.4, 1.3, 1.5), DIRECTIONS["flipped"]), lambda points: apply(back, points), 700
    )
    found = align(fixed, onto_grid(moving, fixed, "linear"))
    offsets = apply(found, scans.landmarks) - apply(truth, scans.landmarks)
    assert np.linalg.norm(offsets, axis=1).max() < 0.5
    before, after = (sitk.GetArrayFromImage(onto_grid(moving, fixed, "linear", m)) for m in (None, found))
    inside = np.ones(before.shape, bool)
    assert mutual_information(sitk.GetArrayFromImage(fixed), after, inside) > mutual_information(
        sitk.GetArrayFromImage(fixed), before, inside
    )


def test_mutual_information_is_entropy_of_the_same_and_nothing_of_strangers():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=(2, 40, 40, 40))
    everywhere = np.ones(a.shape, bool)
    assert mutual_information(a, a, everywhere) == pytest.approx(np.log(32), rel=0.01)
    assert mutual_information(a, -3 * a, everywhere) == pytest.approx(np.log(32), rel=0.01)
    assert mutual_information(a, b, everywhere) < 0.02
    assert np.isnan(mutual_information(a, b, ~everywhere))


def test_transforms_come_back_from_every_kind_of_file(scans, tmp_path):
    matrix = rigid()
    sitk.WriteTransform(
        as_transform(matrix, scans.grid_around((5, 5, 5), (1, 1, 1), scans.oblique)), str(tmp_path / "a.tfm")
    )
    np.save(tmp_path / "b.npy", matrix)
    np.savetxt(tmp_path / "c.txt", matrix)
    np.savetxt(tmp_path / "d.txt", matrix, delimiter=",")
    for file in sorted(tmp_path.iterdir()):
        assert np.allclose(read_transform(file), matrix, atol=1e-6), file
    np.save(tmp_path / "e.npy", np.diag([2.0, 1, 1, 1]))
    with pytest.raises(XModalError, match="not rigid"):
        read_transform(tmp_path / "e.npy")
    np.save(tmp_path / "g.npy", matrix.T)  # for points that are rows
    with pytest.raises(XModalError, match="3 -2 4 1 as its last row, where 0 0 0 1 belongs"):
        read_transform(tmp_path / "g.npy")
    for number, content in enumerate((b"", b"PK\x03\x04nothing")):
        (tmp_path / f"h{number}.npy").write_bytes(content)
        with pytest.raises(XModalError, match="neither a transform"):
            read_transform(tmp_path / f"h{number}.npy")
    np.save(tmp_path / "i.npy", np.full((4, 4), "1"))
    with pytest.raises(XModalError, match="holds no numbers"):
        read_transform(tmp_path / "i.npy")
    np.savez(tmp_path / "j.npz", matrix)
    (tmp_path / "j.npz").rename(tmp_path / "j.npy")
    with pytest.raises(XModalError, match="holds no numbers|neither a transform"):
        read_transform(tmp_path / "j.npy")
    (tmp_path / "f.tfm").write_text("nothing")
    with pytest.raises(XModalError, match="neither a transform"):
        read_transform(tmp_path / "f.tfm")


def test_landmarks_give_their_transform(scans):
    matrix = rigid()
    fixed = {str(number): point for number, point in enumerate(scans.landmarks)}
    moving = {name: apply(matrix, point) for name, point in reversed(fixed.items())} | {"alone": np.zeros(3)}
    found, left = fit_landmarks(fixed, moving)
    assert np.allclose(found, matrix, atol=1e-9) and left < 1e-9
    with pytest.raises(XModalError, match="2 landmarks"):
        fit_landmarks({name: fixed[name] for name in "01"}, moving)
    line = {name: np.array([float(name), 0, 0]) for name in "0123"}
    plane = {"0": np.zeros(3), "1": np.eye(3)[0], "2": np.eye(3)[1], "3": np.ones(3)}
    same = {name: np.ones(3) for name in "0123"}
    for first, second, which in ((line, plane, "fixed"), (plane, line, "moving"), (plane, same, "moving")):
        with pytest.raises(XModalError, match=f"landmarks of the {which} image lie on one line"):
            fit_landmarks(first, second)


def test_landmarks_of_all_files_are_in_lps(scans, tmp_path):
    """The same points, written in RAS by old and new versions of 3D Slicer, as a table and as label maps."""
    points = {f"p{number}": point for number, point in enumerate(scans.landmarks)}
    ras = {name: point * [-1, -1, 1] for name, point in points.items()}

    def rows(of):
        return [f"id,{','.join(map(str, of[name]))},0,0,0,1,1,1,0,{name},," for name in of]

    header = "# Markups fiducial file version = {}\n# CoordinateSystem = {}\n"
    columns = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    (tmp_path / "old.fcsv").write_text(header.format("4.10", 0) + columns + "\n".join(rows(ras)))
    (tmp_path / "new.fcsv").write_text(header.format("4.11", "LPS") + columns + "\n".join(rows(points)))
    table = ["x,y,z,label", *(",".join(map(str, [*points[name], name])) for name in points)]
    (tmp_path / "table.csv").write_text("\n".join(table))
    control = [{"label": name, "position": list(point)} for name, point in ras.items()]
    markups = {"markups": [{"coordinateSystem": "RAS", "controlPoints": control}]}
    (tmp_path / "slicer.mrk.json").write_text(json.dumps(markups))
    for file in sorted(tmp_path.iterdir()):
        found = read_landmarks(file)
        assert set(found) == set(points), file
        assert all(np.allclose(found[name], points[name]) for name in points), file

    grid = scans.grid_around((40, 40, 30), (1, 1, 1.3), scans.oblique)
    balls = [scans.ball_of(grid, 3.5, point) for point in scans.landmarks]
    four = scans.write(sitk.JoinSeries(balls), tmp_path / "4d.nii.gz")
    values = scans.write(
        sum((ball * (n + 1) for n, ball in enumerate(balls)), sitk.Image(balls[0]) * 0), tmp_path / "v.nii.gz"
    )
    for file in (four, values):
        found = list(read_landmarks(file).values())
        assert np.abs(np.array(found) - scans.landmarks).max() < 0.3
    (tmp_path / "bad.csv").write_text("a,b\n1,2")
    with pytest.raises(XModalError, match="has no column x"):
        read_landmarks(tmp_path / "bad.csv")


def test_a_crop_holds_the_organ_and_its_margin(scans):
    grid = scans.grid_around((30, 34, 20), (1.0, 0.8, 2.5), scans.oblique)
    ball = scans.ball_of(grid, radius=6)
    box = box_around(ball, 3.0)
    cropped = crop(ball, box)
    assert volume_mm3(cropped) == volume_mm3(ball)
    inside = np.argwhere(sitk.GetArrayFromImage(cropped))[:, ::-1]  # x y z
    margins = np.minimum(inside.min(0), np.array(box.size) - 1 - inside.max(0)) * cropped.GetSpacing()
    assert (margins >= 3.0).all() and (margins < 3.0 + np.array(cropped.GetSpacing())).all()
    everything = box_around(ball, 1000.0)
    assert everything.start == (0, 0, 0) and everything.size == ball.GetSize()
    with pytest.raises(XModalError, match="empty"):
        box_around(ball * 0, 3.0)


def test_pasted_back_is_where_it_was_cut_out(scans):
    """Also onto a grid of which only numbers were kept, or single precision."""
    grid = scans.grid_around((30, 34, 20), (1.0, 0.8, 2.5), scans.oblique, (100, -50, 700))
    ball = scans.ball_of(grid, 6, (100, -50, 700), value=3)
    cropped = crop(ball, box_around(ball, 2.0))
    geometry = ball.GetSize(), ball.GetSpacing(), np.float32(ball.GetOrigin()).astype(float), ball.GetDirection()
    for full in (ball, empty_grid(*geometry)):
        back = paste_back(cropped, full)
        assert same_grid(back, ball) and back.GetPixelID() == ball.GetPixelID()
        assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(ball))
    shifted = sitk.Image(cropped)
    shifted.SetOrigin((np.array(cropped.GetOrigin()) + 0.3).tolist())
    with pytest.raises(XModalError, match="does not lie on voxels"):
        paste_back(shifted, ball)
    with pytest.raises(XModalError, match="reaches beyond"):
        paste_back(ball, cropped)
