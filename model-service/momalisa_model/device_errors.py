"""What errors of the libraries that compute say about a device: too little memory, or lost. Independent of models."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from momalisa_model.problems import Problem, UnsuitableModel

# Messages where libraries have no exception type: torch's CPU allocator, Apple's, oneDNN, cuBLAS and cuDNN, OpenCV,
# ONNX Runtime.
OUT_OF_MEMORY_MESSAGES = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "could not create a memory object",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Unable to find a valid cuDNN algorithm",
    "Insufficient memory",
    "Failed to allocate memory",
)
# How errors of CUDA and of its libraries begin, where torch has no exception type of its own.
CUDA_MESSAGES = ("CUDA error", "cuDNN error")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library says that the device has too little memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(message in str(error) for message in OUT_OF_MEMORY_MESSAGES)


def is_lost(error: BaseException) -> bool:
    """Whether no later call can succeed, so that a self-test would only tell it later: CUDA's errors stay."""
    return not ran_out_of_memory(error) and isinstance(error, torch.AcceleratorError)


def is_fault_of_device(error: Exception) -> bool:
    """Whether loading failed because of the device, so that only a new process can succeed.

    A lack of memory does not count: the next process would have no more. While shards are rendered, a self-test decides
    about errors that CUDA's libraries report; here, nothing has worked before.
    """
    return any(
        is_lost(one) or (str(one).startswith(CUDA_MESSAGES) and not ran_out_of_memory(one))
        for one in with_causes(error)
    )


def with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, and so on."""
    while error:
        yield error
        error = error.__cause__


@contextmanager
def explained(model: str, too_large: str, remedy: str) -> Iterator[None]:
    """Raises UnsuitableModel for an error of the block: a wrong configuration makes the libraries raise any type.

    too_large: what the device has too little memory for, if it has. remedy: what to set then.
    """
    try:
        yield
    except Problem:
        raise
    except Exception as error:
        reason = (
            f"the device has too little memory for {too_large}. Set {remedy}"
            if ran_out_of_memory(error)
            else "its first pictures failed, and the replica's log has the details. A field in the config.json of one "
            "of its parts may be wrong or missing"
        )
        raise UnsuitableModel(f"{model} was loaded, but {reason}.") from error


def free_memory() -> None:
    """Return memory that no tensor uses any more to the device."""
    gc.collect()
    # On a device that has failed, this raises the same error again.
    with suppress(torch.AcceleratorError):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()
