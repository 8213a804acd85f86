"""The figures of a report: per label the scores of the main metrics, their differences, and reliability diagrams."""

from collections.abc import Iterator

from nnunet_xmodal.comparison.report import plots
from nnunet_xmodal.comparison.report.contents import ReportContents
from nnunet_xmodal.comparison.report.reliability_plot import reliability_plot


def figures_of(contents: ReportContents) -> Iterator[tuple[str, str, bytes]]:
    """Yield label, title and PNG of every figure that there is something to draw for."""
    pairs = contents.statistics[contents.statistics["test"] == "wilcoxon"]
    for label in contents.labels:
        of_label = contents.cases[contents.cases["label"] == label]
        for metric in contents.main_metrics:
            png = plots.score_plot(of_label, metric, contents.models)
            if png:
                yield label, f"{metric.name} of every case", png
        for metric in contents.main_metrics:
            of_metric = pairs[(pairs["label"] == label) & (pairs["metric"] == metric.name)]
            png = plots.difference_plot(of_label, metric, of_metric)
            if png:
                yield label, f"{metric.name}, paired differences", png
        if contents.reliability is not None:
            bins = contents.reliability[contents.reliability["label"] == label]
            png = reliability_plot(bins, contents.models)
            if png:
                yield label, "reliability: below the diagonal the model is too sure", png
