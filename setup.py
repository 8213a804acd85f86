"""Where the packages lie; all other metadata is in `pyproject.toml`.

`trainers/` and `planners/` lie beside the package in the repository, where people look for them, and become
`nnunet_xmodal.trainers` and `nnunet_xmodal.planners` when installed.
"""

from setuptools import find_packages, setup

BESIDE = ("trainers", "planners")

setup(
    packages=[
        *find_packages(include=["nnunet_xmodal", "nnunet_xmodal.*"]),
        "nnunet_xmodal.plugin",  # a folder that nnU-Net searches, no package of its own
        "nnunet_xmodal.preparation.recipes",  # JSON files alone
        *(f"nnunet_xmodal.{name}" for folder in BESIDE for name in (folder, *find_packages(include=[f"{folder}.*"]))),
    ],
    package_dir={f"nnunet_xmodal.{folder}": folder for folder in BESIDE},
)
