"""Files on the command line: samples, packed files, and places to write to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coarsegrad.errors import InputError, SourceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Endings of what other programs write; their bytes would be called a damaged packed file.
_OTHERS = (".pt", ".pth", ".ckpt", ".npy", ".npz", ".onnx", ".safetensors")


def free_place(out: Path) -> Path:
    """Return ``out`` if a file can be written there, before anything is computed for it.

    Raises:
        SourceError: its folder is missing, or it is itself a folder.
    """
    if out.is_dir():
        raise SourceError(f"{out} is a folder; a file is to be written here: --out {out}/NAME")
    if not out.absolute().parent.is_dir():
        raise SourceError(
            f"{out} cannot be written, there is no folder {out.parent}; make it with: "
            f"mkdir -p {out.parent}"
        )
    return out


def samples(file: Path, shape: tuple[int, ...], what: str) -> NDArray[np.float32]:
    """Return the array of a .npy file: float32 (N, *shape), N at least 1."""
    x = load_array(file)
    if str(x.dtype) != "float32" or x.shape[1:] != shape or len(x) == 0:
        raise SourceError(
            f"{what} needs samples of float32 (N, {', '.join(map(str, shape))}), {file} holds "
            f"{x.dtype} {tuple(x.shape)}; prepare them as the training samples were"
        )
    return x


def load_array(path: Path) -> NDArray[np.float32]:
    """Return the array that ``numpy.save`` wrote to ``path``, as it is.

    Raises:
        InputError: the file holds no array, or several.
        OSError: it cannot be opened.
    """
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        raise InputError(f"{path} is not an array that numpy.save wrote ({error})") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} holds several arrays (.npz); give one .npy array")
    return array


def packed_file(path: Path) -> Path:
    """Return the packed file that is meant: ``path``, or model.cgrad of a run folder.

    Raises:
        SourceError: there is none; the message says how to make it.
    """
    if path.is_dir():
        inside = path / "model.cgrad"
        if inside.is_file():
            return inside
        advice = (
            f"make it with: coarsegrad pack {path}"
            if (path / "recipe.yaml").is_file()
            else "it is no run folder either; give a .cgrad file"
        )
        raise SourceError(f"{path} holds no model.cgrad; {advice}")
    if path.is_file():
        if path.suffix in _OTHERS:
            raise SourceError(
                f"{path} is not a packed file by its name; coarsegrad pack writes one: .cgrad"
            )
        return path
    if ":" in str(path):
        raise SourceError(
            f"{path} is a function, and a packed file is needed; make it with: "
            f"coarsegrad pack {path} --weights FILE.pt --out FILE.cgrad"
        )
    raise SourceError(
        f"there is no packed file {str(path)!r}; make it with: coarsegrad pack SOURCE --out {path}"
    )
