"""Installed as a wheel and editable, beside a wheel-installed and beside an editable nnunetv2."""

import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import nnunetv2
import pytest
from container_files import ROOT, copied

pytestmark = pytest.mark.slow

LOOKS_RIGHT = """
import importlib.util, pickle
from pathlib import Path
import nnunetv2
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunet_xmodal import discovery
discovery.register()
import nnunet_xmodal.trainers, nnunet_xmodal.planners
for name in ("nnUNetTrainerCSAD", "nnUNetTrainerCSAD_3epochs", "nnUNetTrainer_3epochs_4its"):
    trainer = recursive_find_trainer_class_by_name(name)
    assert pickle.loads(pickle.dumps(trainer)) is trainer, name
for name in ("trainers", "planners"):
    assert importlib.util.find_spec(name) is None, name
assert Path(discovery.PLUGIN_FOLDER, "nnunet_xmodal_shim.py").is_file()
print("nnunetv2", nnunetv2.__file__)
print("trainers", nnunet_xmodal.trainers.__file__)
"""


def run(*command, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """What Apptainer's image is made from; a copy, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("sources") / "nnunet-xmodal"
    for name in copied():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, sources, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def editable_nnunet(tmp_path_factory) -> Path:
    """nnunetv2 as a source folder, made from the installed one."""
    folder = tmp_path_factory.mktemp("nnunet")
    package = Path(nnunetv2.__path__[0])
    shutil.copytree(package, folder / "nnunetv2", ignore=shutil.ignore_patterns("__pycache__"))
    version = distribution("nnunetv2").version
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "nnunetv2"\nversion = "{version}"\n'
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
        '[tool.setuptools.packages.find]\ninclude = ["nnunetv2*"]\n'
    )
    return folder


def installed_in() -> list[Path]:
    """Folders of `sys.path` with distributions: a virtual environment's own, and others that it sees."""
    return [folder for folder in map(Path, sys.path) if folder.is_dir() and any(folder.glob("*.dist-info"))]


def fresh_environment(folder: Path) -> Path:
    """A virtual environment that sees everything installed here but this package; torch is not installed anew."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    links = folder / "linked"
    links.mkdir()
    for here in installed_in():
        for entry in here.iterdir():
            # not this package, in whatever way it is installed here
            if "nnunet_xmodal" not in entry.name and entry.suffix != ".pth" and not (links / entry.name).exists():
                (links / entry.name).symlink_to(entry)
    (site / "linked.pth").write_text(str(links))
    return python


@pytest.mark.parametrize("nnunet", ["wheel", "editable"])
@pytest.mark.parametrize("ours", ["wheel", "editable"])
def test_installed(ours, nnunet, sources, wheel, editable_nnunet, tmp_path):
    python = fresh_environment(tmp_path / "venv")
    install = (python, "-m", "pip", "install", "--no-deps", "--no-build-isolation")
    if nnunet == "editable":
        for entry in (tmp_path / "venv" / "linked").glob("nnunetv2*"):
            entry.unlink()
        run(*install, "-e", editable_nnunet, cwd=tmp_path)
    run(*install, *(["-e", sources] if ours == "editable" else [wheel]), cwd=tmp_path)
    output = run(python, "-c", LOOKS_RIGHT, cwd=tmp_path)
    assert (str(editable_nnunet) in output) == (nnunet == "editable")
    assert (str(sources / "trainers") in output) == (ours == "editable")


def test_a_checkout_is_importable(sources, tmp_path):
    python = fresh_environment(tmp_path / "venv")
    for_nnunet, of_top_level = LOOKS_RIGHT.split('for name in ("trainers", "planners")')
    output = run(
        python,
        "-c",
        for_nnunet + "print(nnunet_xmodal.trainers.__name__, nnunet_xmodal.planners.__file__)",
        cwd=sources,
    )
    assert output.splitlines()[-1].split() == ["nnunet_xmodal.trainers", str(sources / "planners" / "__init__.py")]
    assert "usage: " in run(python, "-m", "nnunet_xmodal.commands.predict", "--help", cwd=sources)
