"""How our commands report what the user can mend."""

import sys
from collections.abc import Callable
from functools import wraps

from nnunet_xmodal.errors import XModalError


def one_sentence_errors(main: Callable) -> Callable:
    """Prints an XModalError as one sentence on stderr and exits with 2; faults of ours keep their traceback."""

    @wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except XModalError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None

    return wrapped
