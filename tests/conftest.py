"""What every test gets; what needs torch lies in helpers/tiny_models.py."""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from windows import WindowsOs

# before torch is imported, and for every command that a test starts: test files run side by side
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure(config: pytest.Config) -> None:
    """Load what tests need, where tests run: who hands them out spares five seconds of imports."""
    # the background of a shell ignores Ctrl-C, and commands that tests start would, too
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("dist") == "no" or config.getoption("collectonly"):
        _judge_no_speed()
        config.pluginmanager.import_plugin("tiny_models")
        config.pluginmanager.import_plugin("pretended_gpu")


def _judge_no_speed() -> None:
    """Let hypothesis make the same examples every time, however long a busy machine takes for them."""
    import hypothesis

    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("tests", derandomize=True, deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """What was imported and collected stays until the end: the garbage collector need not look at it time and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def handlers_of_signals():
    """What a test, or what it calls in this process, does on a signal is not done in the next one."""
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in signals}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler and handler is not None:
            signal.signal(number, handler)


@pytest.fixture
def on_windows(monkeypatch):
    """`(*modules)` → each takes itself to be on Windows, as far as it asks `os`."""

    def tell(*modules) -> None:
        for module in modules:
            monkeypatch.setattr(module, "os", WindowsOs())

    return tell


@pytest.fixture
def drawn() -> None:
    """Asked for by a test whose figures are drawn; elsewhere `undrawn` of some folders puts a pixel in their place."""


@contextmanager
def _full_disk(left: int = 0) -> Iterator[None]:
    """Let every write behind the first `left` bytes of a file fail, as on a full disk, for root as well.

    The system then sends SIGXFSZ, which Python ignores, and the write fails with EFBIG.
    """
    resource = pytest.importorskip("resource", reason="Windows has no limits for files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def full_disk():
    return _full_disk
