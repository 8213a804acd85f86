"""A checkpoint that CMFF starts from, made of one of nnU-Net's: what `nnUNetXModal_inflate` does."""

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.datasets.streams import channel_names_of, streams_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_atomically, write_json
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint
from nnunet_xmodal.networks.blocks.cbam import CBAM
from nnunet_xmodal.networks.cmff_unet import CMFFUNet
from nnunet_xmodal.networks.inflated_weights import Misfit, branch_state, input_channels_of
from nnunet_xmodal.networks.stream_grouping import check_two_streams
from nnunet_xmodal.networks.unet_plan import UNetPlan

_BLOCKS = ("n_blocks_per_stage", "n_conv_per_stage")  # of residual and of plain encoders
_STOCK = "dynamic_network_architectures.architectures.unet."
_CLASSES = dict(zip(_BLOCKS, (f"{_STOCK}ResidualEncoderUNet", f"{_STOCK}PlainConvUNet")))


@dataclass(frozen=True)
class Source:
    """A checkpoint's weights for one branch.

    Attributes:
        file: the checkpoint.
        weights: name in one of nnU-Net's networks → tensor.
        channels: names of the channels that it reads, empty where it does not say.
        architecture: `arch_kwargs` of its plans, empty where it has none.
    """

    file: Path
    weights: dict[str, torch.Tensor]
    channels: list[str]
    architecture: dict

    @property
    def dimensions(self) -> int:
        """Return 2 or 3."""
        return max(weight.ndim for weight in self.weights.values()) - 2


