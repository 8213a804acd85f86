"""The Python examples of documentation/structure.md run, one after the other, as they are printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.phantoms.two_channel import phantom_case

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "documentation" / "structure.md"


def test_the_examples_run(tmp_path):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(examples) == 5
    for case in range(5):
        phantom = phantom_case(np.random.default_rng(case))
        folder = tmp_path / "patients" / f"patient{case}"
        folder.mkdir(parents=True)
        for name, array in zip(("t2w", "adc", "seg"), (*phantom.images, phantom.label)):
            array = array.astype(np.uint8 if name == "seg" else np.float32)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{name}.nii.gz"))
    (tmp_path / "new").mkdir()
    for file, name in (("patient0/t2w", "ann_0000"), ("patient0/adc", "ann_0001"), ("patient1/t2w", "bob_0000")):
        (tmp_path / "new" / f"{name}.nii.gz").write_bytes((tmp_path / "patients" / f"{file}.nii.gz").read_bytes())
    folders = {name: str(tmp_path / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for folder in folders.values():
        Path(folder).mkdir()
    (tmp_path / "examples.py").write_text(
        'if __name__ == "__main__":\n' + "\n".join(f"    {line}" for line in "\n".join(examples).splitlines()),
        encoding="utf-8",
    )
    environment = {**os.environ, **folders, "nnUNet_def_n_proc": "2", "nnUNet_n_proc_DA": "1", "nnUNet_compile": "f"}
    done = subprocess.run(
        [sys.executable, "examples.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "report" / "report.html").is_file()
    predicted = tmp_path / "predicted"
    assert (predicted / "ann.nii.gz").is_file() and (predicted / "bob.nii.gz").is_file()
    assert "ADC" in (predicted / "missing.json").read_text()
