"""The Dockerfile and Apptainer's definition make the same container."""

import shlex

import pytest
from container_files import ROOT, copied, definition, dockerfile


def words(assignments: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(assignments))


def test_they_begin_with_the_same_image_and_index_of_torch():
    assert definition()["Bootstrap"] == ["docker"] and definition()["From"] == dockerfile()["FROM"]
    assert definition()["arguments"] == dockerfile()["ARG"]


def test_they_run_the_same_commands():
    """Packages, pip, the entry script, folders; Apptainer's containers run as whoever starts them."""
    theirs = [command.replace("{{ TORCH }}", "$TORCH") for command in definition()["post"]]
    theirs.remove("export PATH=/opt/venv/bin:$PATH")  # which ENV does for RUN
    ours = [command for command in dockerfile()["RUN"] if command.split()[0] not in ("useradd", "chown")]
    assert theirs == ours and len(ours) == 8


def test_they_set_the_same_variables():
    (environment,) = definition()["environment"]
    assert words(environment.removeprefix("export ")) == words(" ".join(dockerfile()["ENV"]))


def test_they_run_the_same_command_by_default():
    (command,) = dockerfile()["CMD"]
    assert f"set -- {command.strip('[]').replace(chr(34), '')};" in definition()["runscript"][0]


@pytest.mark.parametrize("path", copied())
def test_what_apptainer_copies_is_there_and_ends_where_docker_copies_it(path):
    assert dockerfile()["COPY"] == [". /opt/nnunet-xmodal"]
    assert (ROOT / path).exists() and copied()[path] == f"/opt/nnunet-xmodal/{path}"


def test_apptainer_copies_no_folder_of_the_whole_checkout():
    assert not {".", "*", ".git", "shared", "tests"} & set(copied())
