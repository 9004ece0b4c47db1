"""Gravity attention against fused dot-product attention, side by side, on one thread.

Run ``python benchmarks/gravity.py``, or some of its rows with ``--only``. The sides take turns, so
that other load falls on both; medians of CPU seconds are compared. The last line is one JSON
object.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from tgn.models import ModelConfig, build, sizes
from tgn.models.attraction import attract, reach

TORCH = f"torch {torch.__version__}, scaled_dot_product_attention"
SIZE = {"vocabulary": 8192, "width": 512, "depth": 4, "heads": 8}
REPEATS = 7


def pair(context: int, **changes: object) -> tuple[ModelConfig, ModelConfig]:
    """Gravity, and the Transformer with the MLP that gives it as many parameters."""
    settings = {**SIZE, "context": context, "mlp_width": 1536}
    gravity = ModelConfig.from_dict({**settings, "mixer": "gravity", **changes})
    vanilla = ModelConfig.from_dict({**settings, "mixer": "attention"})
    return gravity, sizes.match(vanilla, parameters=sizes.parameters(gravity))


def stepper(config: ModelConfig, rows: int) -> Callable[[], None]:
    """A training step: forward, backward, AdamW."""
    torch.manual_seed(0)
    model = build(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(config.vocabulary, (rows, config.context + 1))

    def step() -> None:
        model(tokens[:, :-1], targets=tokens[:, 1:]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def alternate(ours: Callable[[], object], peer: Callable[[], object]) -> tuple[float, float]:
    """Median CPU seconds of both, run in turn after one call of each that is not counted."""
    taken: tuple[list[float], list[float]] = ([], [])
    for repeat in range(REPEATS + 1):
        for function, seconds in zip((ours, peer), taken, strict=True):
            start = time.process_time()
            function()
            if repeat:
                seconds.append(time.process_time() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])


def record(ours: float, peer: float, unit: str) -> dict[str, object]:
    """The smaller the better, on both sides."""
    found = {"ratio": peer / ours, "ours": ours, "peer": peer, "unit": unit, "peer_version": TORCH}
    print(f"    ours {ours:.4g} {unit}, peer {peer:.4g} {unit}: {peer / ours:.2f}", flush=True)
    return found


def training_step() -> dict[str, object]:
    """A step of equal parameters; the first line is the one recorded."""
    found = None
    for context, rows in ((512, 4), (256, 8), (1024, 2), (2048, 1)):
        ours, peer = pair(context)
        print(f"  {rows} x {context} tokens, {sizes.parameters(ours):,} parameters, MLPs of "
              f"{ours.mlp_width} and {peer.mlp_width}")  # fmt: skip
        row = record(*alternate(stepper(ours, rows), stepper(peer, rows)), "CPU s")
        found = found or row
    print("  4 x 512 tokens, published form, eager:")
    ours, peer = pair(512)
    published = replace(ours, recipe="as_published", cutoff="hard")
    record(*alternate(stepper(published, 4), stepper(peer, 4)), "CPU s")
    assert found is not None
    return found


def peak_memory() -> dict[str, object]:
    """Of a process that makes two steps at 2048 tokens; the library's own is taken off."""
    peaks = []
    for which in ("ours", "peer", "nothing"):
        command = [sys.executable, __file__, "--measure", which]
        peaks.append(float(subprocess.run(command, capture_output=True, check=True).stdout))
    ours, peer, nothing = peaks
    print(f"  1 x 2048 tokens; {nothing:.0f} MB of the libraries are taken off")
    return record(ours - nothing, peer - nothing, "MB")


def measure(which: str) -> None:
    """Print this process's peak in MB after two steps of one side."""
    configs = dict(zip(("ours", "peer"), pair(2048), strict=True))
    small = {**SIZE, "context": 32, "depth": 1, "width": 32, "vocabulary": 64, "mixer": "gravity"}
    step = stepper(configs.get(which) or ModelConfig.from_dict(small), 1)
    step()
    step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def attention() -> dict[str, object]:
    """Forward and backward of attention alone, for every window."""
    found = None
    for window in ("soft", "none", "hard"):
        torch.manual_seed(0)
        batch, heads, length = 4, 8, 512
        arguments = [torch.randn(batch, heads, length, 16) * 0.58]
        arguments += [torch.randn(batch, heads, length, 64), torch.rand(batch, length) + 0.5]
        arguments += [torch.full((heads,), number) for number in (4.0, 1.0, 16.0, 0.0)]
        for tensor in arguments:
            tensor.requires_grad_()
        queries, keys, values = (
            torch.randn(batch, heads, length, 64, requires_grad=True) for _ in range(3)
        )
        slope = torch.randn(batch, heads, length, 64)

        def peer(q=queries, k=keys, v=values, slope=slope) -> None:
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).backward(
                slope
            )

        print(f"  window {window}, 4 x 8 heads, 512 tokens")
        ours = partial(there_and_back, arguments, window, slope)
        row = record(*alternate(ours, peer), "CPU s")
        found = found or row
    assert found is not None
    return found


def there_and_back(arguments: list[torch.Tensor], window: str, slope: torch.Tensor) -> None:
    """Forward and backward of attention by gravity."""
    attract(*arguments, window).backward(slope)


def tiles_skipped() -> dict[str, object]:
    """Attention within a radius, forward and backward, where places spread out along the text.

    They walk at random, the further the higher the pace. At pace 0 nothing is skipped; its time is
    what the others stand against. The last row is the one recorded.
    """
    batch, heads, length, axes, radius2 = 2, 4, 2048, 16, torch.full((4,), 16.0)
    torch.manual_seed(0)
    steps, scatter = torch.randn(2, batch, heads, length, axes) / axes**0.5
    others = [torch.randn(batch, heads, length, 64), torch.rand(batch, length) + 0.5]
    numbers = [torch.full((heads,), number) for number in (4.0, 1.0)]
    slope = torch.randn(batch, heads, length, 64)
    found: dict[str, object] = {}
    for window in ("hard", "soft"):
        print(f"  window {window}, {batch} x {heads} heads, {length} tokens")
        for pace in (0.0, 0.2, 0.3, 0.4, 0.6, 1.0, 2.0):
            places = pace * steps.cumsum(2) + scatter
            walks = places.flatten(0, 1)
            near = torch.cdist(walks, walks).square() < radius2[0]
            tiles = near.unflatten(1, (-1, 64)).unflatten(3, (-1, 64)).any(2).any(-1).tril()
            count = len(walks) * tiles.shape[1] * (tiles.shape[1] + 1) / 2
            skipped = 1 - reach(walks, radius2.repeat(batch)).sum() / count
            empty = 1 - tiles.sum() / count
            print(f"    pace {pace}: {skipped:.0%} of the tiles skipped, {empty:.0%} have no pair")
            given = [*others, *numbers, radius2, 0 * radius2]
            spread, whole = (
                [x.clone().requires_grad_() for x in (z, *given)] for z in (places, scatter)
            )
            ours, rest = (partial(there_and_back, x, window, slope) for x in (spread, whole))
            found = record(*alternate(ours, rest), "CPU s")
    return found


ROWS = {
    "training_step": training_step,
    "peak_memory": peak_memory,
    "attention": attention,
    "tiles_skipped": tiles_skipped,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--measure", choices=("ours", "peer", "nothing"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if options.measure:
        measure(options.measure)
    else:
        print(f"{TORCH}, float32, one thread")
        results = {}
        for name in options.only:
            print(name)
            results[name] = ROWS[name]()
        print(json.dumps(results))
