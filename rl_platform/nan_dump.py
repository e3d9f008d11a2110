"""What is kept when a number stops being finite, so that the moment can be seen again."""

from __future__ import annotations

from typing import Any

import torch

from rl_platform import provenance
from rl_platform.errors import NonFiniteError
from rl_platform.run_dir import RunDir

FILE_NAME = "nan_dump.pt"


def save(
    run_dir: RunDir, env_state: dict[str, Any], actions: list[torch.Tensor], error: NonFiniteError
) -> NonFiniteError:
    """Keep the environments' state and the actions `(num_envs, action_dim)` that led to the error.

    Returns:
        The error to raise: what happened, where it is kept and the command that replays it.
    """
    path = run_dir.path / FILE_NAME
    what = str(error)
    torch.save(
        {"env": env_state, "actions": torch.stack(actions), "env_id": error.env_id, "error": what}, path
    )
    return NonFiniteError(
        f"{what}\n"
        f"The simulation before it and the {len(actions)} actions that led to it are in {path}\n"
        f"See it again: {provenance.run('play', run_dir.path, '--replay', path)}",
        error.env_id,
    )


def explain_loss(run_dir: RunDir, iteration: int, error: NonFiniteError) -> NonFiniteError:
    """Return the error to raise when learning diverged although the observations were finite."""
    return NonFiniteError(
        f"iteration {iteration}: {error}\n"
        "The environments' numbers are finite: the update diverged. A smaller algo.learning_rate or "
        "algo.max_grad_norm may mend it.\n"
        f"See it again, exactly, from the last checkpoint: "
        f"{provenance.run(f'resume={run_dir.path}', f'max_iterations={iteration}')}"
    )
