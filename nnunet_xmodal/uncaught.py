"""Stock commands with our trainers end in a sentence, too, where the user can mend what went wrong."""

import sys
import threading
from types import TracebackType

from nnunet_xmodal.processes import failure_of
from nnunet_xmodal.system_failures import is_of_dead_workers


def end_in_a_sentence() -> None:
    """Let this process print a sentence instead of a traceback for what a user can mend, and for Ctrl-C.

    The exit status stays Python's. Hooks that somebody else has set stay as well.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _tell
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _tell_of_thread


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sentence = failure_of(error)
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    elif sentence is not None:
        print(f"error: {sentence}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _tell_of_thread(what: threading.ExceptHookArgs) -> None:
    """Leave it to the main thread to say that workers are gone: it has noticed as well, or has ended them itself."""
    if what.exc_value is None or not is_of_dead_workers(what.exc_value):
        threading.__excepthook__(what)
