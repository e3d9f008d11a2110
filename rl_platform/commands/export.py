"""`python run.py export RUN`: a run's policy as a file by itself."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from rl_platform.commands.arguments import open_run, run_parser

NUM_ENVS = 16  # that the file is tried on


def main(arguments: Sequence[str]) -> int:
    """Write RUN/exported/policy_<iteration>, and say what it takes and gives."""
    parser = run_parser(
        "export",
        "Write a run's policy, its normaliser included, as a file that needs no platform.",
        plays=False,
    )
    parser.add_argument(
        "--format", choices=["onnx", "torchscript"], default="onnx", help="of the file (default: onnx)"
    )
    options = parser.parse_args(arguments)
    from rl_platform.assemble import load_run
    from rl_platform.export import export

    run_dir = open_run(options.run)
    with contextlib.redirect_stdout(sys.stderr):
        run = load_run(run_dir, options.checkpoint, num_envs=NUM_ENVS, device="cpu", num_threads=None)
        with contextlib.closing(run.env):
            path, difference = export(run, run_dir.path / "exported", options.format)
            sizes = run.env.observation_dims["policy"], run.env.action_dim
    print(f"{path}: obs (batch, {sizes[0]}) to action (batch, {sizes[1]})")
    print(f"  its actions differ from the policy's by at most {difference:.1g}")
    print(f"{path.with_suffix('.json')}: what each column is, bounds, control period")
    print(f"In Python, with obs a float32 array of those sizes:\n{_usage(options.format).format(path=path)}")
    return 0


def _usage(form: str) -> str:
    """How a file is used, as lines of Python."""
    if form == "torchscript":
        return """\
    import torch
    policy = torch.jit.load("{path}")
    action = policy(torch.as_tensor(obs))"""
    return """\
    import onnxruntime
    policy = onnxruntime.InferenceSession("{path}")
    (action,) = policy.run(None, {{"obs": obs}})"""
