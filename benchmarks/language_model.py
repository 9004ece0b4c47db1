"""Language-model parts against what one would otherwise use, side by side, on one thread.

Run ``python benchmarks/language_model.py`` (a few minutes), or some of its rows with ``--only``, or
with ``--device cuda``. The sides take turns, so that other load on the machine falls on both, and
medians are compared: of CPU seconds on a CPU, of seconds on a GPU. The last line is one JSON
object.
"""

import argparse
import inspect
import json
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import transformers
from torch import Tensor, nn
from transformers.models.mamba import modeling_mamba

from tgn.models.mamba import Mamba
from tgn.models.scans import linear_scan, min_gru, selective_scan

Record = dict[str, object]
Row = Callable[[torch.device], Record]

ROWS: dict[str, Row] = {}
"""What can be measured; a row prints its table and returns its record."""

TORCH = f"torch {torch.__version__}"
TRANSFORMERS = f"transformers {transformers.__version__}"


def row(name: str) -> Callable[[Row], Row]:
    """Enter a function under this name."""

    def enter(function: Row) -> Row:
        ROWS[name] = function
        return function

    return enter


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Of one call: CPU time, or on a GPU time until it is done."""
    if device.type == "cpu":
        start = time.process_time()
        function()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def alternate(
    ours: Callable[[], object], peer: Callable[[], object], device: torch.device, repeats: int
) -> tuple[float, float]:
    """Median seconds of both, run in turn after one call of each that is not counted."""
    ours()
    peer()
    pairs = [(seconds(ours, device), seconds(peer, device)) for _ in range(repeats)]
    own, other = zip(*pairs, strict=True)
    return statistics.median(own), statistics.median(other)


def record(ours: float, peer: float, unit: str, peer_version: str) -> Record:
    """Of times: the ratio says how many times faster ours is."""
    return {
        "ratio": round(peer / ours, 2),
        "ours": ours,
        "peer": peer,
        "unit": unit,
        "peer_version": peer_version,
    }


def differ(ours: Tensor, peer: Tensor) -> float:
    """Largest difference, of the largest number."""
    return float(((ours - peer).abs().max() / peer.abs().max()).detach())


def line(label: str, ours: float, peer: float, note: str = "") -> None:
    print(
        f"  {label:34} ours {ours * 1e3:9.3f} ms  peer {peer * 1e3:9.1f} ms  "
        f"ratio {peer / ours:7.1f}  {note}"
    )


class MinGRU(nn.Module):
    """The whole minGRU layer, as `nn.GRU` is the whole GRU layer: projections and recurrence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.candidate = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return min_gru(self.gate(x), self.candidate(x))


@torch.no_grad()
def linear_recurrence(length: int, device: torch.device) -> Record:
    """Forward pass of a minGRU layer against a GRU layer; the record is that of one sequence.

    With more sequences at once the GRU's matrix products fill the machine better, and in the limit
    only the count of multiplications is left, 2 d**2 against 6 d**2.
    """
    width = 256
    torch.manual_seed(0)
    ours, peer = MinGRU(width).to(device), nn.GRU(width, width, batch_first=True).to(device)
    print(f"linear scan, T = {length}, d = {width}, forward, float32; peer: nn.GRU")
    for batch in (8, 4, 2, 1):
        x = torch.randn(batch, length, width, device=device)
        a = torch.rand_like(x)
        own, other = alternate(partial(ours, x), partial(peer, x), device, repeats=9)
        line(f"batch {batch}: minGRU layer", own, other)
        for name, scan in (("min_gru", min_gru), ("linear_scan", linear_scan)):
            scan(a, x)
            bare = statistics.median(seconds(partial(scan, a, x), device) for _ in range(9))
            line(f"batch {batch}: {name} alone", bare, other)
    unit = f"s a forward pass of one sequence, minGRU layer against GRU layer, d = {width}"
    return record(own, other, unit, f"{TORCH} nn.GRU")


@row("scan_1024")
def scan_1024(device: torch.device) -> Record:
    return linear_recurrence(1024, device)


@row("scan_4096")
def scan_4096(device: torch.device) -> Record:
    return linear_recurrence(4096, device)


