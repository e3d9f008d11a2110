"""Kernels compiled side by side before the first step: one after another they take minutes, once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import warp as wp

from rl_platform.threads import available_threads

# Modules of kernels, and the threads in a block that they are compiled for.
Wanted = dict[tuple[Any, int], None]


def load(device: wp.Device, *launches: Callable[[], None]) -> None:
    """Load the kernels that `launches` launch, none of which is launched now; those that lack are compiled.

    What cannot be found out this way is loaded at its first launch, as it would have been.
    """
    with rehearsal() as wanted, suppress(Exception):
        for launch in launches:
            launch()
    kind = f"*.sm{device.get_cuda_compile_arch()}*" if device.is_cuda else "*.o"
    folders = [Path(wp.config.kernel_cache_dir or "", m.get_module_identifier(size)) for m, size in wanted]
    if lacking := [folder for folder in folders if next(folder.glob(kind), None) is None]:
        told = f"MuJoCo Warp compiles kernels ({len(lacking)} of {len(folders)} files), the first time only …"
        print(told, file=sys.stderr, flush=True)
    threads = available_threads(None)
    for block_dim in {size: None for _, size in wanted}:
        modules = [module for module, size in wanted if size == block_dim]
        wp.force_load(device, modules=modules, block_dim=block_dim, max_workers=threads)


@contextmanager
def rehearsal() -> Iterator[Wanted]:
    """Let launches in the `with` block do nothing but say which modules they want."""
    wanted: Wanted = {}

    def want(module: Any, device: Any, block_dim: int, *_: Any) -> None:
        wanted[module, block_dim] = None  # and nothing is loaded, so that nothing is launched

    def once(condition: Any, while_body: Callable[..., None], **given: Any) -> None:
        while_body(**given)  # nobody would ever make the condition false

    replaced: list[tuple[Any, str, Any]] = [
        (wp.Module, "load", want),
        (wp, "capture_while", once),
        (wp, "get_suggested_block_size", lambda kernel, device: (256, 1)),
    ]
    own = [(holder, name, getattr(holder, name)) for holder, name, _ in replaced]
    try:
        for holder, name, value in replaced:
            setattr(holder, name, value)
        yield wanted
    finally:
        for holder, name, value in own:
            setattr(holder, name, value)
