"""The module that `nnUNet_extTrainer` leads nnU-Net to.

nnU-Net imports every module of the folder and asks `hasattr(module, trainer_name)`; this one forwards the
question to `nnunet_xmodal.trainers`, whose classes live in an importable package and therefore pickle.
"""


def __getattr__(name: str) -> type:
    from nnunet_xmodal import trainers

    return getattr(trainers, name)
