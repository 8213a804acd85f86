"""FLOPs, memory and time of every attention block: the counterpart of Fig. 1 and 4 of Zhang et al. (2021).

    python benchmarks/attention_blocks.py                       # 64×16³, 320×6×8×8
    python benchmarks/attention_blocks.py --large               # 64×32³ as well: self-attention takes a minute and 8 GB
    python benchmarks/attention_blocks.py --grow 4 8 12 16 20   # side = channels, as in Fig. 4
    python benchmarks/attention_blocks.py --device cuda

Saved activations are what autograd keeps between forward and backward, counted once per storage, parameters and input
left out. Times are the fastest of several.
"""

import argparse
from collections.abc import Callable
from functools import partial
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

    def __init__(self, conv_op: type[nn.Module], channels: int):
        super().__init__()
        self.layers = nn.ModuleList(conv_op(channels, channels, kernel_size=1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(layer(x) for layer in self.layers)


class Gated(nn.Module):
    """An attention gate whose gating signal is the pooled input."""

    def __init__(self, conv_op: type[nn.Module], channels: int):
        super().__init__()
        self.gate = AttentionGate(conv_op, channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gate(x, nn.functional.avg_pool3d(x, 2))


BLOCKS: dict[str, Callable[[type[nn.Module], int], nn.Module]] = {
    "three 1³ convolutions": ThreeConvolutions,
    "FA": FoldedAttention,
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
    """Of the forward pass, two per multiply-add; counted on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block.to("meta")(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def saved_bytes(block: nn.Module, x: torch.Tensor) -> int:
    """What autograd keeps for the backward pass beside parameters and input."""
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


def seconds(run: Callable[[], None], device: str, repeats: int) -> float:
    def once() -> float:
        start = perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - start

    first = once()
    return min([once() for _ in range(repeats)] if first < 10 else [first])


def measure(make: Callable, shape: tuple[int, ...], device: str, repeats: int) -> list[str]:
    block = make(nn.Conv3d, shape[1]).to(device)
    x = torch.randn(shape, device=device, requires_grad=True)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    memory = saved_bytes(block, x)

    def forward() -> None:
        with torch.no_grad():
            block(x)

    def both() -> None:
        block(x).sum().backward()

    numbers = [seconds(forward, device, repeats), seconds(both, device, repeats)]
    peak = [f"{torch.cuda.max_memory_allocated() / MIB:,.0f}"] if device == "cuda" else []
    gflops = flops(make(nn.Conv3d, shape[1]), shape) / 1e9
    return [f"{gflops:,.3f}", f"{memory / MIB:,.1f}", *peak, *(f"{number:.4f}" for number in numbers)]


def table(shape: tuple[int, ...], args: argparse.Namespace) -> None:
    print(f"\n{'×'.join(map(str, shape[1:]))}\n")
    header = ["block", "GFLOPs", "saved MiB", *(["peak MiB"] if args.device == "cuda" else []), "forward s", "both s"]
    print(f"| {' | '.join(header)} |\n|---|{'--:|' * (len(header) - 1)}")
    positions = torch.Size(shape[2:]).numel()
    for name, make in BLOCKS.items():
        if args.only and name not in args.only:
            continue
        if name in QUADRATIC and 4 * positions**2 > args.limit * 2**30:
            gflops = flops(make(nn.Conv3d, shape[1]), shape) / 1e9
            dashes = ["–"] * (len(header) - 2)
            print(f"| {' | '.join([name, f'{gflops:,.3f}', *dashes])} |", flush=True)
            continue
        print(f"| {' | '.join([name, *measure(make, shape, args.device, args.repeats)])} |", flush=True)


def main() -> None:
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
