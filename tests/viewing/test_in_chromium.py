"""Pages in a browser: voxels are on the canvas, panels move together, nothing complains and nothing is asked for."""

import io
from importlib.util import find_spec

import numpy as np
import pytest
import SimpleITK as sitk
from chromium import IN_CHROMIUM, chromium
from matplotlib.image import imread

from nnunet_xmodal.viewing.request import ViewRequest
from nnunet_xmodal.viewing.run import view

pytestmark = [
    *IN_CHROMIUM,
    pytest.mark.skipif(find_spec("ipyniivue") is None, reason='ipyniivue is not installed: pip install ".[viewer]"'),
]


@pytest.fixture
def opened(folders):
    """The page of a case with seven panels, and what it did that it should not."""
    root = folders.root
    labels = [f"reference={root / 'labelsTs'}", str(root / "predicted")]
    maps = [root / "maps"]
    (page,) = view(ViewRequest(["anna"], root / "imagesTs", root, labels, True, maps, browser=False))
    alone = root / "elsewhere"
    alone.mkdir()
    page = page.rename(alone / page.name)
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1280, "height": 1400})
        wrong = []
        tab.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on(
            "request", lambda asked: asked.url.startswith(("data:", "blob:", page.as_uri())) or wrong.append(asked.url)
        )
        tab.goto(page.as_uri())
        tab.wait_for_selector("body[data-shown='7']", timeout=120_000)
        yield tab, wrong


def picture(canvas):
    return imread(io.BytesIO(canvas.screenshot()))[..., :3]


def test_voxels_are_on_the_canvas_and_panels_move_together(opened):
    tab, wrong = opened
    canvases = tab.locator("canvas").all()
    assert len(canvases) == 7
    before = [picture(canvas) for canvas in canvases]
    # more than the cross and letters: an image is grey, labels and heat have colours
    colourful = [(np.ptp(image, axis=2) > 0.2).mean() for image in before]
    assert all((image.max(2) > 0.3).mean() > 0.1 for image in before)
    assert min(colourful[2:]) > max(colourful[:2])
    assert tab.locator("li").all_inner_texts() == ["organ", "lesion", "ignore"]
    box = canvases[0].bounding_box()
    tab.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.3 * box["height"])
    tab.wait_for_function("[...document.querySelectorAll('output')].every((told) => told.textContent)")
    tab.wait_for_timeout(500)
    for canvas, earlier in zip(canvases, before):
        assert not np.array_equal(picture(canvas), earlier)
    assert tab.locator("#where").inner_text().endswith(" mm")
    assert wrong == []


def test_values_under_the_cross_are_those_of_the_case(opened, folders):
    tab, _ = opened
    canvas = tab.locator("canvas").first
    canvas.focus()
    box = canvas.bounding_box()
    tab.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    tab.wait_for_function("[...document.querySelectorAll('output')].every((told) => told.textContent)")
    told = [text.split() for text in tab.locator("output").all_inner_texts()]
    intensity = told[0][0]
    assert all(values[0] == intensity for values in told[2:])  # the ground of all others
    label = told[2][1] if len(told[2]) > 1 else "0"
    likely = [float(values[1]) for values in told[4:6]]
    assert likely == [float(label == "organ"), float(label == "lesion")]


def test_the_wheel_goes_through_slices(opened):
    tab, _ = opened
    canvas = tab.locator("canvas").first
    box = canvas.bounding_box()
    tab.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    tab.wait_for_function("document.getElementById('where').textContent")
    before = tab.locator("#where").inner_text()
    tab.mouse.wheel(0, 100)
    tab.wait_for_function(f"document.getElementById('where').textContent !== '{before}'")
    assert len(set(tab.locator("output").all_inner_texts())) > 1


def test_channels_of_other_fields_of_view_show_the_same_place(folders):
    """Each voxel holds its own x in mm."""
    for channel, (size, spacing, origin) in enumerate((((40, 40, 4), 1.0, -20.0), ((30, 30, 4), 2.0, -40.0))):
        image = sitk.Image(*size, sitk.sitkFloat32)
        image.SetSpacing((spacing, spacing, 3.0)), image.SetOrigin((origin, origin, 0.0))
        x = sitk.PhysicalPointSource(sitk.sitkVectorFloat32, size, image.GetOrigin(), image.GetSpacing())
        file = folders.root / "imagesTs" / f"wide_{channel:04d}.nii.gz"
        sitk.WriteImage(sitk.VectorIndexSelectionCast(x, 0), str(file))
    (page,) = view(ViewRequest(["wide"], folders.root / "imagesTs", folders.root / "pages", browser=False))
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        tab.goto(page.as_uri())
        tab.wait_for_selector("body[data-shown='2']", timeout=120_000)
        box = tab.locator("canvas").first.bounding_box()
        tab.mouse.click(box["x"] + 0.15 * box["width"], box["y"] + 0.2 * box["height"])
        tab.wait_for_function("[...document.querySelectorAll('output')].every((told) => told.textContent)")
        first, second = (float(text) for text in tab.locator("output").all_inner_texts())
        assert abs(first) > 5 and abs(first - second) <= 1.5  # half a voxel of each
