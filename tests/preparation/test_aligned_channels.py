"""Channels brought onto each other by given transforms, by landmarks, or by a registration."""

import numpy as np
import SimpleITK as sitk
from preparation_runs import NAME, T2W, image, rows_of, run


def test_a_registration_that_gains_nothing_is_left_out(scans, raw, tmp_path):
    """Two scans that already lie on each other."""
    t2w = scans.scan_of(scans.grid_around((40, 40, 26), (1.0, 1.0, 1.6), np.eye(3)))
    for name in ("t2w", "adc"):
        scans.write(t2w, tmp_path / "p" / "anna" / f"{name}.nii.gz")
    run(tmp_path / "p", "--channels", "T2W=t2w*", "ADC=adc*", "--register")
    assert rows_of(raw)["anna", "ADC"]["transform"] == ""
    assert np.array_equal(*(sitk.GetArrayFromImage(image(raw, f"imagesTs/anna_000{n}.nii.gz")) for n in (0, 1)))


def test_transforms_and_landmarks_align_pairs(scans, raw, tmp_path):
    """A moving image in coordinates of its own, from either, lies on the fixed one afterwards."""
    matrix = np.eye(4)
    matrix[:3, :3] = scans.oblique
    matrix[:3, 3] = (300, -200, 100)
    back = np.linalg.inv(matrix)
    fixed = scans.scan_of(scans.grid_around(*T2W, scans.oblique))
    grid = scans.grid_around((30, 30, 30), (1.4, 1.4, 1.4), np.eye(3), matrix[:3, 3])
    moving = scans.scan_of(grid, lambda points: points @ back[:3, :3].T + back[:3, 3])
    pairs = tmp_path / "pairs"
    scans.write(fixed, pairs / "anna" / "mr.nii.gz")
    scans.write(moving, pairs / "anna" / "us.nii.gz")
    np.save(pairs / "anna" / "truth.npy", matrix)
    for name, points in (("mr", scans.landmarks), ("us", scans.landmarks @ matrix[:3, :3].T + matrix[:3, 3])):
        np.savetxt(pairs / "anna" / f"{name}.csv", points, delimiter=",", header="x,y,z", comments="")
    channels = ("--channels", "MR=mr.nii.gz", "TRUS=us.nii.gz")
    run(pairs, *channels, code=1)
    assert "need a transform or landmarks" in rows_of(raw)["anna", ""]["note"]
    run(pairs, *channels, "--transform", "TRUS=truth.npy", output="Dataset511_T")
    run(pairs, *channels, "--landmarks", "MR=mr.csv", "TRUS=us.csv", output="Dataset512_L")
    for name in ("Dataset511_T", "Dataset512_L"):
        made = [sitk.GetArrayFromImage(image(raw, f"imagesTs/anna_000{n}.nii.gz", name)) for n in (0, 1)]
        assert np.corrcoef(made[0].ravel(), made[1].ravel())[0, 1] > 0.98
        row = rows_of(raw, name)["anna", "TRUS"]
        transform = sitk.ReadTransform(str(raw / name / row["transform"]))
        assert np.allclose(transform.TransformPoint((0.0, 0.0, 0.0)), matrix[:3, 3], atol=1e-6)
    assert "aligned by landmarks, 0.00 mm" in row["note"]


def test_registration_is_reported_and_kept(scans, raw, tmp_path):
    moved = scans.grid_around((40, 40, 26), (1.0, 1.0, 1.6), np.eye(3))
    scans.write(scans.scan_of(moved), tmp_path / "p" / "anna" / "t2w.nii.gz")
    shifted = scans.scan_of(moved, lambda points: points - np.array([4.0, -3.0, 2.0]))
    scans.write(shifted, tmp_path / "p" / "anna" / "adc.nii.gz")
    run(tmp_path / "p", "--channels", "T2W=t2w*", "ADC=adc*", "--register")
    row = rows_of(raw)["anna", "ADC"]
    assert float(row["similarity_after"]) > float(row["similarity_before"]) + 0.1
    found = sitk.ReadTransform(str(raw / NAME / row["transform"])).TransformPoint((0.0, 0.0, 0.0))
    assert np.linalg.norm(np.array(found) - [4.0, -3.0, 2.0]) < 0.5
    assert "moved its middle by 5." in row["note"]
    assert rows_of(raw)["anna", "T2W"]["similarity_after"] == ""


def test_channels_whose_names_differ_by_their_brackets_have_a_transform_each(scans, raw, tmp_path):
    fixed = scans.scan_of(scans.grid_around((40, 40, 26), (1.0, 1.0, 1.6), np.eye(3)))
    matrices = {"b": np.eye(4), "c": np.eye(4)}
    matrices["c"][:3, 3] = 1.0, 2.0, 3.0
    for name in "abc":
        scans.write(fixed, tmp_path / "p" / "anna" / f"{name}.nii.gz")
    for name, matrix in matrices.items():
        np.save(tmp_path / "p" / "anna" / f"{name}.npy", matrix)
    channels = ("--channels", "T2W=a.nii.gz", "ADC(1)=b.nii.gz", "ADC[1]=c.nii.gz")
    run(tmp_path / "p", *channels, "--transform", "ADC(1)=b.npy", "ADC[1]=c.npy")
    for channel, shift in (("ADC(1)", (0.0, 0.0, 0.0)), ("ADC[1]", (1.0, 2.0, 3.0))):
        transform = sitk.ReadTransform(str(raw / NAME / rows_of(raw)["anna", channel]["transform"]))
        assert np.allclose(transform.TransformPoint((0.0, 0.0, 0.0)), shift)
