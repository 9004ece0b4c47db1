"""Language-model parts against what one would otherwise use, side by side, on one thread.

Run ``python benchmarks/language_model.py`` (a few minutes), or some of its rows with ``--only``, or
with ``--device cuda``. The sides take turns, so that other load on the machine falls on both, and
medians are compared: of CPU seconds on a CPU, of seconds on a GPU. The last line is one JSON
object.
"""

import argparse
import ctypes
import inspect
import json
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import yaml
from torch import Tensor, nn
from transformers.models.mamba import modeling_mamba

from tgn.models import HardGate, ModelConfig, build, sizes
from tgn.models.decoder import Block, norm
from tgn.models.gated import Gated
from tgn.models.hard_attention import attend_open
from tgn.models.mamba import Mamba
from tgn.models.scans import linear_scan, min_gru, selective_scan
from tgn.text.tokens import open_tokens
from tgn.training.batches import Batches, windows
from tgn.training.evaluation import per_window
from tgn.training.loop import fit
from tgn.training.optimizers import schedule
from tgn.training.run import best_rate

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


class PlainBlock(nn.Module):
    """A pre-norm Transformer block of torch's own parts, as one would write it first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.mlp_norm(x))))


class PlainTransformer(nn.Module):
    """Learned positions, blocks, a final norm and a tied head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.zeros(config.context, config.width))
        blocks = (PlainBlock(config.width, config.heads) for _ in range(config.depth))
        self.blocks, self.norm = nn.Sequential(*blocks), nn.LayerNorm(config.width)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.embedding(tokens) + self.positions[: tokens.shape[1]]))
        logits = nn.functional.linear(x, self.embedding.weight)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


WIDTH, HEADS, OCCUPANCY = 256, 4, 0.09


def half(device: torch.device) -> torch.autocast:
    """bfloat16 where the processor has it, which is how our models are trained and run."""
    processor = torch.cpu.get_capabilities()
    fast = device.type != "cpu" or any(processor.get(f"{k}_bf16") for k in ("avx512", "amx"))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)


@row("training_rate")
def training_rate(device: torch.device) -> Record:
    """Forward and backward pass and AdamW's step; the peer is in float32."""
    config = ModelConfig(vocabulary=4096, width=WIDTH, depth=4, heads=HEADS, context=256)
    batch = 8
    print(f"training, d = {WIDTH}, 4 layers, context 256, vocabulary 4096, batch {batch}")
    torch.manual_seed(0)
    ours, peer = build(config).to(device), PlainTransformer(config).to(device)
    own_optimizer = torch.optim.AdamW(ours.parameters(), fused=True)
    peer_optimizer = torch.optim.AdamW(peer.parameters(), fused=True)
    inputs, targets = torch.randint(4096, (2, batch, 256), device=device)

    def own_step() -> None:
        with half(device):
            loss = ours(inputs, targets=targets).loss
        loss.backward()
        own_optimizer.step()
        own_optimizer.zero_grad()

    def peer_step() -> None:
        peer(inputs, targets).backward()
        peer_optimizer.step()
        peer_optimizer.zero_grad()

    own, other = alternate(own_step, peer_step, device, repeats=11)
    line("one step", own, other)
    tokens = batch * 256
    print(f"  tokens per second: ours {tokens / own:.0f}, peer {tokens / other:.0f}")
    return record(own / tokens, other / tokens, "s a token", f"{TORCH}, SDPA, float32, AdamW")


def open_at(gate: nn.Module, h: Tensor) -> None:
    """Random weights, and the bias at which the gate is open for 9 % of these states."""
    nn.init.normal_(gate.linear.weight)
    nn.init.zeros_(gate.linear.bias)
    logits = nn.functional.linear(h.float(), gate.linear.weight)
    gate.linear.bias.copy_(-logits.flatten().quantile(1 - OCCUPANCY))


def gated_block(context: int, device: torch.device, x: Tensor) -> Block:
    """A TGN block of minGRU and attention whose gate is open for 9 % of the tokens of x."""
    config = ModelConfig(
        vocabulary=8, width=WIDTH, depth=1, heads=HEADS, context=context,
        mixer="gated", inertial="mingru",
    )  # fmt: skip
    block = Block(config).to(device).eval()
    open_at(block.mixer.gate, block.mixer.inertial.state(norm(x)))
    return block


