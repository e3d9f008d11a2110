"""Batched tensor arithmetic without state: moments of data, and quaternions.

A quaternion is (..., 4) in the order w, x, y, z, of unit length; it rotates vectors from the body's
frame into the world's. Every function broadcasts over the leading dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """A vector of these numbers with the type and on the device of `like`: made once, not at every call."""
    return _constant(tuple(values), like.dtype, like.device)


@cache  # for good: a CUDA graph knows where it is
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations of a set of samples."""

    n: Tensor  # ()
    mean: Tensor  # (d,)
    m2: Tensor  # (d,)

    @property
    def var(self) -> Tensor:
        """Population variance (d,)."""
        return self.m2 / self.n


def batch_moments(x: Tensor) -> Moments:
    """Moments over the first dimension of `x` (n, d), in float64; zeros where n is 0."""
    if not len(x):
        zeros = torch.zeros(1 + 2 * x.shape[1], dtype=torch.float64, device=x.device)
        return Moments(zeros[0], *zeros[1:].chunk(2))
    var, mean = torch.var_mean(x, dim=0, correction=0)
    n = torch.full((), float(x.shape[0]), dtype=torch.float64, device=x.device)
    return Moments(n, mean.double(), var.double() * x.shape[0])


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two sets (Chan, Golub, LeVeque 1979, eq. 2.1)."""
    n = a.n + b.n
    share = b.n / n
    delta = b.mean - a.mean
    return Moments(n, a.mean + delta * share, a.m2 + b.m2 + delta.square() * a.n * share)


def planar_norm(v: Tensor) -> Tensor:
    """Length of vectors (..., 2), with the same bits in any number of rows, which `norm` has not."""
    x, y = v.unbind(-1)
    return torch.sqrt(x * x + y * y)


def quat_mul(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product a ⊗ b: the rotation b followed by the rotation a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        dim=-1,
    )


def quat_conjugate(q: Tensor) -> Tensor:
    """Inverse of a unit quaternion."""
    return torch.cat((q[..., :1], -q[..., 1:]), dim=-1)


def quat_rotate(q: Tensor, v: Tensor) -> Tensor:
    """Rotate the vectors `v` (..., 3) from the body's frame into the world's.

    v' = v + 2 w (u × v) + 2 u × (u × v), with q = (w, u).
    """
    u = q[..., 1:].expand(*v.shape[:-1], 3)
    t = 2.0 * torch.linalg.cross(u, v.expand_as(u))
    return v + q[..., :1] * t + torch.linalg.cross(u, t)


def quat_rotate_inverse(q: Tensor, v: Tensor) -> Tensor:
    """Rotate the vectors `v` (..., 3) from the world's frame into the body's."""
    return quat_rotate(quat_conjugate(q), v)


def quat_to_axis_angle(q: Tensor) -> Tensor:
    """Rotation vector (..., 3): axis times angle in [0, π] rad; q and -q give the same."""
    q = torch.where(q[..., :1] < 0, -q, q)
    sin_half = q[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2.0 * torch.atan2(sin_half, q[..., :1])
    # angle / sin(angle/2) → 2 as the angle goes to zero
    scale = torch.where(sin_half > 1e-7, angle / sin_half.clamp_min(1e-7), 2.0)
    return q[..., 1:] * scale


def quat_from_axis_angle(rotation: Tensor) -> Tensor:
    """Quaternion of a rotation vector (..., 3) in rad."""
    angle = rotation.norm(dim=-1, keepdim=True)
    # sin(angle/2) / angle, which is 1/2 at zero
    scale = 0.5 * torch.sinc(angle / (2.0 * torch.pi))
    return torch.cat((torch.cos(0.5 * angle), rotation * scale), dim=-1)


def quat_error(target: Tensor, current: Tensor) -> Tensor:
    """Rotation vector (..., 3) in the world's frame that takes `current` to `target`."""
    return quat_to_axis_angle(quat_mul(target, quat_conjugate(current)))


def quat_from_yaw(yaw: Tensor) -> Tensor:
    """Quaternion (..., 4) of a turn about the world's z axis; `yaw` (...) in rad."""
    zero = torch.zeros_like(yaw)
    return torch.stack((torch.cos(0.5 * yaw), zero, zero, torch.sin(0.5 * yaw)), dim=-1)


def quat_yaw(q: Tensor) -> Tensor:
    """Heading of the body's x axis about the world's z axis (...), in (-π, π] rad."""
    w, x, y, z = q.unbind(-1)
    return torch.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def quat_to_matrix(q: Tensor) -> Tensor:
    """Rotation matrix (..., 3, 3) of a unit quaternion: the body's axes as columns, in the world's frame."""
    w, x, y, z = q.unbind(-1)
    rows = (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
        (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
