"""`nnUNetXModal_trainers`: what there is to train and to plan with.

Lists this package's trainers and planners: what each does, its paper, its streams and dimensions, and what it needs.
Every trainer exists also as <trainer>_<N>epochs and <trainer>_<N>epochs_<M>its.
"""

import argparse

from nnunet_xmodal.catalogue.entry import TASKS, Entry
from nnunet_xmodal.catalogue.planners import PLANNERS
from nnunet_xmodal.catalogue.tables import as_markdown, as_text
from nnunet_xmodal.catalogue.trainers import TRAINERS
from nnunet_xmodal.commands.field_flags import description_of
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.errors import XModalError


def parser() -> argparse.ArgumentParser:
    """Build the parser: a task, words, and how to print."""
    p = argparse.ArgumentParser("nnUNetXModal_trainers", description=description_of(__doc__))
    p.add_argument(
        "words", nargs="*", metavar="WORD", help="only those that have every word in their lines, e.g. dropout 2d"
    )
    p.add_argument("--task", choices=TASKS, help="only those of this task")
    p.add_argument("--planners", action="store_true", help="planners in the place of trainers")
    p.add_argument("--markdown", action="store_true", help="as the table of the README")
    return p


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_trainers`."""
    args = parser().parse_args(arguments)
    print((as_markdown if args.markdown else as_text)(_chosen(args.words, args.task, args.planners)))


def _chosen(words: list[str], task: str | None, planners: bool) -> list[Entry]:
    entries = [entry for entry in (PLANNERS if planners else TRAINERS) if task is None or task in entry.task]
    found = [entry for entry in entries if entry.matches(words)]
    if not found:
        raise XModalError(
            f"nothing has {' and '.join(words)} in its lines: leave out a word, or --task, or "
            f"{'leave out --planners' if planners else 'look among --planners'}."
        )
    return found


if __name__ == "__main__":
    main()
