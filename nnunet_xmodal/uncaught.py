"""Stock commands with our trainers end in a sentence, too, where the user can mend what went wrong."""

import sys
from types import TracebackType

from nnunet_xmodal.processes import failure_of


def end_in_a_sentence() -> None:
    """Let this process print a sentence instead of a traceback for what a user can mend, and for Ctrl-C.

    The exit status stays Python's. A hook that somebody else has set stays as well.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sentence = failure_of(error)
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    elif sentence is not None:
        print(f"error: {sentence}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
