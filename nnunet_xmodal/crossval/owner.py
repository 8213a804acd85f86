"""Who trains a fold, by what its log says."""

import re

from nnunet_xmodal.crossval.job import Job

_BEGUN = re.compile(
    r"^(?P<since>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)  (?P<command>.+)\nprocess group (?P<group>\d+) on (?P<host>\S+)$", re.M
)


def owner_of(job: Job) -> str:
    """Return process, host, time and command of the training that began last, as `run_job` writes them into the log."""
    text = job.log.read_text(encoding="utf-8", errors="replace") if job.log.is_file() else ""
    trainings = list(_BEGUN.finditer(text))
    if not trainings:  # it is about to write
        return "another scheduler"
    begun = trainings[-1]
    return f"process {begun['group']} on {begun['host']} since {begun['since']} ({begun['command']})"
