"""What the machine refuses (a full disk, a folder that must not be written, memory), in one sentence each."""

import errno

_OF_THE_DISK = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "EFBIG", "ENAMETOOLONG", "EMFILE", "ENFILE")
    + ("EEXIST", "ENOTDIR", "EISDIR", "ESTALE", "ENOTEMPTY")
    if hasattr(errno, name)
}
_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DEAD_WORKERS = (  # as nnU-Net 2.8 words it in RuntimeErrors
    "Background workers died",
    "Some background worker",
    "Segmentation export worker died",
    "One or more background workers are no longer alive",
)
_DISK_OF_LIBRARIES = (  # blosc2's and torch's words where a file cannot be written, in RuntimeErrors, too
    "Error while creating the NDArray",
    "PytorchStreamWriter failed",
    "unexpected pos",
)
_CUT_OFF = "blosc2_schunk_open"  # blosc2's word for a file that it cannot read
_FEWER = "take fewer processes (-np, -npfp, nnUNet_def_n_proc, nnUNet_n_proc_DA)"
_BOUNDED = "predict with --max_memory GB, which is one process (-npp 0 -nps 0) with results on the disk"
_OFF_THE_GPU = "predict with --not_on_device, which keeps results off the GPU"


def sentence_of(error: BaseException) -> str | None:
    """Return what a user can do about an error that is not the program's fault; None for all others."""
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        return _of_the_disk(error)
    if isinstance(error, MemoryError) or _is_torch_memory(error):
        reason = str(error).strip().splitlines()
        shown = f" ({reason[0].rstrip('.')})" if reason else ""
        if _is_of_the_gpu(error):
            return (
                f"the GPU's memory does not suffice{shown}: {_OFF_THE_GPU}; train with smaller patches or batches "
                "(-gpu_memory_target), or see who else is on that GPU."
            )
        return (
            f"the memory does not suffice{shown}: {_BOUNDED}; {_FEWER}, smaller images, or a machine with more of it."
        )
    if isinstance(error, RecursionError):
        return "a file nests lists or objects too deeply to be read: look at the JSON files that were given."
    if is_of_dead_workers(error):
        return (
            f"a worker process ended too early; unless it has said why, the memory was full: {_BOUNDED}; for all else "
            f"{_FEWER}."
        )
    if isinstance(error, RuntimeError) and "/torch_" in str(error):  # what processes hand over to each other
        return (
            f"the shared memory is full ({str(error).strip().splitlines()[0]}): give a container more of it "
            "(docker run --shm-size), or let one process do it all (-npp 0 -nps 0, nnUNet_n_proc_DA=0)."
        )
    if isinstance(error, RuntimeError) and str(error).startswith(_CUT_OFF):
        told = str(error).strip().splitlines()[0]
        if "predicted_next_stage" in told:
            return f"a prediction of a cascade's first stage is cut off or damaged ({told}): validate it again, --val."
        return f"a preprocessed file is cut off or damaged ({told}): preprocess again."
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _DISK_OF_LIBRARIES):
        return f"a file cannot be written whole ({str(error).strip().splitlines()[0]}): is there room on that disk?"
    return None


def is_of_dead_workers(error: BaseException) -> bool:
    """Return whether nnU-Net tells with an error that a process is gone, but not why."""
    return isinstance(error, RuntimeError) and str(error).startswith(_DEAD_WORKERS)


def _of_the_disk(error: OSError) -> str:
    file = error.filename2 or error.filename
    what = f"{file} cannot be read or written" if file else "a file cannot be written"
    if error.errno in _SPACE:
        return f"{what} ({error.strerror}): make room on that disk, and give the same command again."
    return f"{what} ({error.strerror or error}): see to its permissions, or name another place."


def _is_torch_memory(error: BaseException) -> bool:
    """Whether torch ran out of the memory of a GPU, or (a plain RuntimeError) of the computer."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _is_of_the_gpu(error: BaseException) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in str(error)
