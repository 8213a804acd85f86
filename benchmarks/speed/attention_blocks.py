"""FLOPs, memory and time of every attention block: the counterpart of Fig. 1 and 4 of Zhang et al. (2021).

    python benchmarks/speed/attention_blocks.py                       # 64×16³, 320×6×8×8
    python benchmarks/speed/attention_blocks.py --large               # 64×32³ as well: self-attention needs 8 GB
    python benchmarks/speed/attention_blocks.py --grow 4 8 12 16 20   # side = channels, as in Fig. 4
    python benchmarks/speed/attention_blocks.py --device cuda

Saved activations are what autograd keeps between forward and backward, counted once per storage, parameters and input
left out. Times are medians of several, for which the blocks take turns, so that what slows the machine slows all
of them; the last column is the time of both passes over that of three convolutions.
"""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_xmodal.networks.blocks.attention_gates import AttentionGate
from nnunet_xmodal.networks.blocks.dual_attention import DualAttention
from nnunet_xmodal.networks.blocks.folded_attention import FoldedAttention
from nnunet_xmodal.networks.blocks.non_local import NonLocal
from nnunet_xmodal.networks.blocks.recurrent_slice_attention import RecurrentSliceAttention
from nnunet_xmodal.networks.blocks.self_attention import SelfAttention

MIB = 2**20


class ThreeConvolutions(nn.Module):
    """θ, φ and g alone."""

    def __init__(self, conv_op: type[nn.Module], channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv_op(channels, channels, kernel_size=1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of the convolutions."""
        return sum(layer(x) for layer in self.layers)


class Gated(nn.Module):
    """An attention gate whose gating signal is the pooled input."""

    def __init__(self, conv_op: type[nn.Module], channels: int) -> None:
        super().__init__()
        self.gate = AttentionGate(conv_op, channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gate the input by its pooled self."""
        return self.gate(x, nn.functional.avg_pool3d(x, 2))


CONVOLUTIONS = "three 1³ convolutions"

BLOCKS: dict[str, Callable[[type[nn.Module], int], nn.Module]] = {
    CONVOLUTIONS: ThreeConvolutions,
    "FA": FoldedAttention,
    "FA, residual": partial(FoldedAttention, residual_beta=True, invert_channel=True, scale_logits=True),
    "FA, plain products": partial(FoldedAttention, merged=False),
    "RSA": RecurrentSliceAttention,
    "AG": Gated,
    "DA": DualAttention,
    "SA": SelfAttention,
    "SA, dense": partial(SelfAttention, dense=True),
    "non-local": NonLocal,
}
QUADRATIC = ("DA", "SA", "SA, dense", "non-local")
"""In the number of positions."""


def flops(block: nn.Module, shape: tuple[int, ...]) -> int:
    """Count those of the forward pass, two per multiply-add, on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block.to("meta")(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def saved_bytes(block: nn.Module, x: torch.Tensor) -> int:
    """Count what autograd keeps for the backward pass beside parameters and input."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (*block.parameters(), *block.buffers(), x)}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = block(x)
    del out
    return sum(kept.values())


class Runs:
    """Forward and both passes of one block on one input, timed one at a time."""

    def __init__(self, make: Callable, shape: tuple[int, ...], device: str) -> None:
        self.block = make(nn.Conv3d, shape[1]).to(device)
        self.x = torch.randn(shape, device=device, requires_grad=True)
        self.device = device
        self.times: dict[str, list[float]] = {"forward": [], "both": []}
        self.memory = saved_bytes(self.block, self.x)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._once(self.both)  # warms up, and tells the slow ones
        self.slow = self._once(self.both) > 10
        self.peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0

    def forward(self) -> None:
        """Run the forward pass without gradients."""
        with torch.no_grad():
            self.block(self.x)

    def both(self) -> None:
        """Run forward and backward pass."""
        self.x.grad = None
        self.block(self.x).sum().backward()

    def _once(self, run: Callable[[], None]) -> float:
        start = perf_counter()
        run()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - start

    def measure(self) -> None:
        """Add one time of each kind; blocks that take over ten seconds have one only."""
        if not (self.slow and self.times["both"]):
            for name, of_kind in self.times.items():
                of_kind.append(self._once(getattr(self, name)))


def table(shape: tuple[int, ...], args: argparse.Namespace) -> None:
    """Print the blocks' numbers on features of one shape."""
    print(f"\n{'×'.join(map(str, shape[1:]))}\n")
    peak = ["peak MiB"] if args.device == "cuda" else []
    header = ["block", "GFLOPs", "saved MiB", *peak, "forward s", "both s", "both / convolutions"]
    print(f"| {' | '.join(header)} |\n|---|{'--:|' * (len(header) - 1)}")
    positions = torch.Size(shape[2:]).numel()
    chosen = {name: make for name, make in BLOCKS.items() if not args.only or name in (*args.only, CONVOLUTIONS)}
    runs = {}
    for name, make in chosen.items():
        if name not in QUADRATIC or 4 * positions**2 <= args.limit * 2**30:
            runs[name] = Runs(make, shape, args.device)
    for _ in range(args.repeats):
        for run in runs.values():
            run.measure()
    unit = median(runs[CONVOLUTIONS].times["both"])
    for name, make in chosen.items():
        cells = [name, f"{flops(make(nn.Conv3d, shape[1]), shape) / 1e9:,.3f}"]
        if name in runs:
            run = runs[name]
            forward, both = (median(run.times[kind]) for kind in ("forward", "both"))
            cells += [f"{run.memory / MIB:,.1f}", *([f"{run.peak / MIB:,.0f}"] if peak else [])]
            cells += [f"{forward:.4f}", f"{both:.4f}", f"{both / unit:,.2f}"]
        else:
            cells += ["–"] * (len(header) - 2)
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--large", action="store_true", help="64×32³ as well")
    parser.add_argument("--grow", nargs="+", type=int, default=[], metavar="SIDE", help="sides and channels, together")
    parser.add_argument("--only", nargs="+", metavar="BLOCK", help=", ".join(BLOCKS))
    parser.add_argument("--limit", type=float, default=8, metavar="GIB", help="largest affinities that are run")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    shapes = [(1, side, side, side, side) for side in args.grow]
    shapes = shapes or [(1, 64, 16, 16, 16), (1, 320, 6, 8, 8)] + [(1, 64, 32, 32, 32)] * args.large
    print(f"{args.device}, {torch.get_num_threads()} threads, float32")
    for shape in shapes:
        table(shape, args)


if __name__ == "__main__":
    main()
