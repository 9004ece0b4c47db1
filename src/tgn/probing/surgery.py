"""Recording the residual stream, and removing parts of a network, by hooks.

Nothing of a model's own forward pass is rewritten here, so masks, positions and scales stay the
library's. What "removed" means: a sublayer that is deleted no longer exists. With its skip
connection it adds nothing to the stream; without one the stream passes it unchanged. A sublayer
whose skip connection is removed replaces the stream by its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from tgn.probing.adapters import Adapter, Block

Mixer = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]


@contextmanager
def recorded(adapter: Adapter) -> Iterator[list[torch.Tensor]]:
    """Collect the residual stream of every forward pass inside the block.

    Yields
    ------
    list of torch.Tensor
        Filled by each forward pass with (blocks + 1) tensors of shape (batch, tokens, width):
        the input of each block, then the output of the last one, before the final norm. Clear it
        between passes.
    """
    states: list[torch.Tensor] = []

    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        states.append(_stream(args, kwargs))

    def after(module: nn.Module, args: tuple, output: Any) -> None:
        states.append(_first(output))

    with ExitStack() as hooks:
        for block in adapter.blocks:
            # Ahead of every other hook: an ablation may hand the block something else.
            hooks.enter_context(
                _removing(
                    block.module.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
                )
            )
        hooks.enter_context(_removing(adapter.blocks[-1].module.register_forward_hook(after)))
        yield states


@contextmanager
def ablated(
    adapter: Adapter,
    *,
    attention: bool = True,
    mlp: bool = True,
    skip: bool = True,
    mixer: Mixer | None = None,
) -> Iterator[None]:
    """Run the model with attention, MLP or skip connections removed in every block.

    Parameters
    ----------
    mixer
        When given, ``mixer(layer, normed input, attention output)`` replaces the attention's
        output; all shapes (batch, tokens, width).

    Raises
    ------
    ValueError
        For a post-norm model, where removing the skip has no such meaning, and where the
        sublayers add the residual stream themselves, so that hooks cannot tell the two apart.
    """
    kind = adapter.model.config.model_type
    if not adapter.pre_norm:
        raise ValueError(
            f"ablations are defined for pre-norm blocks; those of {kind} are post-norm"
        )
    if adapter.family.adds_input:
        raise ValueError(
            f"no ablations of {kind}: its sublayers add the residual stream themselves"
        )
    with ExitStack() as changes:
        for layer, block in enumerate(adapter.blocks):
            if mixer is not None:
                changes.enter_context(_mixing(block, layer, mixer))
            if not attention:
                changes.enter_context(_silenced(block.attention))
            if not mlp:
                changes.enter_context(_silenced(block.mlp_output))
            if not skip:
                changes.enter_context(_without_skip(adapter, block, attention, mlp))
        yield


@contextmanager
def _mixing(block: Block, layer: int, mixer: Mixer) -> Iterator[None]:
    def replace(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        return _with_first(output, mixer(layer, _stream(args, kwargs), _first(output)))

    with _removing(block.attention.register_forward_hook(replace, with_kwargs=True)):
        yield


@contextmanager
def _silenced(module: nn.Module) -> Iterator[None]:
    """Let a module return zeros without computing anything."""
    original = module.forward

    def silent(*args: Any, **kwargs: Any) -> Any:
        stream = _stream(args, kwargs)
        width = getattr(module, "out_features", stream.shape[-1])
        zeros = stream.new_zeros(*stream.shape[:-1], width)
        return (zeros, None) if _returns_tuple(module) else zeros

    module.forward = silent
    try:
        yield
    finally:
        module.forward = original


@contextmanager
def _without_skip(adapter: Adapter, block: Block, attention: bool, mlp: bool) -> Iterator[None]:
    """Carry the stream past the residual additions of one block.

    The block is given zeros, so that every residual it adds is zero, and each norm is handed the
    true stream instead. This is exact: nothing large is added and taken away again.
    """
    stream: list[torch.Tensor] = []  # the stream as the next sublayer must see it

    def enter(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        stream[:] = [_stream(args, kwargs)]
        return _with_stream(args, kwargs, torch.zeros_like(stream[0]))

    def feed(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        given = _stream(args, kwargs)
        return _with_stream(args, kwargs, stream[0].view_as(given))

    def leave_attention(module: nn.Module, args: tuple, output: Any) -> Any:
        if adapter.parallel:
            return output
        if attention:
            stream[:] = [_first(output)]
        return _with_first(output, torch.zeros_like(stream[0]))

    def leave_mlp(module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        passes = not mlp and (not adapter.parallel or not attention)
        return stream[0].view_as(output) if passes else output

    with ExitStack() as hooks:
        for module in (block.module, block.attention_norm, block.mlp_norm):
            hook = enter if module is block.module else feed
            hooks.enter_context(_removing(module.register_forward_pre_hook(hook, with_kwargs=True)))
        hooks.enter_context(_removing(block.attention.register_forward_hook(leave_attention)))
        hooks.enter_context(_removing(block.mlp_output.register_forward_hook(leave_mlp)))
        yield


def random_causal_mixer(
    layers: int, tokens: int, *, seed: int, device: torch.device | str = "cpu"
) -> Mixer:
    """A control for attention that mixes tokens without looking at them.

    Each layer has one random causal row-stochastic matrix (rows uniform on the simplex of past
    and present tokens), drawn once from ``seed``. It averages the normed input, and the result is
    scaled to the norm of the attention output it replaces, passage by passage.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.empty(layers, tokens, tokens).exponential_(generator=generator).tril()
    weights = (weights / weights.sum(-1, keepdim=True)).to(device)

    def mix(layer: int, normed: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        mixed = weights[layer] @ normed
        scale = output.norm(dim=(1, 2), keepdim=True) / mixed.norm(dim=(1, 2), keepdim=True)
        return mixed * scale

    return mix


@contextmanager
def _removing(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _returns_tuple(module: nn.Module) -> bool:
    """Attention modules return (output, weights), all others the output alone."""
    return "attention" in type(module).__name__.lower()


def _stream(args: Sequence[Any], kwargs: dict[str, Any]) -> torch.Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _with_stream(args: tuple, kwargs: dict, stream: torch.Tensor) -> tuple[tuple, dict]:
    if args:
        return (stream, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": stream}


def _first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def _with_first(output: Any, tensor: torch.Tensor) -> Any:
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor
