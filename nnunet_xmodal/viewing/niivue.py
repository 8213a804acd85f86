"""NiiVue, the viewer, as the package ipyniivue ships it."""

from importlib.util import find_spec
from pathlib import Path

from nnunet_xmodal.errors import XModalError

_PACKAGE = "ipyniivue"


def widget() -> str:
    """Return the JavaScript module of NiiVue's widget, complete: it needs nothing from elsewhere.

    Its default export has `initialize({model})` and `render({model, el})`, which any page can call that has a model to
    give: <https://anywidget.dev/en/afm/>. So this is all of ipyniivue that is used: nothing of it is imported.

    Raises:
        XModalError: without that package.
    """
    package = find_spec(_PACKAGE)
    file = Path(package.origin).with_name("static") / "widget.js" if package and package.origin else None
    if file is None or not file.is_file():
        raise XModalError('looking at cases needs NiiVue: pip install "nnunet-xmodal[viewer]".')
    return file.read_text(encoding="utf-8")
