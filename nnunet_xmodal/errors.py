"""The one exception for what a user can cause and mend."""


class XModalError(ValueError):
    """One sentence that names the offending file or value and the way out; commands print it without a traceback."""