def own_scan(*inputs: Tensor) -> Tensor:
    return selective_scan(*inputs)[0]


def both_passes(
    function: Callable[..., Tensor], inputs: list[Tensor], direction: Tensor
) -> list[Tensor]:
    """Output and the gradients of all inputs."""
    output = function(*inputs)
    return [output, *torch.autograd.grad(output, inputs, direction)]


def without_gradient(function: Callable[..., Tensor], inputs: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return function(*inputs)


def time_last(x: Tensor) -> Tensor:
    """Between (b, time, d) and (b, d, time); parameters stay as they are."""
    return x.mT if x.ndim == 3 else x


@row("selective_scan")
def selective(device: torch.device) -> Record:
    """Forward and backward, discretisation included, from the same u, delta, A, B, C and D.

    The peer is the loop over time that transformers runs where there is no CUDA kernel, each side
    in its own layout. The record is that of one sequence: the backward pass of the peer grows
    faster than the batch.
    """
    length, width, states = 256, 256, 16
    channels = 2 * width
    loop = inspect.unwrap(modeling_mamba.mamba_selective_scan)
    print(f"selective scan, T = {length}, {channels} channels, {states} states, float32")
    torch.manual_seed(0)
    A = -torch.arange(1.0, states + 1, device=device).repeat(channels, 1)
    D = torch.ones(channels, device=device)
    for batch, repeats in ((2, 2), (1, 7)):
        u, delta, direction = torch.randn(3, batch, channels, length, device=device)
        B, C = torch.randn(2, batch, states, length, device=device)
        theirs = [u, nn.functional.softplus(delta - 2), A, B, C, D]
        ours = [time_last(x).contiguous() for x in theirs]
        theirs, ours = ([x.detach().requires_grad_() for x in side] for side in (theirs, ours))
        own_pass = partial(both_passes, own_scan, ours, time_last(direction).contiguous())
        peer_pass = partial(both_passes, loop, theirs, direction)
        pairs = zip(own_pass(), peer_pass(), strict=True)
        off = max(differ(time_last(x), y) for x, y in pairs)
        assert off < 1e-5, f"outputs or gradients differ by {off:.1e}"
        times = alternate(
            partial(without_gradient, own_scan, ours),
            partial(without_gradient, loop, theirs),
            device,
            repeats,
        )
        line(f"batch {batch}: scan, forward", *times)
        compare_mixers(batch, length, width, repeats, device)
        times = alternate(own_pass, peer_pass, device, repeats)
        line(f"batch {batch}: scan, both passes", *times, f"differ {off:.0e}")
    unit = f"s a forward and backward pass of one sequence, T = {length}, {channels} channels"
    return record(*times, unit, f"{TRANSFORMERS} mamba_selective_scan, in torch")


def compare_mixers(batch: int, length: int, width: int, repeats: int, device: torch.device) -> None:
    """The whole Mamba mixer against transformers', with the same weights."""
    config = modeling_mamba.MambaConfig(hidden_size=width, num_hidden_layers=1)
    peer = modeling_mamba.MambaMixer(config, 0).to(device)
    ours = Mamba(width).to(device)
    ours.load_state_dict(peer.state_dict())
    x = torch.randn(batch, length, width, device=device)
    direction = torch.randn_like(x)
    off = differ(ours(x)[0], peer(x))
    assert off < 1e-5, f"mixers differ by {off:.1e}"
    own_time, peer_time = alternate(
        lambda: torch.autograd.grad(ours(x)[0], list(ours.parameters()), direction),
        lambda: torch.autograd.grad(peer(x), list(peer.parameters()), direction),
        device,
        repeats,
    )
    line(f"batch {batch}: whole mixer, both passes", own_time, peer_time, f"differ {off:.0e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--device", default="cpu", type=torch.device, help="cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    print(f"1 thread, {options.device}, {TORCH}, {TRANSFORMERS}")
    results = {}
    for name in options.only or ROWS:
        results[name] = ROWS[name](options.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  {name}: {results[name]['ratio']} times; peak RSS so far {peak:.0f} MB")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
