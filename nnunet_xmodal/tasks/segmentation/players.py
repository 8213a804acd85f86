"""What a model is asked to do without: its streams or its channels, and how it knows that they are absent.

A model that was trained with streams left out is told which ones are, as by `--allow_missing`. Any other one gets the
training's mean in the place of a channel: 0 for z-scores and CT.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.datasets.streams import distinct_channel_names, streams_from_command_line
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.shapley import MOST_PLAYERS
from nnunet_xmodal.networks.of_present_streams import OfPresentStreams, is_told_streams, knows_absence
from nnunet_xmodal.replaced import replaced

STREAMS, CHANNELS = "streams", "channels"


@dataclass(frozen=True)
class Players:
    """The streams or channels among which a result is shared out.

    Attributes:
        names: one for each player.
        channels: the image channels of each.
        streams: of a model that knows absent streams the channels of each stream; empty for other models.
        means: per image channel, on the scale that the network reads, what stands in the place of an absent one.
    """

    names: tuple[str, ...]
    channels: tuple[tuple[int, ...], ...]
    streams: tuple[tuple[int, ...], ...]
    means: tuple[float, ...]

    def absent_channels(self, given: Sequence[bool]) -> list[int]:
        """Return the channels of the players that are not there, `given` one bool per player."""
        return [channel for there, channels in zip(given, self.channels) if not there for channel in channels]

    def present_streams(self, given: Sequence[bool]) -> list[bool] | None:
        """Return which streams have a channel left, one bool per stream; None where the model knows no absent ones."""
        if not self.streams:
            return None
        absent = set(self.absent_channels(given))
        return [not set(channels) <= absent for channels in self.streams]


def players_of(predictor: nnUNetPredictor, of: Sequence[str] = ()) -> Players:
    """Return the players of a loaded model.

    Args:
        of: "streams" or "channels", or every channel in a group, `("T1+T1c", "T2")`; empty for streams where the
            model's plans name some, else channels.

    Raises:
        XModalError: for streams of a model without any, for groups that lack a channel or name one that the model does
            not read, and for more than six players.
    """
    plans = predictor.plans_manager.plans
    names = distinct_channel_names(predictor.dataset_json)
    streams = plans.get("xmodal", {}).get("streams")
    single = [[number] for number in range(len(names))]
    if list(of) == [CHANNELS]:
        groups = single
    elif of and list(of) != [STREAMS]:
        groups = streams_from_command_line(of, names)
    elif of and streams is None:
        raise XModalError(f"the model of {predictor.trainer_name} has no streams: take --of {CHANNELS}.")
    else:
        groups = single if streams is None else streams
    channels = tuple(map(tuple, groups))
    if len(channels) > MOST_PLAYERS:
        raise XModalError(
            f"exact Shapley values of {len(channels)} streams or channels take {2 ** len(channels)} predictions of "
            f"each case, and {MOST_PLAYERS} are the most: group them, for example --of {'+'.join(names[:2])} …."
        )
    told = is_told_streams(predictor.network)
    by_zeros = knows_absence(predictor.network) and not told
    return Players(
        names=tuple("+".join(names[channel] for channel in group) for group in channels),
        channels=channels,
        streams=tuple(map(tuple, streams)) if told and streams is not None else (),
        means=tuple(0.0 if by_zeros else _mean(predictor, channel) for channel in range(len(names))),
    )


def _mean(predictor: nnUNetPredictor, channel: int) -> float:
    """The mean of the training's foreground, as nnU-Net's normalisation of the channel leaves it."""
    scheme = predictor.configuration_manager.normalization_schemes[channel]
    intensities = predictor.plans_manager.foreground_intensity_properties_per_channel[str(channel)]
    if scheme == "NoNormalization":
        return float(intensities["mean"])
    if scheme == "RGBTo01Normalization":
        return float(intensities["mean"]) / 255
    if scheme == "RescaleTo01Normalization":
        low, high = float(intensities["min"]), float(intensities["max"])
        return (float(intensities["mean"]) - low) / max(high - low, 1e-8)
    return 0.0


@contextmanager
def with_players_only(
    predictor: nnUNetPredictor, players: Players, given: Sequence[bool], image: torch.Tensor
) -> Iterator[torch.Tensor]:
    """Let a predictor see some of the players alone, within the block.

    The crop, the normalisation and the grid of the case stay those of all its channels, so that results with and
    without a player differ by the player and by nothing else.

    Args:
        given: one bool per player, at least one of them True where the model knows absent streams.
        image: `(C, *spatial)` preprocessed, with the channels of a cascade, if any, behind those of the image.

    Yields:
        The image to predict.
    """
    absent = players.absent_channels(given)
    image = image.clone()
    for channel in absent:
        image[channel] = players.means[channel]
    present = players.present_streams(given)
    if present is None or all(present):
        yield image
        return
    n_channels = len(players.means)
    network = OfPresentStreams(predictor.network, range(n_channels), n_channels, present)
    with replaced(predictor, network=network):
        yield image
