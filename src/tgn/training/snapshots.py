"""Keeping the weights of a training run on its way, for those who ask how they came about.

A run keeps nothing of the kind unless asked: its state is replaced at every save and removed at the
end. The loop asks for the batch of each step before it takes the step, so that whoever hands out
the batches sees the model after every number of steps; nothing in the loop has to change. A run
that was cut off and goes on writes the same files again.
"""

from __future__ import annotations

from pathlib import Path

from accelerate import PartialState
from safetensors.torch import save_file
from torch import Tensor, nn

from tgn.files import replacing
from tgn.training.batches import Batches


def keeping(batches: Batches, model: nn.Module, *, folder: str | Path, every: int) -> Batches:
    """The same batches; on the way, the model's weights are written at every so many steps.

    Parameters
    ----------
    batches
        For :func:`tgn.training.loop.fit`.
    model
        The one that is trained.
    folder
        Of files ``step-00000100.safetensors``, with the weights after that many steps, from those
        before the first. The end of the run is not among them: that is the checkpoint.
    every
        Steps.

    Raises
    ------
    ValueError
        If ``every`` is below 1.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")

    def watched(step: int) -> tuple[Tensor, Tensor]:
        if step % every == 0 and PartialState().is_main_process:
            weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
            with replacing(Path(folder) / f"step-{step:08d}.safetensors") as temporary:
                save_file(weights, temporary)
        return batches(step)

    return watched
