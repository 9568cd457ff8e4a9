"""CONCH's text tower and tokenizer, and the two ways in which a prompt is laid out for it.

Layout ``conch``, CONCH's own: 127 places hold beginning, words, end and padding; the class embedding follows at place
127. A place sees those before it; the class place sees all that are not padding, by CONCH's mask, which is shifted by
one place: it hides place j where the token at j - 1 is padding, so the first padding place is seen, and the class place
itself is not unless all 127 are taken. The text embedding is the class place's output.

    Shortcut, exact: places after the first padding one are seen by nobody that matters, so a batch is cut to its
    longest prompt plus one padding place, and the class place keeps the position embedding of place 127.

Layout ``released``, of the released code of DualProtoSeg: 77 places, no mask at all, no class embedding; the text
embedding is the output of place 76.

Context: learned vectors, some a class, that stand between the beginning and the words (Zhou et al., CoOp, 2022).
Their ids are ``VOCABULARY + slots * class + slot``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from open_clip.transformer import TextTransformer
from tokenizers import Tokenizer
from torch import Tensor, nn

from dualproto_wsi.errors import WeightsMismatch
from dualproto_wsi.model.conch_files import find_tokenizer, find_weights
from dualproto_wsi.model.encoder import hash_tensors
from dualproto_wsi.model.weights import check_weights, load_strictly, read_tensors

VOCABULARY = 32007
PAD, BEGIN, END = 0, 1, 2
PLACES = 127
RELEASED_PLACES = 77
WIDTH = 768
CONTEXT_SLOTS = 16
CONTEXT_WORDS = "a histopathology image of"

_NOISE = 0.02
_PREFIX = "text."
_SPECIAL = {"<pad>": PAD, "<start_of_text>": BEGIN, "<end_of_text>": END}


class ConchTokenizer:
    """CONCH's byte-level BPE, from the user's tokenizer file.

    Parameters
    ----------
    path : Path or None
        The file; None: see :func:`~dualproto_wsi.model.conch_files.find_tokenizer`.

    Raises
    ------
    ModelNotFound
        If there is none.
    WeightsMismatch
        If it is not CONCH's.
    """

    def __init__(self, path: Path | None = None) -> None:
        path = find_tokenizer(path)
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise WeightsMismatch(f"{path}: not a tokenizer file ({error}); give CONCH's tokenizer .json") from error
        found = {token: self._tokenizer.token_to_id(token) for token in _SPECIAL}
        size = self._tokenizer.get_vocab_size()
        if found != _SPECIAL or size > VOCABULARY:
            raise WeightsMismatch(
                f"{path}: not CONCH's tokenizer: {size} tokens with {found}; "
                f"CONCH's has at most {VOCABULARY} with {_SPECIAL}"
            )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text's words, without beginning and end."""
        return [e.ids for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def lay_out(words: Sequence[Sequence[int]], classes: Sequence[int] | None = None, slots: int = CONTEXT_SLOTS) -> Tensor:
    """Put prompts into places: beginning, context of the class, words, end, padding.

    Parameters
    ----------
    words : sequence of sequence of int
        Ids of each prompt's words.
    classes : sequence of int or None
        0-based class of each prompt; None: no context.
    slots : int
        Context vectors a class.

    Returns
    -------
    Tensor of int64, shape (P, 127)
        Words that find no place are dropped, from the last; the end stays.
    """
    ids = torch.full((len(words), PLACES), PAD)
    for row, tokens in enumerate(words):
        start = VOCABULARY + slots * classes[row] if classes is not None else 0
        context = list(range(start, start + slots)) if classes is not None else []
        line = [*[BEGIN, *context, *tokens][: PLACES - 1], END]
        ids[row, : len(line)] = torch.tensor(line)
    return ids


class ConchTextTower(nn.Module):
    """CONCH's text transformer; frozen, but gradients reach the context.

    Parameters
    ----------
    state : mapping of str to Tensor
        CONCH's state dict; keys outside ``text.`` are ignored.
    file : str
        What to call the weights in an error.

    Raises
    ------
    WeightsMismatch
        If keys or shapes differ from CONCH's.
    """

    dim = 512
    """Length of a text embedding."""

    def __init__(self, state: Mapping[str, Tensor], file: str = "weights") -> None:
        super().__init__()
        with torch.device("meta"):
            self.text = TextTransformer(
                context_length=PLACES,
                vocab_size=VOCABULARY,
                width=WIDTH,
                heads=12,
                layers=12,
                output_dim=self.dim,
                embed_cls=True,
                pad_id=PAD,
                output_tokens=True,
            )
        self.text.attn_mask = None  # masks are made here, for the length at hand
        text = {key: tensor for key, tensor in state.items() if key.startswith(_PREFIX)}
        advice = "give the pytorch_model.bin of MahmoodLab/CONCH"
        check_weights(text, self.state_dict(), file, "CONCH's text tower", advice)
        load_strictly(self, text)
        self.hash = hash_tensors(self.state_dict().items(), "conch text 1")
        self.eval().requires_grad_(False)

    @classmethod
    def from_file(cls, path: Path | None = None) -> Self:
        """Build it from the user's weights; parameters and errors as for ``ConchEncoder.from_file``."""
        path = find_weights(path)
        return cls(read_tensors(path), str(path))

    def forward(self, ids: Tensor, context: Tensor | None = None) -> Tensor:
        """Return text embeddings, by CONCH's own layout.

        Parameters
        ----------
        ids : Tensor of int64, shape (P, places)
            As :func:`lay_out` makes them; at most 127 places.
        context : Tensor of float, shape (K, slots, 768), or None
            What ids from ``VOCABULARY`` on stand for.

        Returns
        -------
        Tensor of float32, shape (P, 512)
            Of length 1.
        """
        longest = int((ids != PAD).sum(1).max())
        ids = ids[:, : min(longest + 1, PLACES)]
        places = ids.shape[1]
        positions = self.text.positional_embedding
        words = self._embed(ids, context) + positions[:places]
        last = (self.text.cls_emb + positions[PLACES]).expand(len(ids), 1, -1)
        x = self.text.transformer(torch.cat([words, last], 1), attn_mask=self._mask(ids))
        return self._project(x[:, -1])

    def released(self, ids: Tensor, context: Tensor | None = None) -> Tensor:
        """Return text embeddings by the released layout.

        Parameters
        ----------
        ids : Tensor of int64, shape (P, places)
            As :func:`lay_out` makes them; cut to 77 places.
        context
            As for :meth:`forward`.

        Returns
        -------
        Tensor of float32, shape (P, 512)
            Of length 1.
        """
        ids = ids[:, :RELEASED_PLACES]
        x = self.text.transformer(self._embed(ids, context) + self.text.positional_embedding[: ids.shape[1]])
        return self._project(x[:, -1])

    def _embed(self, ids: Tensor, context: Tensor | None) -> Tensor:
        words: Tensor = self.text.token_embedding(ids.clamp(max=VOCABULARY - 1))
        if context is None:
            return words
        slots = context.flatten(0, 1)
        return torch.where((ids >= VOCABULARY)[..., None], slots[(ids - VOCABULARY).clamp(min=0)].to(words), words)

    def _mask(self, ids: Tensor) -> Tensor:
        """Return what is added to attention, (P * heads, L + 1, L + 1): 0 where a place may look, -inf elsewhere."""
        shown = F.pad(ids != PAD, (1, 0), value=True)
        places = shown.shape[1]
        visible = shown[:, None, :] & torch.ones(places, places, dtype=torch.bool, device=ids.device).tril()
        weight = self.text.positional_embedding
        mask = torch.zeros(visible.shape, dtype=weight.dtype, device=ids.device).masked_fill(~visible, float("-inf"))
        return mask.repeat_interleave(self.text.heads, 0)

    def _project(self, x: Tensor) -> Tensor:
        return F.normalize((self.text.ln_final(x) @ self.text.text_projection).float(), dim=-1)

    def initial_context(
        self,
        tokenizer: ConchTokenizer,
        classes: int,
        slots: int = CONTEXT_SLOTS,
        start: str = "tiled",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return context vectors to start learning from.

        Parameters
        ----------
        tokenizer : ConchTokenizer
        classes, slots : int
        start : str
            ``tiled``: :data:`CONTEXT_WORDS` again and again; ``released``: once, then end tokens, with noise of
            standard deviation 0.02, another for each class; ``noise``: that noise alone.
        generator : Generator or None
            Of the noise.

        Returns
        -------
        Tensor of float32, shape (classes, slots, 768)
        """
        words = tokenizer([CONTEXT_WORDS])[0]
        follow = repeat(END) if start == "released" else cycle(words)
        tokens = list(islice(chain(words, follow), slots))
        context: Tensor = self.text.token_embedding.weight[tokens].float().expand(classes, slots, WIDTH)
        if start == "tiled":
            return context.clone()
        noise = _NOISE * torch.randn(context.shape, generator=generator).to(context)
        return noise if start == "noise" else context + noise


class ConchText:
    """Tokenizer and tower together: texts in, features out, by CONCH's own layout.

    Parameters
    ----------
    weights, tokenizer : Path or None
        The user's files; None: see :mod:`dualproto_wsi.model.conch_files`.
    """

    dim = ConchTextTower.dim
    max_tokens = PLACES

    def __init__(self, weights: Path | None = None, tokenizer: Path | None = None) -> None:
        self._tokenizer = ConchTokenizer(tokenizer)
        self._tower = ConchTextTower.from_file(weights)

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> Tensor:
        """Return one feature a text, float32 (P, 512), of length 1."""
        features: Tensor = self._tower(lay_out(self._tokenizer(texts)))
        return features

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many places each text takes, with beginning and end."""
        return [len(words) + 2 for words in self._tokenizer(texts)]
