"""`python -m rl_platform.job RUN`: train what a run directory says; what every launcher starts.

Started several times, by torchrun, by `srun` or by `ranks.run_ranks`, these processes train together.
"""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Sequence
from pathlib import Path

from rl_platform.errors import exit_status
from rl_platform.join import as_rank


def main(argv: Sequence[str]) -> int:
    """Train in the directory that the only argument names; return the exit status."""
    (path,) = argv
    return exit_status(lambda: run(Path(path)))


def run(path: Path) -> int:
    """Train in a run's directory, from its last checkpoint on if it has been begun before.

    Nothing is composed: the directory's `config.yaml` is the whole configuration; keys that came later are
    filled in (`old_runs`).

    Raises:
        UserError: this is no run's directory, another process trains in it, or the run cannot go on.
        NonFiniteError: a NaN; the message says where, and how to see it again.
        RankLostError: another rank failed.
    """
    return as_rank(lambda: _train(path))


def _train(path: Path) -> int:
    from rl_platform.old_runs import load_config
    from rl_platform.run_dir import RunDir
    from rl_platform.train import train

    run_dir = RunDir.open(path)
    cfg = load_config(run_dir)
    if run_dir.read_state()["state"] != "queued":
        cfg.resume = str(path)
    return train(cfg, run_dir)


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main(sys.argv[1:]))
