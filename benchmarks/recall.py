"""The recall generator against one that makes its examples one by one, on one thread.

Run ``python benchmarks/recall.py``. The peers are plain numpy loops over examples: one with the
calls of Zoology's generator, ``choice(replace=False)`` of ``numpy.random`` for keys, values and
slots, and random tokens for the rest; one with the same methods of the newer ``Generator``. All
sides draw from the same distribution and take turns, so that other load on the machine falls on
all. The last line is one JSON object; its ratio is the least over both loops and the shapes of
Zoology's figure 2 (median peer time over median own time, CPU seconds an example).
"""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from tgn.text.recall import IGNORED, Examples, Recall

# (T, D) of Zoology's figure 2; and with more pairs, printed, not counted.
COUNTED = ((64, 4), (128, 8), (256, 16))
PRINTED = ((512, 64), (1024, 256))
PEERS = {"RandomState": np.random.RandomState, "Generator": np.random.default_rng}
REPEATS, OWN_EXAMPLES, PEER_EXAMPLES = 15, 4000, 200

Source = np.random.Generator | np.random.RandomState


def looped(task: Recall, rng: Source, num_examples: int) -> Examples:
    """One example after the other."""
    context, half = task.context, task.vocab_size // 2
    all_keys, all_values = np.arange(1, half), np.arange(half, task.vocab_size)
    p = task.slot_weights / task.slot_weights.sum()
    integers = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    inputs = np.zeros((num_examples, task.input_seq_len), np.int64)
    labels = np.full_like(inputs, IGNORED)
    for sequence, answers in zip(inputs, labels, strict=True):
        keys = rng.choice(all_keys, task.num_kv_pairs, replace=False)
        values = rng.choice(all_values, task.num_kv_pairs, replace=False)
        slots = rng.choice(len(p), task.num_kv_pairs, replace=False, p=p)
        sequence[0:context:2] = np.tile(keys, task.num_passes)
        sequence[1:context:2] = np.tile(values, task.num_passes)
        sequence[context + 2 * slots] = keys
        answers[context + 2 * slots] = values
        empty = sequence == 0
        sequence[empty] = integers(0, task.vocab_size, empty.sum())
    return inputs, labels


def check(task: Recall, examples: Examples) -> None:
    """Both sides must make valid examples: each key asked once, and told its value."""
    inputs, labels = examples
    keys = inputs[:, 0 : 2 * task.num_kv_pairs : 2]
    values = inputs[:, 1 : 2 * task.num_kv_pairs : 2]
    rows, places = np.nonzero(labels != IGNORED)
    match = keys[rows] == inputs[rows, places][:, None]
    assert (match.sum(axis=1) == 1).all()
    assert (values[rows][match] == labels[rows, places]).all()
    assert len(rows) == keys.size


def seconds(make: Callable, task: Recall, rng: Source, num_examples: int) -> float:
    """CPU seconds an example."""
    start = time.process_time()
    examples = make(task, rng, num_examples)
    spent = time.process_time() - start
    check(task, examples)
    return spent / num_examples


def main() -> None:
    threadpool_limits(1)
    print(f"V = 8192, 1 thread, numpy {np.__version__}; CPU microseconds an example")
    titles = [f"{name:>12} {'ratio':>6}" for name in PEERS]
    print(f"{'T':>6} {'D':>4} {'ours':>9}", *titles)
    rng = np.random.default_rng(0)
    sources = {name: make(0) for name, make in PEERS.items()}
    counted = []
    for shape in COUNTED + PRINTED:
        task = Recall(*shape)
        times = [
            (
                seconds(Recall.draw, task, rng, OWN_EXAMPLES),
                *(seconds(looped, task, source, PEER_EXAMPLES) for source in sources.values()),
            )
            for _ in range(REPEATS)
        ]
        own, *others = map(statistics.median, zip(*times, strict=True))
        cells = [f"{other * 1e6:12.1f} {other / own:6.1f}" for other in others]
        unused = [] if shape in COUNTED else ["  not counted"]
        print(f"{shape[0]:6} {shape[1]:4} {own * 1e6:9.2f}", *cells, *unused)
        if shape in COUNTED:
            found = zip(others, PEERS, strict=True)
            counted += [(other / own, own, other, name) for other, name in found]
    ratio, own, other, name = min(counted)
    result = {
        "ratio": round(ratio, 2),
        "ours": own,
        "peer": other,
        "unit": "s",
        "peer_version": f"per-example loop, {name} of numpy {np.__version__}",
    }
    print(json.dumps({"generator": result}))


if __name__ == "__main__":
    main()
