"""Metadata of nnunet-xmodal.

`trainers/` and `planners/` lie beside the package in the repository, where people look for them, and
become `nnunet_xmodal.trainers` and `nnunet_xmodal.planners` when installed: the packages are listed
one by one so that nothing ever appears as a top-level `trainers`.
"""

from pathlib import Path

from setuptools import setup

INSIDE = [
    "nnunet_xmodal",
    *(
        f"nnunet_xmodal.{name}"
        for name in (
            "commands",
            "comparison",
            "comparison.report",
            "crossval",
            "data",
            "demo",
            "evaluation",
            "files",
            "geometry",
            "losses",
            "networks",
            "networks.blocks",
            "physics",
            "plugin",
            "prediction",
            "preparation",
            "registration",
        )
    ),
]

setup(
    name="nnunet-xmodal",
    version="0.1.0",
    description="nnU-Net v2 for several imaging modalities at once: cross-modal attention, distillation and fusion",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*INSIDE, "nnunet_xmodal.trainers", "nnunet_xmodal.planners"],
    package_dir={
        "nnunet_xmodal": "nnunet_xmodal",
        "nnunet_xmodal.trainers": "trainers",
        "nnunet_xmodal.planners": "planners",
    },
    install_requires=[
        "torch>=2.4",
        "nnunetv2>=2.8.1,<3",
        "dynamic-network-architectures>=0.4.1,<0.5",
        "batchgenerators>=0.25.1",
        "batchgeneratorsv2>=0.3.0",
        "SimpleITK>=2.2.1",
        "nibabel>=2.3",
        "numpy>=1.24",
        "scipy>=1.15",
        "scikit-image",
        "scikit-learn",
        "pandas",
        "connected-components-3d",
        "matplotlib>=3.10",
        "Jinja2",
        "tqdm",
        "rich",
        "submitit",
    ],
    extras_require={
        "detection": ["picai_eval"],
        "dicom": ["highdicom>=0.28", "pydicom>=3"],
        "gradcam": ["captum>=0.9"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3",
            "captum>=0.9",
            "filelock",
            "highdicom>=0.28",
            "hypothesis",
            "monai",
            "picai_eval",
            "playwright",
            "pydicom>=3",
            "ruff",
            "setuptools>=64",
            "wheel",
        ],
    },
    package_data={
        "nnunet_xmodal.comparison.report": ["*.css", "*.j2", "*.js"],
        "nnunet_xmodal.preparation": ["recipes/*.json"],
    },
    entry_points={
        "console_scripts": [
            "nnUNetXModal_env = nnunet_xmodal.commands.env:main",
            "nnUNetXModal_paste = nnunet_xmodal.commands.paste:main",
            "nnUNetXModal_prepare = nnunet_xmodal.commands.prepare:main",
            "nnUNetXModal_plan_and_preprocess = nnunet_xmodal.commands.plan_and_preprocess:main",
            "nnUNetXModal_predict = nnunet_xmodal.commands.predict:main",
            "nnUNetXModal_crossval = nnunet_xmodal.commands.crossval:main",
            "nnUNetXModal_compare = nnunet_xmodal.commands.compare:main",
            "nnUNetXModal_demo = nnunet_xmodal.commands.demo:main",
        ]
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Intended Audience :: Science/Research",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
