"""A cart on a rail with a pole: 1 kg each, as in Isaac Lab's cartpole."""

from __future__ import annotations

import mujoco

CART_JOINT, POLE_JOINT = "slider_to_cart", "cart_to_pole"
POLE_LENGTH = 1.0  # m
RAIL = 3.0  # m, half of the length that is drawn
MAX_FORCE = 400.0  # N
CART_DAMPING = 10.0  # N s/m


def add_cartpole(spec: mujoco.MjSpec, *, looks: bool = True) -> None:
    """Add the cart, the pole upright at angle 0, and the motor that pushes the cart (N); nothing collides."""
    cart = spec.worldbody.add_body(name="cart", pos=(0.0, 0.0, 2.0))
    cart.mass, cart.inertia, cart.explicitinertial = 1.0, (0.01, 0.01, 0.01), True
    cart.add_joint(
        name=CART_JOINT, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(1, 0, 0), damping=(CART_DAMPING, 0.0, 0.0)
    )
    pole = cart.add_body(name="pole", pos=(0.0, -0.12, 0.0))
    # a thin rod: m l² / 12 about its middle
    pole.mass, pole.ipos, pole.explicitinertial = 1.0, (0.0, 0.0, POLE_LENGTH / 2), True
    pole.inertia = (POLE_LENGTH**2 / 12, POLE_LENGTH**2 / 12, 1e-3)
    pole.add_joint(name=POLE_JOINT, axis=(0, 1, 0))
    motor = spec.add_actuator(name="cart", target=CART_JOINT, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    motor.set_to_motor()
    motor.ctrllimited = True
    motor.ctrlrange = (-MAX_FORCE, MAX_FORCE)
    if looks:
        _add_looks(spec.worldbody, cart, pole)


def _add_looks(world: mujoco.MjsBody, cart: mujoco.MjsBody, pole: mujoco.MjsBody) -> None:
    capsule, box = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_BOX
    seen = {"contype": 0, "conaffinity": 0, "group": 2}
    rail, rod = (-RAIL - 0.2, 0.0, 2.0, RAIL + 0.2, 0.0, 2.0), (0.0, 0.0, 0.0, 0.0, 0.0, POLE_LENGTH)
    world.add_geom(type=capsule, fromto=rail, size=(0.03, 0, 0), rgba=(0.35, 0.37, 0.4, 1), **seen)
    cart.add_geom(type=box, size=(0.14, 0.1, 0.1), rgba=(0.20, 0.35, 0.55, 1), **seen)
    pole.add_geom(type=capsule, fromto=rod, size=(0.03, 0, 0), rgba=(0.9, 0.5, 0.15, 1), **seen)
