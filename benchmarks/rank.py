"""Effective rank and participation ratio against ``torch.linalg.svdvals``, on one thread.

Run ``python benchmarks/rank.py``. Both sides start from the same float32 matrices and take turns,
so that other load on the machine falls on both. The last line is one JSON object; each ratio in
it is the lesser over the two matrix shapes (median peer time over median own time).
"""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from tgn.rank import effective_rank, participation_ratio

SHAPES = {(128, 576): 200, (1024, 768): 25}  # matrix shape: repeats
BATCH = (64, 128, 576)
AGREEMENT = 1e-4


def peer_effective_rank(x: torch.Tensor) -> torch.Tensor:
    """Roy and Vetterli's definition from torch's exact singular values."""
    sigma = torch.linalg.svdvals(x)
    p = sigma / sigma.sum(dim=-1, keepdim=True)
    return torch.special.entr(p).sum(dim=-1).exp()


def peer_participation_ratio(x: torch.Tensor) -> torch.Tensor:
    squares = torch.linalg.svdvals(x).square()
    return squares.sum(dim=-1).square() / squares.square().sum(dim=-1)


PAIRS: dict[str, tuple[Callable, Callable]] = {
    "effective_rank": (effective_rank, peer_effective_rank),
    "participation_ratio": (participation_ratio, peer_participation_ratio),
}


def inputs(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """White data, and the same with one channel a thousand times larger."""
    white = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    outlier = white.copy()
    outlier[..., 7] *= 1000
    return {"white": white, "outlier": outlier}


def disagreement(ours: Callable, peer: Callable, x: np.ndarray) -> float:
    expected = peer(torch.from_numpy(x)).numpy()
    return float(np.max(np.abs(ours(x) / expected - 1)))


def timed(function: Callable, argument: object) -> float:
    start = time.perf_counter()
    function(argument)
    return time.perf_counter() - start


def medians(ours: Callable, peer: Callable, x: np.ndarray, repeats: int) -> tuple[float, float]:
    """Median seconds of both, run in turn."""
    tensor = torch.from_numpy(x)
    pairs = [(timed(ours, x), timed(peer, tensor)) for _ in range(repeats)]
    own_times, peer_times = zip(*pairs, strict=True)
    return statistics.median(own_times), statistics.median(peer_times)


def main() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)
    print(f"float32 input, 1 thread, numpy {np.__version__}, torch {torch.__version__}")
    print(f"{'':20} {'shape':>14} {'data':>8} {'ours ms':>9} {'peer ms':>9} {'ratio':>6}  differ")
    results: dict[str, dict[str, object]] = {}
    for name, (ours, peer) in PAIRS.items():
        least = np.inf
        for shape, repeats in {**SHAPES, BATCH: 5}.items():
            for data, x in inputs(shape).items():
                difference = disagreement(ours, peer, x)
                assert difference < AGREEMENT, f"{name} {shape} {data}: off by {difference:.1e}"
                own, other = medians(ours, peer, x, repeats)
                ratio = other / own
                print(
                    f"{name:20} {'x'.join(map(str, shape)):>14} {data:>8} {own * 1e3:9.3f} "
                    f"{other * 1e3:9.3f} {ratio:6.1f}  {difference:.0e}"
                )
                if shape in SHAPES and ratio < least:
                    least = ratio
                    results[name] = {
                        "ratio": round(ratio, 2),
                        "ours": own,
                        "peer": other,
                        "unit": "s",
                        "peer_version": f"torch {torch.__version__} linalg.svdvals",
                    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
