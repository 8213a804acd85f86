"""Pages of the viewer beside a report: no more panels than a browser draws, whatever lies in the files."""

from types import SimpleNamespace

import pytest

from nnunet_xmodal.comparison import pages
from nnunet_xmodal.comparison.report.contents import Overlay
from nnunet_xmodal.viewing.panels import MOST_PANELS


@pytest.mark.parametrize(
    "ending, files, in_a_file, labels, models, shown, with_probabilities",
    [
        (".png", 1, 3, 6, 2, 1, False),  # 3 + 3 + 12 panels
        (".png", 1, 3, 5, 2, 1, True),
        (".png", 1, 3, 1, 13, 0, False),  # all channels of a picture, or none
        (".nii.gz", 3, 1, 6, 2, 1, True),  # as many files as there is room for
        (".nii.gz", 3, 1, 1, 13, 2, False),
        (".nii.gz", 3, 1, 1, 2, 3, True),
    ],
)
def test_a_browser_draws_all_panels(
    tmp_path, monkeypatch, ending, files, in_a_file, labels, models, shown, with_probabilities
):
    """A picture's channels are panels, too: all of them or none; probabilities go before them."""
    written = []
    monkeypatch.setattr(pages, "write_page", lambda case, *_: written.append(case) or tmp_path / "k.html")
    dataset_json = {
        "channel_names": {str(channel): f"C{channel}" for channel in range(files * in_a_file)},
        "labels": {"background": 0} | {f"l{value}": value for value in range(1, labels + 1)},
        "file_ending": ending,
    }
    for name in ("images", "gt"):
        (tmp_path / name).mkdir()
    (tmp_path / "gt" / f"k{ending}").touch()
    for channel in range(files):
        (tmp_path / "images" / f"k_{channel:04d}{ending}").touch()
    compared = []
    for number in range(models):
        folder = tmp_path / f"m{number}"
        folder.mkdir()
        for name in (f"k{ending}", "k.npz"):
            (folder / name).touch()
        prediction = SimpleNamespace(prediction=folder / f"k{ending}", case="k")
        compared.append(SimpleNamespace(name=f"m{number}", dataset_json=dataset_json, cases={"k": prediction}))
    pages.with_pages([Overlay("", b"", "k")], compared, tmp_path / "gt", tmp_path / "images", tmp_path / "report")
    (page,) = written
    panels = len(page.images) * in_a_file + len(page.label_maps) + len(page.probabilities) * labels
    assert panels <= MOST_PANELS and len(page.label_maps) == models + 1
    assert (len(page.images), bool(page.probabilities)) == (shown, with_probabilities)
