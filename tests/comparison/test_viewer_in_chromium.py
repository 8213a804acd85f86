"""From a report to all slices of a case, in a browser."""

import io
from importlib.util import find_spec

import numpy as np
import pytest
from chromium import IN_CHROMIUM, chromium
from matplotlib.image import imread

from nnunet_xmodal.commands import compare

pytestmark = [
    *IN_CHROMIUM,
    pytest.mark.skipif(find_spec("ipyniivue") is None, reason='ipyniivue is not installed: pip install ".[viewer]"'),
]
TRAINERS = ("nnUNetTrainer", "nnUNetTrainerCSAD")


@pytest.fixture
def report(results, tmp_path):
    for shift, trainer in enumerate(TRAINERS, start=1):
        results.add(trainer, shift=shift)
    words = ["-d", "900", "-c", "2d", "-f", "0", "1", "2", "-np", "1", "--overlays", "1", "--viewer", "-tr", *TRAINERS]
    compare.main([*words, "-o", str(tmp_path / "a report")])
    return tmp_path / "a report" / "report.html"


def test_the_link_of_a_report_leads_to_the_voxels_of_its_case(report):
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        wrong = []
        tab.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(report.as_uri())
        tab.get_by_role("link", name="look at all slices").click()
        tab.wait_for_selector("body[data-shown='4']", timeout=120_000)
        assert tab.url.startswith(f"{report.parent.as_uri()}/view/")
        assert tab.locator("figcaption").all_inner_texts() == ["T2", "reference", *TRAINERS]
        image, *label_maps = (
            imread(io.BytesIO(canvas.screenshot()))[..., :3] for canvas in tab.locator("canvas").all()
        )
        # more than the cross and letters: an image is grey, labels have colours
        coloured = [(np.ptp(picture, axis=2) > 0.2).mean() for picture in (image, *label_maps)]
        assert (image.max(2) > 0.3).mean() > 0.02 and min(coloured[1:]) > coloured[0]
        assert not np.array_equal(label_maps[1], label_maps[2])  # the trainers differ
        assert wrong == []
