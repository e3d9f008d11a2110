"""The Panda's kinematics from its Craig Denavit-Hartenberg table, written independently of the model."""

from __future__ import annotations

import numpy as np

PI = np.pi
A = [0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088]
D = [0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0]
ALPHA = [0.0, -PI / 2, PI / 2, PI / 2, -PI / 2, PI / 2, PI / 2]
FLANGE, HAND_YAW, TOOL = 0.107, -PI / 4, 0.1034


def rot_x(angle: np.ndarray) -> np.ndarray:
    c, s, o, i = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    rows = [[i, o, o, o], [o, c, -s, o], [o, s, c, o], [o, o, o, i]]
    return np.moveaxis(np.array(rows), [0, 1], [-2, -1])


def rot_z(angle: np.ndarray) -> np.ndarray:
    c, s, o, i = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    rows = [[c, -s, o, o], [s, c, o, o], [o, o, i, o], [o, o, o, i]]
    return np.moveaxis(np.array(rows), [0, 1], [-2, -1])


def translation(x: float, z: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[[0, 2], 3] = x, z
    return matrix


def frames(q: np.ndarray) -> np.ndarray:
    """Poses of links 1 to 7, the hand and the tool for joint angles `(n, 7)`: `(n, 9, 4, 4)`."""
    pose = np.broadcast_to(np.eye(4), (len(q), 4, 4))
    chain = []
    for i in range(7):
        alpha = np.asarray(ALPHA[i])
        pose = pose @ rot_x(alpha) @ translation(A[i], 0) @ rot_z(q[:, i]) @ translation(0, D[i])
        chain.append(pose)
    hand = pose @ translation(0, FLANGE) @ rot_z(np.asarray(HAND_YAW))
    return np.stack([*chain, hand, hand @ translation(0, TOOL)], axis=1)


def jacobian(poses: np.ndarray) -> np.ndarray:
    """The tool's geometric Jacobian, `(n, 6, 7)`, from `frames`: dp = z × (p - o) dq, dw = z dq."""
    axis, origin, tool = poses[:, :7, :3, 2], poses[:, :7, :3, 3], poses[:, 8, :3, 3]
    linear = np.cross(axis, tool[:, None] - origin)
    return np.concatenate([linear, axis], axis=2).swapaxes(1, 2)


def ik_step(q: np.ndarray, position: np.ndarray, rotation: np.ndarray, damping: float = 0.02) -> np.ndarray:
    """One damped-least-squares step towards a tool pose: Δq = Jᵀ (J Jᵀ + λ² I)⁻¹ e, `(n, 7)`."""
    poses = frames(q)
    now = poses[:, 8, :3, :3]
    turn = 0.5 * np.cross(now, rotation, axis=1).sum(2)
    error = np.concatenate([position - poses[:, 8, :3, 3], turn], axis=1)
    jac = jacobian(poses)
    gram = jac @ jac.swapaxes(1, 2) + damping**2 * np.eye(6)
    return (jac.swapaxes(1, 2) @ np.linalg.solve(gram, error[:, :, None]))[:, :, 0]
