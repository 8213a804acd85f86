"""Submission by sbatch: which job it has made, however it says so."""

import re

import submitit
from submitit.core.utils import FailedSubmissionError

_WORDS = re.compile(r"\bjob\s+(?P<id>[0-9]+)\b", re.IGNORECASE)  # Submitted batch job 12 on cluster a
_PARSABLE = re.compile(r"^\s*(?P<id>[0-9]+)(?:;[^;\s]+)?\s*$", re.MULTILINE)  # 12, or 12;cluster


class SbatchExecutor(submitit.SlurmExecutor):
    """Submitit's, for an sbatch that answers in any of Slurm's ways, or within the words of a site's own wrapper."""

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        return job_number(string if isinstance(string, str) else string.decode(errors="replace"))


def job_number(answer: str) -> str:
    """Read the number of a new job from what sbatch printed.

    A line that holds nothing else (`--parsable`) counts before the words `job 12`, and these before a number that
    stands alone in the whole answer.

    Raises:
        FailedSubmissionError: where the answer holds no number, or several that could be it; the job may exist.
    """
    for pattern in (_PARSABLE, _WORDS, re.compile(r"(?<![\w.:/-])(?P<id>[0-9]+)(?![\w:/-]|\.\d)")):
        found = list(dict.fromkeys(match["id"] for match in pattern.finditer(answer)))
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise FailedSubmissionError(
        f"it answered {answer.strip()!r}, in which no number of a job is to be found. The job may be in the queue: "
        "look with squeue --me before you give the command again."
    )
