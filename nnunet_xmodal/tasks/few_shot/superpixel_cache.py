"""Superpixels of a preprocessed dataset on disk: made once, in parallel, and read slice by slice.

    nnUNet_preprocessed/DATASET/<data_identifier>_superpixels/<settings>/settings.json
    nnUNet_preprocessed/DATASET/<data_identifier>_superpixels/<settings>/<case>.b2nd

`<settings>` is a short hash, so that other settings do not overwrite these. The folder stands beside nnU-Net's own,
which takes no foreign file. A map is compressed slice by slice, as a training reads it.
"""

import hashlib
import json
import os
import zlib
from dataclasses import asdict
from pathlib import Path

import blosc2
import numpy as np
from tqdm import tqdm

from nnunet_xmodal.datasets.preprocessed_cases import CasesOnDisk
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_atomically, write_json
from nnunet_xmodal.tasks.few_shot.superpixel_processes import computed
from nnunet_xmodal.tasks.few_shot.superpixels import SuperpixelSettings

_VERSION = 1  # of the algorithm: whoever changes what a map holds counts it up


class SuperpixelMaps:
    """Superpixel maps of some cases, opened whenever a slice is asked for.

    Attributes:
        counts: case → int32 `(slices,)`, superpixels per slice.
    """

    def __init__(self, folder: str | Path, counts: dict[str, np.ndarray]) -> None:
        self.folder, self.counts = Path(folder), counts

    def slice(self, case: str, index: int) -> np.ndarray:
        """Return int32 `(H, W)`: 0 outside of all superpixels, 1 … `counts[case][index]`."""
        return _opened(_file(self.folder, case))[index]


def superpixel_folder(preprocessed_case_folder: str | Path) -> Path:
    """Return the folder for the maps of `nnUNet_preprocessed/DATASET/<data_identifier>`."""
    folder = Path(preprocessed_case_folder)
    return folder.with_name(f"{folder.name}_superpixels")


def ensure_superpixels(
    dataset: CasesOnDisk,
    folder: str | Path,
    settings: SuperpixelSettings,
    processes: int = 1,
    progress: bool = True,
) -> SuperpixelMaps:
    """Make the maps that are missing or of other data, and open all. Labels are not read.

    Every case is written as soon as it is finished: who was interrupted goes on with the next one. A map knows size and
    checksum of the preprocessed file that it was made from, and is made again for another one.

    Args:
        dataset: of nnU-Net, with `identifiers`, `load_case` (images `(C, slices, H, W)`) and `source_folder`.
        folder: see `superpixel_folder`; made if missing.
        processes: each of one thread; they end with the process that began them.

    Raises:
        XModalError: names the case with NaN or infinite voxels; if a process was killed.
    """
    made_with = {"version": _VERSION, **asdict(settings)}
    folder = Path(folder) / hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "settings.json").is_file():
        write_json(made_with, folder / "settings.json")
    sources = {case: _source(dataset, case) for case in dataset.identifiers}
    valid = {case: _valid_counts(dataset, folder, case, source) for case, source in sources.items()}
    counts = {case: found for case, found in valid.items() if found is not None}
    missing = [case for case in sources if case not in counts]
    if missing:
        volumes = ((case, _volume(dataset, case)) for case in missing)
        with tqdm(total=len(missing), desc="Superpixels", unit="case", disable=not progress) as bar:
            for case, maps in computed(volumes, settings, processes):
                counts[case] = _write(_file(folder, case), maps, sources[case])
                bar.update()
    return SuperpixelMaps(folder, {case: counts[case] for case in sources})


def _file(folder: Path, case: str) -> Path:
    return folder / f"{case}.b2nd"


def _opened(file: Path) -> blosc2.NDArray:
    return blosc2.open(urlpath=str(file), mode="r", dparams={"nthreads": 1}, mmap_mode=None if os.name == "nt" else "r")


def _source(dataset: CasesOnDisk, case: str) -> list[int]:
    """Size and checksum of the preprocessed file; a checksum, because times do not survive a copy to another disk."""
    for ending in ("b2nd", "npz"):
        file = Path(dataset.source_folder) / f"{case}.{ending}"
        if file.is_file():
            content = file.read_bytes()
            return [len(content), zlib.crc32(content)]
    return []


def _valid_counts(dataset: CasesOnDisk, folder: Path, case: str, source: list[int]) -> np.ndarray | None:
    """Superpixels per slice; None without a map of these very data."""
    try:
        maps = _opened(_file(folder, case))
        if maps.shape != tuple(dataset.load_case(case)[0].shape[1:]) or maps.schunk.vlmeta["source"] != source:
            return None
        return np.array(maps.schunk.vlmeta["counts"], np.int32)
    except (OSError, RuntimeError, ValueError, KeyError):  # no file, or damage
        return None


def _volume(dataset: CasesOnDisk, case: str) -> np.ndarray:
    volume = np.asarray(dataset.load_case(case)[0][:])
    if not np.isfinite(volume).all():
        raise XModalError(
            f"the preprocessed case {case} holds NaN or infinite voxels: replace them in its images, for example by "
            "zero, and preprocess again."
        )
    return volume


def _write(file: Path, maps: np.ndarray, source: list[int]) -> np.ndarray:
    counts = maps.max((1, 2))

    def write(name: str) -> None:
        one_slice = (1, *maps.shape[1:])
        compression = {"codec": blosc2.Codec.ZSTD, "clevel": 5}
        array = blosc2.asarray(maps, urlpath=name, mode="w", chunks=one_slice, blocks=one_slice, cparams=compression)
        array.schunk.vlmeta["counts"] = counts.tolist()
        array.schunk.vlmeta["source"] = source

    write_atomically(file, write, lambda name: np.array_equal(_opened(Path(name))[:], maps))
    return counts
