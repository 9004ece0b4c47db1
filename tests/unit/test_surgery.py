"""Hooks record what the library computes, and removing parts does exactly what it says."""

import itertools

import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from tgn.probing.adapters import adapt
from tgn.probing.surgery import ablated, random_causal_mixer, recorded

PARTS = list(itertools.product([True, False], repeat=3))


def stream(adapter, tokens, **parts):
    with torch.no_grad(), ablated(adapter, **parts), recorded(adapter) as states:
        adapter.body(tokens, use_cache=False)
        return list(states)


def bare_mlp(adapter, block, x):
    """Norm and MLP of a block by hand; OPT keeps two layers where others keep a module."""
    x = block.mlp_norm(x)
    if hasattr(block.module, "fc1"):
        return block.module.fc2(block.module.activation_fn(block.module.fc1(x)))
    return block.mlp_output(x)


def test_hooks_agree_with_the_states_the_library_returns(model, tokens):
    """All but the last, which the library gives after the final norm."""
    adapter = adapt(model)
    states = stream(adapter, tokens)
    with torch.no_grad():
        returned = model(tokens, output_hidden_states=True).hidden_states
    assert len(states) == len(returned) == len(adapter.blocks) + 1
    for ours, theirs in zip(states[:-1], returned[:-1], strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(adapter.final_norm(states[-1]), returned[-1])
    assert not torch.allclose(states[-1], returned[-1])


def test_nothing_removed_changes_nothing_and_removal_is_undone(model, tokens):
    adapter = adapt(model)
    with torch.no_grad():
        before = model(tokens).logits
        with ablated(adapter):
            assert torch.equal(model(tokens).logits, before)
        for attention, mlp, skip in PARTS[1:]:
            with ablated(adapter, attention=attention, mlp=mlp, skip=skip):
                assert not torch.equal(model(tokens).logits, before)
        assert torch.equal(model(tokens).logits, before)


@pytest.mark.parametrize(("attention", "mlp", "skip"), PARTS)
def test_every_ablation_is_causal(model, tokens, attention, mlp, skip):
    adapter = adapt(model)
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 64
    parts = {"attention": attention, "mlp": mlp, "skip": skip}
    pairs = zip(stream(adapter, tokens, **parts), stream(adapter, changed, **parts), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours[:, :9], theirs[:, :9])
        assert not torch.equal(ours[:, 9:], theirs[:, 9:])


def test_attention_deleted_is_the_stack_of_mlps(model, tokens):
    adapter = adapt(model)
    for skip in (True, False):
        states = stream(adapter, tokens, attention=False, skip=skip)
        for block, before, after in zip(adapter.blocks, states[:-1], states[1:], strict=True):
            with torch.no_grad():
                added = bare_mlp(adapter, block, before)
            torch.testing.assert_close(after, before + added if skip else added)


def test_attention_alone_hands_on_its_own_output(model, tokens):
    adapter = adapt(model)
    normed, outputs = [], []
    hooks = [
        hook
        for block in adapter.blocks
        for hook in (
            block.attention_norm.register_forward_hook(lambda m, a, out: normed.append(out)),
            block.attention.register_forward_hook(lambda m, a, out: outputs.append(out[0])),
        )
    ]
    states = stream(adapter, tokens, mlp=False, skip=False)
    for hook in hooks:
        hook.remove()
    for block, before, seen in zip(adapter.blocks, states[:-1], normed, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(block.attention_norm(before), seen)
    for after, output in zip(states[1:], outputs, strict=True):
        torch.testing.assert_close(after, output)


def test_without_skips_the_mlp_reads_the_attention(tiny_model, tokens):
    adapter = adapt(tiny_model("llama"))
    outputs = []
    hooks = [
        block.attention.register_forward_hook(lambda m, a, out: outputs.append(out[0]))
        for block in adapter.blocks
    ]
    states = stream(adapter, tokens, skip=False)
    for hook in hooks:
        hook.remove()
    for block, after, output in zip(adapter.blocks, states[1:], outputs, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(after, bare_mlp(adapter, block, output))


def test_parallel_blocks_without_skips_add_their_two_sublayers(tiny_model, tokens):
    adapter = adapt(tiny_model("gpt_neox"))
    outputs = []
    hook = adapter.blocks[0].attention.register_forward_hook(
        lambda m, a, out: outputs.append(out[0])
    )
    states = stream(adapter, tokens, skip=False)
    hook.remove()
    with torch.no_grad():
        expected = outputs[0] + bare_mlp(adapter, adapter.blocks[0], states[0])
    torch.testing.assert_close(states[1], expected)


@pytest.mark.parametrize("skip", [True, False])
def test_nothing_left_is_the_identity(model, tokens, skip):
    states = stream(adapt(model), tokens, attention=False, mlp=False, skip=skip)
    for state in states[1:]:
        assert torch.equal(state, states[0])


def test_the_random_mixer_is_causal_seeded_and_as_strong_as_what_it_replaces(model, tokens):
    adapter = adapt(model)
    seen = []

    def spy(layer, normed, output):
        mixed = random_causal_mixer(3, 16, seed=5)(layer, normed, output)
        seen.append((output.norm(dim=(1, 2)), mixed.norm(dim=(1, 2))))
        return mixed

    first = stream(adapter, tokens, mixer=spy)
    again = stream(adapter, tokens, mixer=random_causal_mixer(3, 16, seed=5))
    other = stream(adapter, tokens, mixer=random_causal_mixer(3, 16, seed=6))
    assert torch.equal(first[-1], again[-1])
    assert not torch.equal(first[-1], other[-1])
    for replaced, mixed in seen:
        torch.testing.assert_close(replaced, mixed)


def test_the_random_mixer_looks_only_back():
    mixer = random_causal_mixer(1, 16, seed=0)
    x = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, 10] += 1
    ones = torch.ones(1, 16, 4)
    # Norm matching scales a whole passage, so directions are compared.
    before, after = mixer(0, x, ones), mixer(0, changed, ones)
    ratio = before[:, :10] / after[:, :10]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
    assert not torch.allclose(before[:, 10:] / after[:, 10:], ratio.mean())


def test_post_norm_models_are_refused():
    config = OPTConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, ffn_dim=48,
        word_embed_proj_dim=24, do_layer_norm_before=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="post-norm"), ablated(adapt(OPTForCausalLM(config))):
        pass


def test_sublayers_that_add_the_stream_themselves_are_refused(tiny_model):
    adapter = adapt(tiny_model("bloom"))
    with pytest.raises(ValueError, match=r"bloom.*add the residual"), ablated(adapter, mlp=False):
        pass