def attend_by_gate(mixer: Gated, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gate, and attention where it is open."""
    return attend_open(mixer.geometric, x, mixer.gate(h) > 0.5)


@torch.no_grad()
def gated_attention(length: int, device: torch.device) -> Record:
    """Maps, norms of queries and keys, rotations, attention and output map, with and without gate.

    Both sides are the same layer with the same weights, from an input that is normed already; ours
    computes the gate from a given inertial state, and attends for the open tokens alone. The
    record is that of 4096 tokens.
    """
    print(f"attention sub-layer, T = {length}, d = {WIDTH}, {HEADS} heads, gate open for 9 %")
    cases = [(True, 1), (False, 1), (False, 4096 // length)]
    for precise, batch in dict.fromkeys(cases):
        torch.manual_seed(0)
        noise = torch.randn(batch, length, WIDTH, device=device)
        mixer = gated_block(length, device, noise).mixer
        with torch.autocast(device.type, enabled=False) if precise else half(device):
            x = norm(noise)
            h = mixer.inertial.state(x)
            gated = partial(attend_by_gate, mixer, x, h)
            full = partial(mixer.geometric, x)
            y, row, column = gated()
            off = differ(y, full()[0][row, column])
            assert off < (1e-5 if precise else 0.05), f"outputs differ by {off:.1e}"
            own, other = alternate(gated, full, device, repeats=2**15 // length)
        kind = "float32" if precise else "bfloat16"
        line(f"{kind}, batch {batch}, {len(row) / batch / length:.3f} open", own, other)
    unit = f"s a forward pass of 4096 tokens, {kind}"
    return record(own, other, unit, f"{TORCH} SDPA, the same layer without a gate")


@row("gated_attention_1024")
def gated_attention_1024(device: torch.device) -> Record:
    return gated_attention(1024, device)


@row("gated_attention_4096")
def gated_attention_4096(device: torch.device) -> Record:
    return gated_attention(4096, device)


@row("block_4096")
@torch.no_grad()
def block(device: torch.device) -> Record:
    """A whole TGN block against a whole Transformer block: same width, MLP and kernels."""
    length = 4096
    print(f"whole block, T = {length}, d = {WIDTH}, forward; peer: our Transformer block")
    for precise in (True, False):
        torch.manual_seed(0)
        x = torch.randn(1, length, WIDTH, device=device)
        tgn = gated_block(length, device, x)
        transformer = Block(ModelConfig(8, WIDTH, 1, HEADS, length)).to(device).eval()
        with torch.autocast(device.type, enabled=False) if precise else half(device):
            own, other = alternate(
                partial(tgn, x, None, HardGate(0.5)), partial(transformer, x), device, repeats=9
            )
        kind = "float32" if precise else "bfloat16"
        line(kind, own, other)
    unit = f"s a forward pass of one sequence, {kind}"
    return record(own, other, unit, f"{TORCH} SDPA, Transformer block of the same parts")


@row("block_decode")
@torch.no_grad()
def decode(device: torch.device) -> Record:
    """One more token for each of some sequences, with 4095 tokens in the cache; float32.

    Gates are open for a random 9 % of the tokens; they are computed, and then set, since random
    weights would not open them evenly over sequences.
    """
    length, steps = 4096, 100
    print(f"whole block, one token after {length - 1} others, d = {WIDTH}; peer: as above")
    for batch in (1, 4, 8, 16):
        torch.manual_seed(0)
        x = torch.randn(steps, batch, 1, WIDTH, device=device)
        tgn = gated_block(length, device, x.flatten(1, 2))
        transformer = Block(ModelConfig(8, WIDTH, 1, HEADS, length)).to(device).eval()
        is_open = torch.zeros(steps * batch, device=device)
        is_open[torch.randperm(len(is_open))[: round(OCCUPANCY * len(is_open))]] = 1
        tgn.mixer.gate = Scheduled(tgn.mixer.gate, is_open.view(steps, batch, 1))
        own_cache = tgn.mixer.new_cache(batch, device)
        peer_cache = transformer.mixer.new_cache(batch, device)
        for cache in (own_cache["geometric"], peer_cache):
            cache["keys"].normal_()
            cache["values"].normal_()

        def run(block, cache, length_of, hard, x=x) -> None:
            for token in x:
                length_of["length"].fill_(length - 1)
                block(token, cache, hard)

        own, other = alternate(
            partial(run, tgn, own_cache, own_cache["geometric"], HardGate(0.5)),
            partial(run, transformer, peer_cache, peer_cache, None),
            device,
            repeats=3,
        )
        line(f"batch {batch}, a step", own / steps, other / steps)
    tokens = steps * batch
    unit = f"s a token, {batch} sequences"
    return record(own / tokens, other / tokens, unit, f"{TORCH}, Transformer block")


class Scheduled(nn.Module):
    """A gate that is computed, and then set to the next entry of a table."""

    def __init__(self, gate: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.gate, self.table, self.step = gate, table, 0

    def forward(self, h: Tensor) -> Tensor:
        self.gate(h)
        self.step += 1
        return self.table[(self.step - 1) % len(self.table)]


def keep_memory() -> None:
    """Let glibc keep freed memory, for both sides alike: the page faults of giving it back and
    taking it again are a tenth of the time, and not the same tenth twice."""
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    library.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
    library.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, at its most


TOKENS = Path("results/language_model/tokens")
RATES = (1e-3, 2e-3, 4e-3, 8e-3)  # of the peer
BUDGET, BATCH, EVERY = 320, 4, 10  # steps, windows a step, steps between evaluations
WARMUP, WINDOWS = 0.05, 64
SHORTER = (0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)  # parts of the peer's steps that ours is given


@row("time_to_loss")
def time_to_loss(device: torch.device) -> Record:
    """Seconds of training until our TGN is as good as the peer at its end.

    Same text, tokens, width, depth, windows and parameters (2 %). The peer is a nanoGPT-style
    Transformer in float32: LayerNorm, GELU, learned positions, AdamW with warm-up and cosine decay,
    and the best of its learning rates. Ours trains as figure 21's TGN does, with ever longer
    schedules until one reaches the peer's loss; its seconds are those of that run, up to there.
    """
    if not (TOKENS / "counts.json").exists():
        raise SystemExit(f"no {TOKENS}: make it by `snakemake {TOKENS}/counts.json`")
    settings = yaml.safe_load(Path("config.yaml").read_text())["language_model"]
    vocabulary = json.loads((TOKENS / "counts.json").read_text())["vocabulary"]
    shape = {"vocabulary": vocabulary, **settings["model"]}
    texts = {
        split: open_tokens(TOKENS, split, shape["context"]) for split in ("train", "validation")
    }
    print(f"time to loss, {BUDGET} steps of {BATCH} windows of {shape['context']} tokens")

    def batches(seed: int) -> Batches:
        return windows(texts["train"], context=shape["context"], batch=BATCH, seed=seed)

    runs = []
    for rate in RATES:
        torch.manual_seed(0)
        peer = nanogpt(ModelConfig(**shape)).to(device)
        runs.append(train_peer(peer, batches(0), texts["validation"], rate, device))
        print(f"  peer, learning rate {rate:g}: {runs[-1][0]:.4f} nats after {runs[-1][1]:.0f} s")
    target, other = min(runs)
    size = sum(parameter.numel() for parameter in peer.parameters())
    tgn = ModelConfig(**shape, **settings["arms"]["tgn"]["model"])
    tgn = sizes.match(tgn, parameters=size)
    rate = best_rate(settings["rates"], "tgn")
    print(f"  parameters: ours {sizes.parameters(tgn)}, peer {size}")
    for part in SHORTER:
        torch.manual_seed(0)
        found = fit(
            build(tgn).to(device),
            batches(0),
            steps=round(part * BUDGET),
            optimizer={**settings["training"]["optimizer"], "learning_rate": rate},
            schedule=settings["training"]["schedule"],
            penalty=settings["penalty"],
            precision=settings["training"]["precision"],
            every=EVERY,
            evaluate=partial(
                per_window, tokens=texts["validation"], context=shape["context"], windows=WINDOWS
            ),
            evaluate_every=EVERY,
            cpu=device.type == "cpu",
        )
        losses = found.metrics.dropna(subset=["validation_loss"])
        best = losses["validation_loss"].min()
        print(f"  ours, {round(part * BUDGET)} steps: {best:.4f} nats")
        if best <= target:
            step = losses.loc[losses["validation_loss"] <= target, "step"].iloc[0]
            clock = "cpu_seconds" if device.type == "cpu" else "seconds"
            own = float(found.timings.set_index("step")[clock].loc[step])
            return record(own, other, f"s to {target:.3f} nats", f"{TORCH}, nanoGPT-style, AdamW")
    raise SystemExit(f"ours did not reach the peer's {target:.4f} nats in {BUDGET} steps")


def nanogpt(config: ModelConfig) -> PlainTransformer:
    """The plain Transformer with GPT-2's initialisation."""
    model = PlainTransformer(config)
    nn.init.normal_(model.positions, std=0.02)
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear):
            last = name.endswith(("out", "down"))
            nn.init.normal_(part.weight, std=0.02 / ((2 * config.depth) ** 0.5 if last else 1))
            nn.init.zeros_(part.bias)
    return model


