"""From folders to pages."""

import os
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from nnunet_xmodal.datasets.cases import files_by_channel
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.dataset_json import check_dataset_json, read_dataset_json
from nnunet_xmodal.files.dataset_names import dataset_name
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.named_folders import name_and_folder
from nnunet_xmodal.files.own_pages import is_own_page
from nnunet_xmodal.viewing.case_panels import CaseFiles, panels_of
from nnunet_xmodal.viewing.niivue import widget
from nnunet_xmodal.viewing.page import render
from nnunet_xmodal.viewing.request import ViewRequest

_NUMBERS = ".nii.gz"  # of maps, whatever the images are


def view(request: ViewRequest) -> list[Path]:
    """Write a page for every case, and open the first one.

    Returns:
        The pages, `<case>.html`.

    Raises:
        XModalError: before anything is written, for cases and files that are not there, and for a file of somebody else
            where a page would be; see also `write_page`.
    """
    widget()  # or say what is not installed, before volumes are read
    dataset_json = _dataset_json(request)
    found = [_files_of(case, request, dataset_json["file_ending"]) for case in request.cases]
    for files in found:
        page = request.output / f"{files.case}.html"
        if page.exists() and not is_own_page(page):
            raise XModalError(f"{page} is no page of this command, and one would replace it: give another -o.")
    request.output.mkdir(parents=True, exist_ok=True)
    pages = [write_page(files, dataset_json, request.output) for files in found]
    if request.browser:
        webbrowser.open(pages[0].resolve().as_uri())
    return pages


def write_page(files: CaseFiles, dataset_json: dict, folder: Path) -> Path:
    """Write `<case>.html`, with everything in it that it shows.

    Raises:
        XModalError: see `panels_of` and `write_atomically`.
    """
    text = render(files.case, panels_of(files, dataset_json)).encode(
        "utf-8", "backslashreplace"
    )  # as the hashes in it are of bytes
    page = folder / f"{files.case}.html"

    def write(name: str) -> None:
        Path(name).write_bytes(text)

    write_atomically(page, write, lambda name: Path(name).read_bytes() == text)
    return page


def _dataset_json(request: ViewRequest) -> dict:
    places = [name_and_folder(word, "--labels")[1] / "dataset.json" for word in request.labels]
    places.append(request.images.parent / "dataset.json")
    if request.dataset is not None:
        require_variables("nnUNet_raw")
        places = [Path(os.environ["nnUNet_raw"]) / dataset_name(request.dataset) / "dataset.json"]
    if request.dataset_json is not None:
        places = [request.dataset_json]
    file = next((place for place in places if place.is_file()), places[-1])
    if not file.is_file():
        raise XModalError(f"{file} is no file: name the dataset with -d, or its dataset.json with --dataset_json.")
    dataset_json = read_dataset_json(file)
    check_dataset_json(dataset_json, file)
    return dataset_json


def _files_of(case: str, request: ViewRequest, ending: str) -> CaseFiles:
    cases = files_by_channel(request.images, ending)
    if case not in cases:
        raise XModalError(f"{request.images / f'{case}_0000{ending}'} does not exist: check the name of the case.")
    label_maps: dict[str, Path] = {}
    probabilities: dict[str, Path] = {}
    for word in request.labels:
        name, folder = name_and_folder(word, "--labels")
        file = folder / f"{case}{ending}"
        if not file.is_file():
            raise XModalError(f"{file} does not exist: leave --labels {word} out, or the case {case}.")
        if name in label_maps:
            raise XModalError(f"two folders of --labels are called {name}: give one of them as NAME=FOLDER.")
        label_maps[name] = file
        if request.probabilities and file.with_name(f"{case}.npz").is_file():
            probabilities[name] = file.with_name(f"{case}.npz")
    if request.probabilities and not probabilities:
        raise XModalError(f"no folder of --labels has {case}.npz: predict with --save_probabilities.")
    others = [f"{other}_" for other in cases if other.startswith(f"{case}_")]  # whose maps begin as those of this one
    maps = {
        title: file for title, file in _maps(case, request) if not any(file.name.startswith(other) for other in others)
    }
    if request.maps and not maps:
        raise XModalError(f"no folder of --maps has files {case}_….nii.gz.")
    return CaseFiles(case, [cases[case][number] for number in sorted(cases[case])], label_maps, probabilities, maps)


def _maps(case: str, request: ViewRequest) -> Iterator[tuple[str, Path]]:
    """Yield title and file; of several folders their names are told, and of those of one name the ones above, too."""
    folders = [folder.resolve() for folder in request.maps]
    for given, folder in zip(request.maps, folders):
        if not folder.is_dir():
            raise XModalError(f"--maps {given} is no folder.")
        alone = sum(other.name == folder.name for other in folders) == 1
        where = folder.name if alone else f"{folder.parent.name}/{folder.name}"
        for file in sorted(folder.glob(f"*{_NUMBERS}")):
            if file.name.startswith(f"{case}_"):
                what = file.name[len(case) + 1 : -len(_NUMBERS)].replace("_", " ")
                yield f"{where}: {what}" if len(folders) > 1 else what, file
