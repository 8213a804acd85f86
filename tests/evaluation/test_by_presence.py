"""A validation's summary with the means of every pattern of presence."""

import json

import numpy as np

from nnunet_xmodal.evaluation.by_presence import add_presence


def test_means_of_patterns_stand_beside_nnunets(tmp_path):
    """Means as nnU-Net takes them: over cases, without what is undefined, then over labels."""
    dice = {"a": (0.5, 0.9), "b": (0.7, float("nan")), "c": (0.1, 0.3)}
    summary = {
        "metric_per_case": [
            {
                "prediction_file": f"/x/validation/{case}.nii.gz",
                "metrics": {"1": {"Dice": one}, "(1, 2)": {"Dice": two}},
            }
            for case, (one, two) in dice.items()
        ],
        "foreground_mean": {"Dice": 0.5},
    }
    file = tmp_path / "summary.json"
    file.write_text(json.dumps(summary))
    said = add_presence(file, {"c": ["T1c", "FLAIR"]}, ".nii.gz")
    after = json.loads(file.read_text())
    assert after["xmodal"]["missing"] == {"a": [], "b": [], "c": ["T1c", "FLAIR"]}
    of_patterns = after["xmodal"]["by_presence"]
    assert list(of_patterns) == ["complete", "no T1c+FLAIR"] and of_patterns["complete"]["cases"] == 2
    assert of_patterns["complete"]["mean"] == {"1": {"Dice": 0.6}, "(1, 2)": {"Dice": 0.9}}
    assert of_patterns["complete"]["foreground_mean"]["Dice"] == np.mean([0.6, 0.9])
    assert said == [
        "Mean Validation Dice, complete (2 cases): 0.75",
        "Mean Validation Dice, no T1c+FLAIR (1 case): 0.2",
    ]
    assert after["foreground_mean"] == summary["foreground_mean"]
    add_presence(file, {"c": ["T1c", "FLAIR"]}, ".nii.gz")
    assert json.dumps(json.loads(file.read_text())) == json.dumps(after)