def train_peer(
    model: PlainTransformer, batches: Batches, validation: Any, rate: float, device: torch.device
) -> tuple[float, float]:
    """Final validation loss, and seconds of training."""
    weights = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    plan = schedule(
        optimizer, steps=BUDGET, warmup=WARMUP, decay=1 - WARMUP, final=0.1, shape="cosine"
    )

    def steps() -> None:
        for step in range(BUDGET):
            inputs, targets = (part.to(device) for part in batches(step))
            model(inputs, targets).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            plan.step()
            optimizer.zero_grad()

    spent = seconds(steps, device)
    return evaluate_peer(model, validation, device), spent


@torch.no_grad()
def evaluate_peer(model: PlainTransformer, tokens: Any, device: torch.device) -> float:
    """Mean loss on the windows that ours is evaluated on."""
    context = len(model.positions)
    count = (len(tokens) - 1) // context
    chosen = np.linspace(0, count - 1, min(WINDOWS, count)).round().astype(int)
    losses = []
    for start in chosen * context:
        ids = torch.from_numpy(tokens[start : start + context + 1].astype(np.int64)).to(device)
        losses.append(float(model(ids[None, :-1], ids[None, 1:])))
    return float(np.mean(losses))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--device", default="cpu", type=torch.device, help="cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
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
