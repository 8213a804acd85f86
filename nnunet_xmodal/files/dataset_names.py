"""Names of datasets by their numbers, as nnU-Net finds them, with a whole sentence where it finds two."""

from pathlib import Path

from nnunet_xmodal.errors import XModalError


def dataset_name(name_or_id: str | int, takes_names: bool = True) -> str:
    """Return the full name of a dataset in any of nnU-Net's three folders.

    Args:
        name_or_id: a full name `Dataset…`, which is returned as it is, or a number.
        takes_names: whether the command's -d takes a full name, which is a way out where two have one number.

    Raises:
        XModalError: for a number that no dataset has, or two have, and a word that is neither name nor number.
    """
    word = str(name_or_id)
    if word.startswith("Dataset"):
        return word
    if not word.isdecimal():
        raise XModalError(f"-d {word} is no dataset: give its number, or its full name Dataset…")
    # here, because it reads nnU-Net's variables
    from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw, nnUNet_results
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    names = [str(name) for name in find_candidate_datasets(int(word))]
    folders = [Path(folder) for folder in (nnUNet_raw, nnUNet_preprocessed, nnUNet_results) if folder.is_set()]
    if not names:
        raise XModalError(
            f"-d {word} is no dataset: Could not find a dataset with the ID {word} in "
            f"{', '.join(map(str, folders))}: check the number and nnU-Net's variables."
        )
    if len(names) > 1:
        places = [next(folder / name for folder in folders if (folder / name).is_dir()) for name in names]
        instead = f", or give the full name, -d {names[0]}" if takes_names else ""
        raise XModalError(
            f"-d {word} is {len(names)} datasets, {' and '.join(map(str, places))}: nnU-Net wants one for each number; "
            f"rename or move all but one{instead}."
        )
    return names[0]
