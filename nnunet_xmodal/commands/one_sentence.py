"""How our commands report what the user can mend."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from nnunet_xmodal.files.environment import check_numbers_of_processes
from nnunet_xmodal.files.sockets import keep_sockets_in_a_swept_folder
from nnunet_xmodal.processes import end_soon_after_ctrl_c, ending_in_order, failure_of, tied_workers


def one_sentence_errors(main: Callable) -> Callable:
    """Print what a user can mend as one sentence on stderr and exit with 2; faults of ours keep their traceback.

    Ctrl-C exits with 130 and SIGTERM with 143, after temporary files and workers are gone; workers also end with a
    process that is killed.
    """

    @wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with ending_in_order(), tied_workers():
                check_numbers_of_processes()
                keep_sockets_in_a_swept_folder()
                return main(*args, **kwargs)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            end_soon_after_ctrl_c()
            raise SystemExit(130) from None
        except Exception as error:
            sentence = failure_of(error)
            if sentence is None:
                raise
            print(f"error: {sentence}", file=sys.stderr)
            raise SystemExit(2) from None

    return wrapped
