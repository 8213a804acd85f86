"""The number of a job in whatever sbatch prints."""

import pytest
from submitit.core.utils import FailedSubmissionError

from nnunet_xmodal.crossval.sbatch import SbatchExecutor, job_number


@pytest.mark.parametrize(
    "answer",
    [
        "Submitted batch job 15786755\n",
        "Submitted batch job 15786755 on cluster alpha\n",
        "15786755\n",
        "15786755",
        "15786755;alpha\n",
        "\n  15786755  \n",
        "sbatch: Verifying 4 nodes, 16 cores\nsbatch: account 77 charged\nSubmitted batch job 15786755\n",
        "Welcome to node 7\nQuota: 12 of 100 GB\n15786755\n",
        "--> job_submit: partition gpu\nYour job 15786755 has been submitted\n",
        "queued as 15786755\n",
        "Submitted Job 15786755.\n",
        "job 15786755 waits; scancel stops job 15786755",
    ],
)
def test_the_number_is_found(answer):
    assert job_number(answer) == "15786755"
    assert SbatchExecutor._get_job_id_from_submission_command(answer.encode()) == "15786755"


@pytest.mark.parametrize("answer", ["", "submitted", "12\n13\n", "job 12, job 13", "node7 took 3.5 h", "took 4 of 5"])
def test_what_could_be_several_numbers_is_none(answer):
    with pytest.raises(FailedSubmissionError, match="may be in the queue"):
        job_number(answer)
