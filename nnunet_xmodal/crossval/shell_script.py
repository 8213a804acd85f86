"""The commands that are left to run, for those who have a scheduler of their own."""

import os
import re
import shlex
from collections.abc import Sequence

from nnunet_xmodal import discovery
from nnunet_xmodal.crossval.checkpoints import SET_ASIDE, unreadable_checkpoints
from nnunet_xmodal.crossval.job import Job
from nnunet_xmodal.crossval.job_start import JobStart, start_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trust import VARIABLE, is_trusted


def script(waves: Sequence[Sequence[Job]]) -> str:
    """Return a shell script: the line that lets nnU-Net find our trainers, then one command a line.

    Finished jobs are left out. What follows a `# wait` needs everything above it.
    """
    trainers = discovery.extended_value(os.environ.get(discovery.VARIABLE))
    trust = f" {VARIABLE}=1" if is_trusted() else ""
    lines = [f"export {discovery.VARIABLE}={quoted(trainers)}{trust}"]  # in one line: others are counted from it
    for number, wave in enumerate(waves):
        begin = [(job, start_of(job)) for job in wave]
        left = [(job, start) for job, start in begin if start is not JobStart.FINISHED]
        if number and left:
            lines.append("# wait until everything above has ended: the next stage reads its predictions")
        for job, start in left:
            if start is JobStart.CONTINUE:
                lines += [
                    f"# first rename {quoted(str(file))}, which is not readable, to …{SET_ASIDE}"
                    for file in unreadable_checkpoints(job)
                ]
            lines.append(" ".join(map(quoted, job.command(*start.flags))))
    return "\n".join(lines)


def quoted(word: str) -> str:
    """Return a word for a POSIX shell that takes no more than one line, whatever it holds.

    Lines are counted, and one that a path broke in two would run what stands behind the break.

    Raises:
        XModalError: for a word that ends with a line break, which no shell keeps.
    """
    if not re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", word):
        return shlex.quote(word)
    if word.endswith("\n"):
        raise XModalError(f"{word!r} ends with a line break, which cannot be printed for a shell: rename it.")
    octal = re.sub(rb"[^A-Za-z0-9_./:=,@+-]", lambda found: b"\\%03o" % ord(found[0]), os.fsencode(word)).decode()
    return f"\"$(printf -- '{octal}')\""
