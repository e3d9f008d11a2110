from __future__ import annotations

import math

import mujoco
import numpy as np
import torch
from torch import Tensor

from rl_platform import tensor_math as tm


def unit_quaternions(n: int, seed: int = 0) -> Tensor:
    q = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return q / q.norm(dim=-1, keepdim=True)


def vectors(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_mujoco(function: object, *arrays: Tensor, size: int) -> Tensor:
    """Apply one of MuJoCo's functions (result, *arguments) row by row."""
    rows = []
    for row in zip(*(x.numpy() for x in arrays), strict=True):
        result = np.zeros(size)
        function(result, *row)  # type: ignore[operator]
        rows.append(result)
    return torch.from_numpy(np.stack(rows))


def test_quaternion_product_and_rotation_agree_with_mujoco() -> None:
    a, b, v = unit_quaternions(20), unit_quaternions(20, 5), vectors(20)
    torch.testing.assert_close(tm.quat_mul(a, b), by_mujoco(mujoco.mju_mulQuat, a, b, size=4))
    torch.testing.assert_close(tm.quat_rotate(a, v), by_mujoco(mujoco.mju_rotVecQuat, v, a, size=3))


def test_rotation_matrices_agree_with_mujoco() -> None:
    q = unit_quaternions(20)
    expected = by_mujoco(mujoco.mju_quat2Mat, q, size=9).view(-1, 3, 3)
    torch.testing.assert_close(tm.quat_to_matrix(q), expected)


def test_length_in_the_plane() -> None:
    torch.testing.assert_close(
        tm.planar_norm(torch.tensor([[3.0, -4.0], [0.0, 0.0]])), torch.tensor([5.0, 0.0])
    )


def test_inverse_rotation_undoes_the_rotation() -> None:
    q, v = unit_quaternions(20), vectors(20)
    torch.testing.assert_close(tm.quat_rotate_inverse(q, tm.quat_rotate(q, v)), v)


def test_rotation_broadcasts_one_quaternion_over_many_vectors() -> None:
    q, v = unit_quaternions(3), vectors(6).view(2, 3, 3)
    one = torch.stack([tm.quat_rotate(q, x) for x in v])
    torch.testing.assert_close(tm.quat_rotate(q, v), one)
    torch.testing.assert_close(tm.quat_rotate(q[:1].expand(3, 4), v[0])[2], tm.quat_rotate(q[0], v[0, 2]))


def test_a_quarter_turn_about_z_takes_x_to_y() -> None:
    q = tm.quat_from_yaw(torch.tensor([math.pi / 2]))
    torch.testing.assert_close(
        tm.quat_rotate(q, torch.tensor([[1.0, 0.0, 0.0]])), torch.tensor([[0.0, 1.0, 0.0]])
    )


def test_axis_angle_there_and_back() -> None:
    rotation = vectors(50)
    rotation *= (torch.linspace(0, math.pi - 1e-3, 50) / rotation.norm(dim=-1)).unsqueeze(-1)
    torch.testing.assert_close(tm.quat_to_axis_angle(tm.quat_from_axis_angle(rotation)), rotation)


def test_axis_angle_takes_the_short_way_and_is_finite_at_rest() -> None:
    q = unit_quaternions(30)
    torch.testing.assert_close(tm.quat_to_axis_angle(q), tm.quat_to_axis_angle(-q))
    assert (tm.quat_to_axis_angle(q).norm(dim=-1) <= math.pi + 1e-12).all()
    rest = torch.tensor([[1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]])
    assert torch.equal(tm.quat_to_axis_angle(rest), torch.zeros(2, 3))


def test_error_rotates_the_current_onto_the_target() -> None:
    target, current = unit_quaternions(20), unit_quaternions(20, 5)
    turned = tm.quat_mul(tm.quat_from_axis_angle(tm.quat_error(target, current)), current)
    same_side = (turned * target).sum(-1, keepdim=True).sign()
    torch.testing.assert_close(turned * same_side, target)


def test_yaw_is_found_again_under_any_tilt_about_x() -> None:
    yaw = torch.linspace(-3.1, 3.1, 25, dtype=torch.float64)
    roll = tm.quat_from_axis_angle(torch.tensor([[0.4, 0.0, 0.0]], dtype=torch.float64).expand(25, 3))
    torch.testing.assert_close(tm.quat_yaw(tm.quat_mul(tm.quat_from_yaw(yaw), roll)), yaw)


def test_merged_moments_are_those_of_the_union() -> None:
    x = 5.0 + 3.0 * torch.randn(1000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = [tm.batch_moments(part) for part in (x[:1], x[1:300], x[300:])]
    merged = tm.merge_moments(tm.merge_moments(parts[0], parts[1]), parts[2])
    assert merged.n.item() == 1000
    torch.testing.assert_close(merged.mean, x.mean(0))
    torch.testing.assert_close(merged.var, x.var(0, correction=0))
