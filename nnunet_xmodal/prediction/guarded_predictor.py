"""nnU-Net's predictor, which believes nothing that a model folder says until it is checked."""

from collections.abc import Sequence
from pathlib import Path

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.files.model_files import check_model
from nnunet_xmodal.files.trusted_checkpoints import only_weights


class GuardedPredictor(nnUNetPredictor):
    """The base of all predictors here: neither a checkpoint nor plans of a model run code of whoever made them."""

    def initialize_from_trained_model_folder(
        self,
        model_training_output_dir: str,
        use_folds: Sequence[int | str] | int | str | None,
        checkpoint_name: str = "checkpoint_final.pth",
    ) -> None:
        """Load a model as nnU-Net does.

        Raises:
            XModalError: before anything is built, for files that are missing, cut or not trusted, see `--trust`.
        """
        if use_folds is None:
            use_folds = nnUNetPredictor.auto_detect_available_folds(model_training_output_dir, checkpoint_name)
        folds = [use_folds] if isinstance(use_folds, (int, str)) else list(use_folds)
        check_model(Path(model_training_output_dir), folds, checkpoint_name)
        with only_weights():
            super().initialize_from_trained_model_folder(model_training_output_dir, folds, checkpoint_name)
