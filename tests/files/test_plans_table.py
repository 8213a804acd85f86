"""What was planned is told: every configuration with what it inherits."""

from nnunet_xmodal.files.plans_table import plans_table


def test_a_row_for_each_configuration(make_plans):
    plans = make_plans(3, patch_size=(16, 32, 32))
    plans["configurations"]["3d_fullres"]["spacing"] = [2.5, 0.78125, 0.78125]
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "batch_size": 7}
    plans["configurations"]["own"] = {}
    header, full, cascade, own = plans_table(plans).splitlines()
    assert header.split() == ["configuration", "spacing", "(mm)", "patch", "batch", "levels", "widths", "network"]
    assert full.split() == ["3d_fullres", "2.5×0.781×0.781", "16×32×32", "2", "3", "4–8", "PlainConvUNet"]
    assert cascade.split() == ["3d_cascade_fullres", "2.5×0.781×0.781", "16×32×32", "7", "3", "4–8", "PlainConvUNet"]
    assert own.split() == ["own", *["–"] * 6]
