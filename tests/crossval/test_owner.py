"""Who trains a fold, by its log."""

from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.owner import owner_of

LOG = """
2026-01-02 03:04:05  nnUNetv2_train Dataset001_A 2d 0
process group 11 on first
Epoch 0

2026-01-03 03:04:05  nnUNetv2_train Dataset001_A 2d 0 --c
process group 12 on second
Epoch 1
"""


def test_the_last_one_that_began(tmp_path):
    job = Job(str(tmp_path), "Dataset001_A", "2d", "nnUNetTrainer", "nnUNetPlans", 0)
    assert owner_of(job) == "another scheduler"
    job.folder.mkdir(parents=True)
    job.log.write_text(LOG)
    said = owner_of(job)
    assert said == "process 12 on second since 2026-01-03 03:04:05 (nnUNetv2_train Dataset001_A 2d 0 --c)"
