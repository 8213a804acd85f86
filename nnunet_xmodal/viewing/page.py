"""One HTML file with everything in it: the viewer, the volumes, and a policy under which it can ask for nothing."""

import base64
import gzip
import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from nnunet_xmodal.files.own_pages import GENERATOR
from nnunet_xmodal.viewing.niivue import widget
from nnunet_xmodal.viewing.panels import Layer, Panel

_HEIGHT = 420  # CSS pixels of a panel


def render(case: str, panels: Sequence[Panel]) -> str:
    """Return the page of a case.

    Args:
        case: its name, the page's title.

    Raises:
        XModalError: without the package that the viewer comes from.
    """
    data: dict[str, str] = {}
    shown = [
        {"flat": panel.layers[0].is_flat, "layers": [_layer(layer, data) for layer in panel.layers]} for panel in panels
    ]
    colours = list(_colours(panels))
    style = _resource("view.css") + "".join(
        f".c{index}{{background:rgb({red} {green} {blue})}}\n" for index, (_, (red, green, blue)) in enumerate(colours)
    )
    script = _resource("view.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False}
    return environment.from_string(_resource("view.html.j2")).render(
        case=case,
        panels=panels,
        generator=Markup(GENERATOR),
        style=Markup(style),
        script=Markup(script),
        # NiiVue is a module made of the page's own bytes, as are its textures
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}' blob:; "
        "style-src-attr 'unsafe-inline'; img-src data: blob:; connect-src data: blob:; base-uri 'none'; "
        "form-action 'none'",
        names=colours,
        data=data.items(),
        niivue=_base64(gzip.compress(widget().encode(), mtime=0)),
        shown={"panels": shown, "height": _HEIGHT},
    )


def _layer(layer: Layer, data: dict[str, str]) -> dict:
    """Describe a layer for the script; its bytes go into `data`, once for equal ones."""
    content = _base64(layer.nifti)
    key = next((key for key, known in data.items() if known == content), f"volume{len(data)}")
    data[key] = content
    colours = layer.colours and {"names": list(layer.colours.names), "rgba": list(layer.colours.rgba)}
    return {
        "data": key,
        "window": list(layer.window),
        "colormap": layer.colormap,
        "opacity": layer.opacity,
        "colours": colours,
    }


def _colours(panels: Sequence[Panel]) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield each label's name and colour once."""
    known = set()
    of_layers = [layer.colours for panel in panels for layer in panel.layers if layer.colours is not None]
    for colours in of_layers:
        for value, name in enumerate(colours.names):
            *colour, alpha = colours.rgba[4 * value : 4 * value + 4]
            if name and name not in known and alpha:
                known.add(name)
                yield name, colour


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _hash(text: str) -> str:
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"


def _resource(name: str) -> str:
    return (files("nnunet_xmodal.viewing") / name).read_text(encoding="utf-8")
