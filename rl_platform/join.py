"""A process finds out whether it is one of several ranks, and does its part."""

from __future__ import annotations

from collections.abc import Callable

from rl_platform import place


def as_rank(lead: Callable[[], int]) -> int:
    """Do `lead` alone, or as rank 0 of several; as a rank above 0 train what rank 0 announces.

    Returns:
        The exit status.

    Raises:
        UserError: what the environment says of the ranks makes no sense; or whatever `lead` raises.
    """
    here = place.find()
    if here is None:
        return lead()
    place.settle(here)
    # from here on PyTorch: it takes the processors that it finds
    if here.rank > 0:
        from rl_platform.follow import follow

        return follow(here)
    from rl_platform import distributed

    with distributed.leading(here):
        return lead()
