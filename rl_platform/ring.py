"""Sums over the ranks of one machine, each computed by the thread that asks for it.

gloo's are made by threads of its own, which wake up on processors that are busy: that takes milliseconds, the
sum itself a fifth of one (docs/log.md, 2026-11-26).
"""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_TRIES = 100  # some 0.2 ms: ranks arrive nearly together, and waking up takes a fifth of that


class Ring:
    """The connections of a rank to the next one and the one before it.

    Two ranks exchange everything at once. More make sums in pieces that go round: first each piece is added
    up on its way through all ranks, then the whole ones go round (Patarasuk, Yuan 2009). All ranks get the
    same bits.
    """

    def __init__(self, store: dist.Store, rank: int, size: int) -> None:
        """Meet the neighbours, all on this machine, through what the ranks share.

        Raises:
            OSError: a neighbour is gone.
        """
        self._rank, self._size = rank, size
        with socket.create_server(("127.0.0.1", 0)) as server:
            store.set(f"ring/{rank}", str(server.getsockname()[1]))
            port = int(store.get(f"ring/{(rank + 1) % size}"))
            self._next = socket.create_connection(("127.0.0.1", port))
            self._before, _ = server.accept()
            store.delete_key(f"ring/{rank}")  # read by the one before; the next ring has another port
        for connection in (self._next, self._before):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)

    def close(self) -> None:
        """Let go of the neighbours."""
        self._next.close()
        self._before.close()

    def sum_(self, x: Tensor) -> None:
        """Replace `x`, contiguous and on the CPU, by its sum over the ranks.

        Raises:
            OSError: a rank is gone.
        """
        rank, size = self._rank, self._size
        if size == 2:  # as many bytes as in pieces, and one wait instead of two
            theirs = torch.empty_like(x)
            self._pass_on(x.view(-1), theirs.view(-1))
            x.add_(theirs)
            return
        pieces = list(x.view(-1).tensor_split(size))
        for step in range(size - 1):
            mine = pieces[(rank - step - 1) % size]
            coming = mine.new_empty(mine.shape)
            self._pass_on(pieces[(rank - step) % size], coming)
            mine.add_(coming)
        for step in range(size - 1):
            self._pass_on(pieces[(rank + 1 - step) % size], pieces[(rank - step) % size])

    def _pass_on(self, going: Tensor, coming: Tensor) -> None:
        """Send one piece to the next rank while the one before sends another."""
        out, into = _bytes(going), _bytes(coming)
        tries = 0
        while out or into:
            sent, received = 0, 0
            if out:
                with suppress(BlockingIOError):
                    sent = self._next.send(out)
                    out = out[sent:]
            if into:
                with suppress(BlockingIOError):
                    received = self._before.recv_into(into)
                    if received == 0:
                        raise ConnectionResetError("a rank closed its connection")
                    into = into[received:]
            tries = 0 if sent or received else tries + 1
            if tries > _TRIES:
                self._sleep(bool(out), bool(into))

    def _sleep(self, sending: bool, receiving: bool) -> None:
        """Until more can be sent or received."""
        ready = selectors.DefaultSelector()
        with ready:
            if sending:
                ready.register(self._next, selectors.EVENT_WRITE)
            if receiving:
                ready.register(self._before, selectors.EVENT_READ)
            ready.select()


def _bytes(x: Tensor) -> memoryview:
    """The memory of a tensor."""
    buffer: Any = x.numpy()
    return memoryview(buffer).cast("B") if x.numel() else memoryview(b"")