def inflate(
    checkpoints: Sequence[str | Path],
    output: str | Path,
    dataset: str | int,
    configuration: str,
    plans_name: str = "nnUNetPlans",
    new_configuration: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint that `nnUNetv2_train … -pretrained_weights` takes for every trainer of the CMFF family.

    Args:
        checkpoints: one for both branches, or A's and B's; of a network of nnU-Net's, or of CMFT or CMFF.
        output: the file to write.
        dataset, configuration, plans_name: that CMFF will be trained on.
        new_configuration: name of a configuration with the checkpoint's levels and widths, which is written into the
            plans; None to take `configuration` as it is.
        overwrite: replace the file, and the configuration, if they exist.

    Raises:
        XModalError: before anything is written, for files that are missing, unreadable or exist already, for an
            unknown configuration, other than two streams, and a network that is none of the plan's branches.
    """
    require_variables("nnUNet_preprocessed")
    output = Path(output)
    _check_output(output, overwrite)
    plans_file, plans, dataset_json = _plans_of(dataset, plans_name)
    manager = _configuration_of(plans, configuration, plans_file)
    names = channel_names_of(dataset_json)
    streams = streams_of(plans, manager.configuration["architecture"], dataset_json)
    check_two_streams(streams)
    sources = [read_source(file, branch) for file, branch in zip(_one_per_branch(checkpoints), "AB")]
    dimensions = len(manager.patch_size)
    for source in sources:
        if source.dimensions > dimensions:
            raise XModalError(
                f"{source.file} is of a {source.dimensions}D network, and {configuration} is {dimensions}D: name a "
                "configuration of as many dimensions."
            )
    if new_configuration is not None:
        _check_new_name(new_configuration, configuration, plans["configurations"], plans_file, overwrite)
        entry = configuration_for(sources[0], manager, configuration)
        plans = deepcopy(plans)
        plans["configurations"][new_configuration] = entry
        manager = _configuration_of(plans, new_configuration, plans_file)
    heads = PlansManager(plans).get_label_manager(dataset_json).num_segmentation_heads
    plan = UNetPlan.from_configuration(manager, len(names), heads, False, streams)
    network = CMFFUNet(**plan.arguments, attention=CBAM)  # has what every network of the family has, and more
    network.apply(network.initialize)
    state = network.state_dict()
    for branch, source, stream in zip("AB", sources, streams):
        channels = [names[index] for index in stream]
        try:
            read = input_channels_of(network.branches[branch], source.weights)
            columns, description = _columns(channels, source.channels, read)
            started = branch_state(network.branches[branch], source.weights, columns)
        except Misfit as error:
            raise XModalError(_no_branch(source, error, new_configuration)) from error
        state |= {f"branches.{branch}.{name}": weight for name, weight in started.items()}
        print(f"Branch {branch} ({'+'.join(channels)}) starts from {source.file}, {source.dimensions}D, {description}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    content = {"network_weights": state, "made_of": [str(source.file) for source in sources]}
    if new_configuration is not None:
        write_json(plans, plans_file)
    write_atomically(output, lambda name: torch.save(content, name))
    print(
        f"nnUNetv2_train {dataset} {new_configuration or configuration} 0 -tr nnUNetTrainerCMFF -p {plans_name} "
        f"-pretrained_weights {output}"
    )


def read_source(file: str | Path, branch: str) -> Source:
    """Read a checkpoint as data: tensors, numbers and plain containers; what could run code is refused.

    Args:
        branch: "A" or "B", the one to take of a checkpoint that has branches.

    Raises:
        XModalError: for a file that is missing, no checkpoint of nnU-Net's, or holds anything else.
    """
    file = Path(file)
    if not file.is_file():
        raise XModalError(f"{file} is missing: name a checkpoint, for example …/fold_0/checkpoint_final.pth.")
    content = read_checkpoint(file, way_out="name another one")
    weights = content.get("network_weights")
    if not isinstance(weights, dict):
        raise XModalError(f"{file} is no checkpoint of nnU-Net (it has no network_weights): name another one.")
    arguments = content.get("init_args") or {}
    plans, dataset_json = arguments.get("plans") or {}, arguments.get("dataset_json") or {}
    channels = channel_names_of(dataset_json) if dataset_json else []
    of_branch = {
        name.removeprefix(f"branches.{branch}."): weight
        for name, weight in weights.items()
        if name.startswith(f"branches.{branch}.")
    }
    if of_branch:
        streams = plans.get("xmodal", {}).get("streams", [])
        channels = [channels[index] for index in streams["AB".index(branch)]] if channels and len(streams) == 2 else []
    try:
        resolved = PlansManager(plans).get_configuration(arguments["configuration"]).configuration
        architecture = resolved["architecture"]["arch_kwargs"]
    except Exception:  # checkpoints of others, or of an nnU-Net whose plans had no architecture
        architecture = {}
    return Source(file, of_branch or weights, channels, architecture)


def configuration_for(source: Source, configuration: ConfigurationManager, inherits_from: str) -> dict:
    """Return a configuration of the plans whose branches have the levels and widths of a checkpoint.

    Kernels and strides within a slice are the checkpoint's. Along the depth, of which a 2D network knows nothing, they
    are those of the configuration that it inherits from; further levels do not halve the depth. The patch is rounded
    up where the levels ask for it; everything but sizes is the inherited configuration's.

    Args:
        configuration: nnU-Net's ConfigurationManager of `inherits_from`.

    Raises:
        XModalError: for a checkpoint that does not describe its architecture.
    """
    theirs = source.architecture
    blocks = next((key for key in _BLOCKS if key in theirs), None)
    wanted = ("n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage_decoder")
    if blocks is None or any(key not in theirs for key in wanted):
        raise XModalError(
            f"{source.file} does not describe the architecture of its network: plan a configuration that fits, with "
            "--patch and --base_width of nnUNetXModal_plan_and_preprocess, and leave --new_configuration out."
        )
    dimensions = len(configuration.patch_size)
    architecture = deepcopy(configuration.configuration["architecture"])
    own = architecture["arch_kwargs"]
    levels = int(theirs["n_stages"])
    sides = {}
    for key, beyond in (("kernel_sizes", 3), ("strides", 1)):
        within = [_numbers(side, source.dimensions) for side in theirs[key]]
        depths = [_numbers(side, dimensions)[:1] for side in own[key]][:levels]
        depths += [[beyond]] * (levels - len(depths))
        sides[key] = within if source.dimensions == dimensions else [z + yx for z, yx in zip(depths, within)]
    for key in _BLOCKS:
        own.pop(key, None)
    own |= {key: deepcopy(theirs[key]) for key in wanted} | sides | {blocks: deepcopy(theirs[blocks])}
    if "conv_bias" in theirs:
        own["conv_bias"] = bool(theirs["conv_bias"])
    if architecture["network_class_name"] in _CLASSES.values():
        architecture["network_class_name"] = _CLASSES[blocks]
    total = np.prod(sides["strides"], axis=0)
    patch = [int(-(-side // stride) * stride) for side, stride in zip(configuration.patch_size, total)]
    return {"inherits_from": inherits_from, "architecture": architecture, "patch_size": patch}


def _numbers(side: int | Sequence[int], dimensions: int) -> list[int]:
    return np.broadcast_to(side, dimensions).tolist()


def _columns(wanted: list[str], channels: list[str], read: int) -> tuple[list[int] | None, str]:
    """Which of a checkpoint's input channels a stream's are, see `for_channels`, and the same in words."""
    if len(channels) == read and len(set(channels)) == read and set(wanted) <= set(channels):
        return [channels.index(name) for name in wanted], f"by its channels {', '.join(wanted)}"
    if read == len(wanted):
        return list(range(read)), f"by its {read} channel{'s'[: read > 1]} in their order"
    return None, f"by the mean of its {read} channel{'s'[: read > 1]}"


def _check_output(output: Path, overwrite: bool) -> None:
    if output.is_dir():
        raise XModalError(f"{output} is a folder: name a file with -o, for example {output / 'start.pth'}.")
    if output.exists() and not overwrite:
        raise XModalError(f"{output} exists: name another file with -o, or add --overwrite.")
    above = next(folder for folder in output.absolute().parents if folder.exists())
    if not above.is_dir():
        raise XModalError(f"{above} is no folder that {output.name} could be written into: name another with -o.")


def _check_new_name(name: str, inherits_from: str, configurations: Mapping, file: Path, overwrite: bool) -> None:
    if not re.fullmatch(r"[\w.+-]+", name) or "__" in name:
        raise XModalError(
            f"--new_configuration {name!r} cannot be part of a model folder's name: take letters, digits and single _."
        )
    ancestor: str | None = inherits_from
    while ancestor is not None:
        if ancestor == name:
            raise XModalError(f"--new_configuration {name} would inherit from itself: take another name than -c has.")
        ancestor = configurations.get(ancestor, {}).get("inherits_from")
    if name in configurations and not overwrite:
        raise XModalError(
            f"{file} has a configuration {name}: name another one with --new_configuration, or add --overwrite."
        )


def _one_per_branch(checkpoints: Sequence[str | Path]) -> list[Path]:
    if len(checkpoints) not in (1, 2):
        raise XModalError(f"-i takes one checkpoint for both branches, or A's and B's, and got {len(checkpoints)}.")
    return [Path(file) for file in (checkpoints[0], checkpoints[-1])]


def _plans_of(dataset: str | int, plans_name: str) -> tuple[Path, dict, dict]:
    try:
        folder = Path(nnUNet_preprocessed) / maybe_convert_to_dataset_name(dataset)
    except (RuntimeError, ValueError) as error:
        raise XModalError(f"there is no single dataset {dataset}: {error}".splitlines()[0]) from error
    read: list[dict] = []
    for file in (folder / f"{plans_name}.json", folder / "dataset.json"):
        if not file.is_file():
            raise XModalError(f"{file} is missing: plan the dataset first, with nnUNetXModal_plan_and_preprocess.")
        read.append(json.loads(file.read_text(encoding="utf-8")))
    return folder / f"{plans_name}.json", *read


def _configuration_of(plans: Mapping, name: str, file: Path) -> ConfigurationManager:
    known = [each for each in plans["configurations"] if "previous_stage" not in plans["configurations"][each]]
    if name not in known:
        raise XModalError(
            f"{file} has no configuration {name} that starts from images: take one of {', '.join(known)}."
        )
    return PlansManager(dict(plans)).get_configuration(name)


def _no_branch(source: Source, error: Misfit, new_configuration: str | None) -> str:
    fault = f"{source.file} is of a network that is none of this configuration's branches: {error}"
    if new_configuration is not None:
        return f"{fault}; give both branches checkpoints of one architecture, of a plain or residual nnU-Net."
    return (
        f"{fault}; --new_configuration NAME writes a configuration with the checkpoint's levels and widths into the "
        "plans."
    )
