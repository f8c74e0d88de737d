"""Copies between the memory of a host and of a GPU, during computation: pinned memory, a stream for each direction."""

from collections.abc import Callable
from typing import Any

import torch

from runner.data.tensors import map_tensors


class Transfer:
    """Transfer to a model on the CPU: nothing is copied.

    Attributes:
        num_behind: number of batches that may be computing while the results of an earlier one are fetched.
    """

    num_behind = 0

    def stage(self, inputs: Any) -> Any:
        """Start to copy a batch to the device; may be called in another thread than `take`."""
        return inputs

    def take(self, staged: Any) -> Any:
        """Return the batch on the device, for computations that are started after this call."""
        return staged

    def fetch(self, output: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Start to copy predictions to the host; return a function that waits for them and returns them."""
        return lambda: output


class CudaTransfer(Transfer):
    """Transfer to and from a GPU, in which copies overlap with the computation of other batches.

    PyTorch's allocators keep memory safe: pinned memory is reused only after the copies that were started from it, a
    tensor on the GPU only after the work on the streams it was recorded for.

    Args:
        device: the GPU.
    """

    num_behind = 1

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._to_device = torch.cuda.Stream(device)
        self._to_host = torch.cuda.Stream(device)

    def stage(self, inputs: Any) -> Any:
        with torch.cuda.stream(self._to_device):
            staged = map_tensors(inputs, self._copy_in)
            return staged, self._to_device.record_event()

    def take(self, staged: Any) -> Any:
        inputs, copied = staged
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(copied)

        def record(tensor: torch.Tensor) -> torch.Tensor:
            tensor.record_stream(computing)
            return tensor

        return map_tensors(inputs, record)

    def fetch(self, output: torch.Tensor) -> Callable[[], torch.Tensor]:
        if not output.is_cuda:
            return lambda: output
        self._to_host.wait_event(torch.cuda.current_stream(self._device).record_event())
        arrived = torch.cuda.Event(blocking=True)  # a thread that waits for it sleeps
        with torch.cuda.stream(self._to_host):
            on_host = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
            on_host.copy_(output, non_blocking=True)
            output.record_stream(self._to_host)
            arrived.record(self._to_host)

        def wait() -> torch.Tensor:
            arrived.synchronize()
            return on_host

        return wait

    def _copy_in(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_cuda:  # put there by the user's preprocessing, on the default stream, with which all threads begin
            return tensor
        if tensor.requires_grad and not tensor.is_leaf:  # the model may differentiate through its computation
            return tensor.to(self._device)
        copied = tensor.detach().pin_memory().to(self._device, non_blocking=True)
        return copied.requires_grad_() if tensor.requires_grad else copied


def make_transfer(device: torch.device) -> Transfer:
    """Return the transfer for a device."""
    return CudaTransfer(device) if device.type == "cuda" else Transfer()
