"""The example of how-to/python.md runs: its names exist, its requests are valid, its functions get them."""

import re
from pathlib import Path
from types import SimpleNamespace

from nnunet_xmodal import planning, predict
from nnunet_xmodal.comparison import run as comparison
from nnunet_xmodal.crossval import run as crossval
from nnunet_xmodal.preparation import run as preparation

PAGE = Path(__file__).parents[1] / "documentation" / "how-to" / "python.md"


def test_the_page_calls_every_function_with_its_request(monkeypatch, capsys):
    requests = []
    for module, name, returned in (
        (preparation, "prepare", 2),
        (planning, "plan_and_preprocess", None),
        (crossval, "crossval", 0),
        (predict, "predict", None),
        (comparison, "compare", SimpleNamespace(summary="the summary")),
    ):
        monkeypatch.setattr(module, name, lambda request, returned=returned: requests.append(request) or returned)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    exec(compile(blocks[0], str(PAGE), "exec"), {"__name__": "__main__"})
    names = ["PreparationRequest", "PlanRequest", "CrossvalRequest", "PredictionRequest", "ComparisonRequest"]
    assert list(dict.fromkeys(type(request).__name__ for request in requests)) == names
    assert capsys.readouterr().out == "2 cases were left out, prepare.csv says why\nthe summary\n"
    assert re.findall(r"\| `[\w.]+\.(\w+Request)` \|", PAGE.read_text(encoding="utf-8")) == names
