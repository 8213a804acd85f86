"""The commands that are left to run, for those who have a scheduler of their own."""

import os
import shlex
from collections.abc import Sequence

from nnunet_xmodal import discovery
from nnunet_xmodal.crossval.beginning import Beginning, beginning_of, unreadable
from nnunet_xmodal.crossval.job import Job


def script(waves: Sequence[Sequence[Job]]) -> str:
    """A shell script: the line that lets nnU-Net find our trainers, then one command a line.

    Finished jobs are left out. What follows a `# wait` needs everything above it.
    """
    trainers = discovery.extended_value(os.environ.get(discovery.VARIABLE))
    lines = [f"export {discovery.VARIABLE}={shlex.quote(trainers)}"]
    for number, wave in enumerate(waves):
        begin = [(job, beginning_of(job)) for job in wave]
        left = [(job, beginning) for job, beginning in begin if beginning is not Beginning.FINISHED]
        if number and left:
            lines.append("# wait until everything above has ended: the next stage reads its predictions")
        for job, beginning in left:
            if beginning is Beginning.CONTINUE:
                lines += [f"# first delete {file}, which is not readable" for file in unreadable(job)]
            lines.append(shlex.join(job.command(*beginning.value)))
    return "\n".join(lines)
