"""The Python examples of documentation/structure.md run, one after the other, as they are printed.

Between planning and training the plans are narrowed: with all channels that are planned, a step takes half a minute.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.phantoms.two_channel import phantom_case

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "documentation" / "structure.md"


def test_the_examples_run(make_workspace, shrink):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(examples) == 5
    workspace = make_workspace("structure")
    folder = workspace.root
    for case in range(5):
        phantom = phantom_case(np.random.default_rng(case))
        patient = folder / "patients" / f"patient{case}"
        patient.mkdir(parents=True)
        for name, array in zip(("t2w", "adc", "seg"), (*phantom.images, phantom.label)):
            array = array.astype(np.uint8 if name == "seg" else np.float32)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(patient / f"{name}.nii.gz"))
    (folder / "new").mkdir()
    for file, name in (("patient0/t2w", "ann_0000"), ("patient0/adc", "ann_0001"), ("patient1/t2w", "bob_0000")):
        (folder / "new" / f"{name}.nii.gz").write_bytes((folder / "patients" / f"{file}.nii.gz").read_bytes())
    for number, example in enumerate(examples):
        script = folder / f"example{number}.py"
        script.write_text('if __name__ == "__main__":\n' + re.sub("^", "    ", example, flags=re.M), encoding="utf-8")
        workspace.run(sys.executable, script, nnUNet_compile="f")
        if (plans := workspace.plans_file("Dataset501_Prostate")).is_file():
            shrink(plans)
    assert (folder / "report" / "report.html").is_file()
    predicted = folder / "predicted"
    assert (predicted / "ann.nii.gz").is_file() and (predicted / "bob.nii.gz").is_file()
    assert "ADC" in (predicted / "missing.json").read_text()
