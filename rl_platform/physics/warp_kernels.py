"""What `warp.py` does on the device besides MuJoCo Warp's own kernels: find what diverged, and reset."""

from __future__ import annotations

import warp as wp

wp.set_module_options({"enable_backward": False})

MAX_VALUE = wp.constant(1.0e10)  # mjMAXVAL: MuJoCo itself gives up beyond it


@wp.func
def _is_bad(x: float) -> bool:
    return not (x <= MAX_VALUE and x >= -MAX_VALUE)  # NaN too


@wp.kernel
def find_diverged(
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    act: wp.array2d[float],
    qacc: wp.array2d[float],
    diverged: wp.array[bool],
):
    """Whether a simulation's state has a number that MuJoCo would not go on with."""
    i = wp.tid()
    bad = bool(False)  # noqa: UP018  Warp's way to say that it changes
    for j in range(qpos.shape[1]):
        bad = bad or _is_bad(qpos[i, j])
    for j in range(qvel.shape[1]):
        bad = bad or _is_bad(qvel[i, j]) or _is_bad(qacc[i, j])
    for j in range(act.shape[1]):
        bad = bad or _is_bad(act[i, j])
    diverged[i] = bad


@wp.kernel
def collect(flags: wp.array[int], wanted: int, collected: wp.array[int]):
    """Add the wanted ones of a step's overflow bits to those of the steps before."""
    i = wp.tid()
    collected[i] = collected[i] | (flags[i] & wanted)


@wp.kernel
def reset_state(
    mask: wp.array[bool],
    qpos0: wp.array2d[float],
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    act: wp.array2d[float],
    ctrl: wp.array2d[float],
    qacc_warmstart: wp.array2d[float],
    qfrc_applied: wp.array2d[float],
    time: wp.array[float],
):
    """Put the chosen simulations to the model's initial positions, at rest."""
    i = wp.tid()
    if not mask[i]:
        return
    time[i] = 0.0
    for j in range(qpos.shape[1]):
        qpos[i, j] = qpos0[i % qpos0.shape[0], j]
    for j in range(qvel.shape[1]):
        qvel[i, j] = 0.0
        qacc_warmstart[i, j] = 0.0
        qfrc_applied[i, j] = 0.0
    for j in range(act.shape[1]):
        act[i, j] = 0.0
    for j in range(ctrl.shape[1]):
        ctrl[i, j] = 0.0


@wp.kernel
def reset_bodies(
    mask: wp.array[bool],
    mocap_id: wp.array[int],
    body_pos: wp.array2d[wp.vec3],
    body_quat: wp.array2d[wp.quat],
    xfrc_applied: wp.array2d[wp.spatial_vector],
    mocap_pos: wp.array2d[wp.vec3],
    mocap_quat: wp.array2d[wp.quat],
):
    """Take external forces off the chosen simulations' bodies, and mocap bodies to their places."""
    i, body = wp.tid()
    if not mask[i]:
        return
    xfrc_applied[i, body] = wp.spatial_vector()
    mocap = mocap_id[body]
    if mocap >= 0:
        mocap_pos[i, mocap] = body_pos[i % body_pos.shape[0], body]
        mocap_quat[i, mocap] = body_quat[i % body_quat.shape[0], body]


@wp.kernel
def reset_equalities(mask: wp.array[bool], initial: wp.array[bool], active: wp.array2d[bool]):
    """Switch the chosen simulations' equality constraints as the model has them."""
    i, equality = wp.tid()
    if mask[i]:
        active[i, equality] = initial[equality]
