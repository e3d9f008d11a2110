"""A policy as a file by itself, for a robot that is driven without this platform."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from rl_platform import atomic, registry
from rl_platform.assemble import LoadedRun
from rl_platform.envs.base import VectorEnv
from rl_platform.errors import UserError

Play = Callable[[Tensor], Tensor]
STEPS = 20  # of every environment: what it sees then is what the file is tried on
TOLERANCE = 1e-4  # of an action, relative to it where it is above 1


class Deployed(nn.Module):
    """Observations `(batch, d)` to actions `(batch, action_dim)` within their bounds, as they are applied."""

    def __init__(self, policy: nn.Module, low: Tensor, high: Tensor) -> None:
        """Clip what `policy` gives as an environment does."""
        super().__init__()
        self.policy = policy
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, obs: Tensor) -> Tensor:
        """The action for observations as the environment shows them: their normaliser is inside."""
        return self.policy(obs).clamp(self.low, self.high)


def export(run: LoadedRun, folder: Path, form: str) -> tuple[Path, float]:
    """Write `policy_<iteration>` in one of the `FORMATS`, and beside it as JSON what its columns are.

    Returns:
        The file, and by how much its actions differ from the policy's at most.

    Raises:
        UserError: a package is missing, the policy sees pictures, or the file acts differently.
    """
    if run.env.observation_dims.keys() - {"policy", "critic"}:
        raise UserError("a policy that sees more than one group of observations cannot be exported")
    ending, write = FORMATS[form]
    seen = _observations(run)
    policy = copy.deepcopy(run.agent.policy_module()).requires_grad_(False)
    module = Deployed(policy, run.env.action_low, run.env.action_high).eval()
    content, play = write(module, seen[:2])
    expected = run.agent.policy({"policy": seen}).clamp(run.env.action_low, run.env.action_high)
    difference = (play(seen) - expected).abs()
    if not bool((difference <= TOLERANCE * expected.abs().clamp_min(1.0)).all()):
        raise UserError(f"the exported policy's actions differ by up to {difference.max():.2g}: not written")
    told = json.dumps(describe(run), indent=2) + "\n"
    path = folder / f"policy_{run.iteration}{ending}"
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{folder} is a file; the policy wants a folder of this name") from error
    atomic.write_bytes(path, content)
    atomic.write_text(path.with_suffix(".json"), told)
    return path, difference.max().item()


def describe(run: LoadedRun) -> dict[str, Any]:
    """What somebody has to know who feeds the file and applies what it gives."""
    env, settings = run.env, OmegaConf.to_container(run.cfg.env, resolve=True)
    assert isinstance(settings, dict)
    label = registry.env_label(run.cfg.env)
    kind = "what the action terms take, clipped to these bounds"
    if env.num_choices is not None:
        kind = f"one of {env.num_choices} choices, a whole number in one column"
    return {
        "env": label,
        "agent": run.cfg.agent.name,
        "iteration": run.iteration,
        "env_steps": run.env_steps,
        "control_period_s": env.step_dt,
        "dtype": "float32",
        "obs": {
            "shape": ["batch", env.observation_dims["policy"]],
            "values": "what the environment shows, without its noise and delays: each term times its scale; "
            "the normaliser is inside",
            **_terms(env, "observation_columns", settings.get("observations", {}).get("policy")),
        },
        "action": {
            "shape": ["batch", env.action_dim],
            "values": kind,
            "low": env.action_low.tolist(),
            "high": env.action_high.tolist(),
            **_terms(env, "action_columns", settings.get("actions")),
        },
        "trained_with": {"action_delay_steps": settings.get("action_delay_steps")},
        "what_the_numbers_mean": f"python run.py help env={label}; all of the run: ../config.yaml",
    }


def _terms(env: VectorEnv, columns: str, settings: Any) -> dict[str, Any]:
    """The term of each column, and the numbers of those terms; nothing where the environment has none."""
    names = getattr(env, columns, None)
    if not names:
        return {}
    terms = {name: own for name, own in (settings or {}).items() if own is not None}
    return {"columns": names, "terms": terms}


def _observations(run: LoadedRun) -> Tensor:
    """What the policy sees in some steps of all environments, `(STEPS · num_envs, d)`."""
    obs, seen = run.env.reset(), []
    for _ in range(STEPS):
        seen.append(obs["policy"].clone())
        obs = run.env.step(run.agent.policy(obs))[0]
    return torch.cat(seen)


def _onnx(module: nn.Module, example: Tensor) -> tuple[bytes, Play]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - what PyTorch's exporter is written with
    except ModuleNotFoundError as error:
        raise UserError(
            f"--format onnx needs the package {error.name}: "
            "pip install -c constraints.txt -e '.[export]'; --format torchscript needs none"
        ) from error
    batch = torch.export.Dim("batch")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # of packages that it could do without
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own deprecations
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["obs"],
            output_names=["action"],
            dynamic_shapes={"obs": {0: batch}},
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda obs: torch.from_numpy(session.run(None, {"obs": obs.numpy()})[0])


def _torchscript(module: nn.Module, example: Tensor) -> tuple[bytes, Play]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as a whole: C++ still reads it
        traced = torch.jit.trace(module, (example,), check_trace=False)
        file = io.BytesIO()
        torch.jit.save(traced, file)
        content = file.getvalue()
        return content, torch.jit.load(io.BytesIO(content))


FORMATS: dict[str, tuple[str, Callable[[nn.Module, Tensor], tuple[bytes, Play]]]] = {
    "onnx": (".onnx", _onnx),
    "torchscript": (".pt", _torchscript),
}
