"""Where CONCH's weights and tokenizer lie on this machine, and what to do when they do not."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import get_token, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from dualproto_wsi.errors import DownloadError, ModelNotFound

WEIGHTS_VARIABLE = "DUALPROTO_CONCH_WEIGHTS"
TOKENIZER_VARIABLE = "DUALPROTO_CONCH_TOKENIZER"

REPOSITORY, WEIGHTS_FILE = "MahmoodLab/CONCH", "pytorch_model.bin"
PAGE = f"https://huggingface.co/{REPOSITORY}"
_IN_PACKAGE = Path("open_clip_custom", "tokenizers", "conch_byte_level_bpe_uncased.json")

HOW_TO_GET_WEIGHTS = (
    f"accept the licence (CC-BY-NC-ND) at {PAGE}, then either download {WEIGHTS_FILE} and name it with --weights "
    f"or ${WEIGHTS_VARIABLE}, or log in with `hf auth login`"
)


def find_weights(path: Path | None = None) -> Path:
    """Return the file of CONCH's weights.

    Looked for in this order: ``path``; the environment variable ``DUALPROTO_CONCH_WEIGHTS``; the cache of the Hugging
    Face hub; the hub itself, where the user has logged in (800 MB, once).

    Raises
    ------
    ModelNotFound
        If there is none, or the one named does not exist.
    DownloadError
        If the hub refuses it or cannot be reached.
    """
    found = local_weights(path)
    if found is None and get_token() is None:
        raise ModelNotFound(f"no weights of CONCH are on this machine: {HOW_TO_GET_WEIGHTS}")
    return found or _download()


def local_weights(path: Path | None = None) -> Path | None:
    """Return the file of CONCH's weights that is on this machine, or None; nothing is fetched.

    Raises
    ------
    ModelNotFound
        If the one named does not exist.
    """
    named = path or _from_environment(WEIGHTS_VARIABLE)
    if named and not named.is_file():
        raise ModelNotFound(f"{named}: no such file of CONCH weights; {HOW_TO_GET_WEIGHTS}")
    cached = None if named else try_to_load_from_cache(REPOSITORY, WEIGHTS_FILE)
    return Path(cached) if isinstance(cached, str) else named


def _download() -> Path:
    """Fetch the weights from the hub (``$HF_ENDPOINT`` or huggingface.co) as the user who is logged in."""
    try:
        return Path(hf_hub_download(REPOSITORY, WEIGHTS_FILE, endpoint=os.environ.get("HF_ENDPOINT")))
    except GatedRepoError as error:
        raise DownloadError(
            f"{REPOSITORY}: your Hugging Face account has not been given access; open {PAGE}, accept the licence "
            "(CC-BY-NC-ND), wait for the answer, and try again"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{REPOSITORY}: the hub does not accept your token; log in again with `hf auth login` or set HF_TOKEN"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DownloadError(
            f"{REPOSITORY}: cannot be fetched from the Hugging Face hub ({reason}); on a machine without network "
            f"download {WEIGHTS_FILE} elsewhere and name it with --weights or ${WEIGHTS_VARIABLE}"
        ) from error


def find_tokenizer(path: Path | None = None) -> Path:
    """Return CONCH's tokenizer file.

    Looked for in this order: ``path``; the environment variable ``DUALPROTO_CONCH_TOKENIZER``; an installed package
    ``conch``, of which only the file is read.

    Raises
    ------
    ModelNotFound
        If there is none, or the one named does not exist.
    """
    named = path or _from_environment(TOKENIZER_VARIABLE)
    if named:
        if not named.is_file():
            raise ModelNotFound(f"{named}: no such tokenizer file; {_HOW_TO_GET_TOKENIZER}")
        return named
    package = find_spec("conch")
    for folder in (package.submodule_search_locations or []) if package else []:
        if (Path(folder) / _IN_PACKAGE).is_file():
            return Path(folder) / _IN_PACKAGE
    raise ModelNotFound(f"no tokenizer of CONCH is on this machine: {_HOW_TO_GET_TOKENIZER}")


_HOW_TO_GET_TOKENIZER = (
    f"take {_IN_PACKAGE.name} from https://github.com/mahmoodlab/CONCH (folder conch/{_IN_PACKAGE.parent.as_posix()}) "
    f"and name it with --tokenizer or ${TOKENIZER_VARIABLE}, or install that package"
)


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None
