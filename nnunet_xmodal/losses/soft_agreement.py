"""How far one prediction is from another (Hinton et al., Distilling the Knowledge in a Neural Network, 2015)."""

import torch
from torch.nn import functional as F


def divergence(teacher: torch.Tensor, student: torch.Tensor, regions: bool) -> torch.Tensor:
    """Return KL(teacher ‖ student), batch and position mean, in float32; the teacher learns nothing.

    Args:
        teacher, student: logits `(B, K, *spatial)`.
        regions: whether the classes are regions, which may overlap: sigmoid instead of softmax, mean over regions.
    """
    teacher, student = teacher.detach().float(), student.float()
    if not regions:
        return _kl(teacher.log_softmax(1), student.log_softmax(1)).sum(1).mean()
    inside = _kl(F.logsigmoid(teacher), F.logsigmoid(student))
    return (inside + _kl(F.logsigmoid(-teacher), F.logsigmoid(-student))).mean()


def _kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    return log_p.exp() * (log_p - log_q)
