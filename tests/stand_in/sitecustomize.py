"""Replaces training in the processes of a sweep's jobs: what a job does is said by STAND_IN, by its seed.

Python imports this module by itself where its directory is on PYTHONPATH.
"""

import json
import os
import signal
import sys
import time
import types


def train(cfg, run_dir):  # type: ignore[no-untyped-def]
    """Note the environment, do as told, and end as a training does."""
    from rl_platform.errors import NonFiniteError, UserError

    told = json.loads(os.environ["STAND_IN"]).get(str(cfg.seed), "finish")
    if told == "refuse":
        raise UserError("no room for it")
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    run_dir.begin()
    run_dir.save_config(cfg)
    cpus = sorted(os.sched_getaffinity(0))
    print(f"seed {cfg.seed} learns", flush=True)
    error = {"nan": NonFiniteError("a NaN"), "bug": ValueError("a bug")}.get(told)
    if error is not None:
        run_dir.update_state(state="failed", error=str(error), cpus_used=cpus)
        raise error
    if told == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    end = time.monotonic() + (120.0 if told == "last" else 0.0)
    while time.monotonic() < end and not stopped:
        time.sleep(0.02)
    code = __import__("rl_platform").__file__
    run_dir.update_state(iteration=7, cpus_used=cpus, code=code, at=time.time())
    if stopped:
        run_dir.update_state(state="preempted")
        return 0
    result = {"success_rate": cfg.algo.gamma / 2 + cfg.seed / 100, "return_mean": float(cfg.seed)}
    run_dir.summary_json.write_text(json.dumps({"eval": result}))
    run_dir.update_state(state="finished")
    return 0


if "STAND_IN" in os.environ:
    module = types.ModuleType("rl_platform.train")
    module.train = train  # type: ignore[attr-defined]
    sys.modules["rl_platform.train"] = module
