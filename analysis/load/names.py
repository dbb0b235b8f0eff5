"""Display names of methods, backbones and tasks, and the order of methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replication.metrics import label_of

METHOD_NAMES = {
    "baseline_majority": "Majority class",
    "baseline_mean": "Mean label",
    "baseline_cosine": "Cosine of the untrained backbone",
    "baseline_commonest_choice": "Commonest answer",
    "baseline_longest_choice": "Longest answer",
    "full": "Full fine-tuning",
    "frozen": "Frozen backbone",
    "lora": "LoRA",
    "solo_connection": "Solo Connection",
    "weight_lora": "WeightLoRA",
    "weight_lora_plus": "WeightLoRA+",
    "random_lora": "Random LoRA",
    "adalora": "AdaLoRA",
    "dora": "DoRA",
    "rslora": "rsLoRA",
    "loha": "LoHa",
    "lokr": "LoKr",
    "vera": "VeRA",
    "ia3": "(IA)³",
    "adapter_h": "Adapter-H",
    "adapter_l": "Adapter-L",
    "ft_top2": "FT-Top2",
}
BASELINES = ("baseline_majority", "baseline_mean", "baseline_cosine", "baseline_commonest_choice",
             "baseline_longest_choice")  # fmt: skip
METHOD_ORDER = (*BASELINES, "frozen", "full", "lora", "solo_connection", "weight_lora", "weight_lora_plus",
                "random_lora", "adalora", "dora", "rslora", "loha", "lokr", "vera", "ia3", "adapter_h", "adapter_l",
                "ft_top2")  # fmt: skip
ARROW = (
    "An arrow in a method's name goes from the start of training to its end: with K=6→3, r=8→16 WeightLoRA+ expands 6 "
    "adapters of rank 8 into 3 of rank 16."
)
DEFAULT_EXPANSIONS = 2  # of WeightLoRA+
SELECTING = ("weight_lora", "weight_lora_plus", "random_lora")  # they keep K adapters and write selection.json
BACKBONE_NAMES = {
    "gpt2": "GPT-2",
    "gpt2-medium": "GPT-2 Medium",
    "gpt2-large": "GPT-2 Large",
    "microworld-gpt2": "small GPT-2",
    "microworld-deberta": "small DeBERTa",
    "microworld-bart": "small BART",
    "microworld-llama": "small Llama",
    "smollm2-135m": "SmolLM2-135M",
    "minilm-l6": "MiniLM-L6",
    "mpnet-base": "MPNet-base",
    "deberta-v3-base": "DeBERTaV3-base",
    "bart-large": "BART-large",
    "llama-3.1-8b": "Llama-3.1-8B",
}
TASK_NAMES = {
    "cola": "CoLA",
    "e2e": "E2E NLG",
    "mnli": "MNLI",
    "mrpc": "MRPC",
    "qnli": "QNLI",
    "qqp": "QQP",
    "rte": "RTE",
    "sst2": "SST-2",
    "stsb": "STS-B",
    "squad_v1": "SQuAD v1.1",
    "squad_v2": "SQuAD v2",
    "xsum": "XSum",
    "cnn_dailymail": "CNN/DailyMail",
    "boolq": "BoolQ",
    "arc_easy": "ARC easy",
    "arc_challenge": "ARC challenge",
    "openbookqa": "OpenBookQA",
    "hellaswag": "HellaSwag",
    "microworld_acceptability": "acceptability",
    "microworld_sentiment": "sentiment",
    "microworld_paraphrase": "paraphrase",
    "microworld_entailment": "entailment",
    "microworld_similarity": "similarity",
    "microworld_qa": "restaurant questions",
    "microworld_qa_unanswerable": "restaurant questions, some unanswerable",
    "microworld_headlines": "headlines",
    "microworld_choice": "choice",
}
PART_NAMES = {  # parts or variants of a corpus above: never named like the whole
    "mnli_train_subset": "MNLI (part)",
    "qnli_subset": "QNLI (part)",
    "squad_v1_subset": "SQuAD v1.1 (part)",
    "squad_v2_subset": "SQuAD v2 (part)",
    "xsum_subset": "XSum (part)",
    "cnn_dailymail_subset": "CNN/DailyMail (part)",
    "boolq_closed_book": "BoolQ without passages",
}


def backbone_name(backbone: str) -> str:
    """`MiniLM-L6` for minilm-l6; a backbone without a name is called as it is."""
    return BACKBONE_NAMES.get(backbone, backbone)


def task_name(corpus: str) -> str:
    """`CoLA` for cola; a part of a corpus is named as such; other corpora keep their name."""
    return TASK_NAMES.get(corpus) or PART_NAMES.get(corpus, corpus)


def score_name(metric: str) -> str:
    """`Matthews correlation` for matthews_correlation, the metric's label; any other measure keeps its name."""
    return label_of(metric) or metric


def method_key(method: str, config: Mapping[str, Any]) -> str:
    """The method that selects colours and rows: PEFT's own name for its tuners (`dora`), the kind of a
    baseline (`baseline_cosine`).
    """
    if method == "baseline":
        return f"baseline_{config.get('kind', '')}"
    return str(config.get("name", method)) if method == "peft_baselines" else method


def method_order(key: str) -> tuple[int, str]:
    """Sorts methods as tables list them; unknown methods come last, by name."""
    return (METHOD_ORDER.index(key) if key in METHOD_ORDER else len(METHOD_ORDER), key)


def method_label(method: str, config: Mapping[str, Any]) -> str:
    """The method with the settings that distinguish variants and what trains at the end: `WeightLoRA (r=8, K=3)`,
    `WeightLoRA+ (K=6→3, r=8→16)`. `config` is a record's or the planned settings.
    """
    key = method_key(method, config)
    name = METHOD_NAMES.get(key, key.replace("_", " "))
    details = _details(method, config)
    return f"{name} ({', '.join(details)})" if details else name


def is_growing(label: str) -> bool:
    """Whether a label has the arrow that `ARROW` explains; those of links (`links 2→4`) are others."""
    return "K=" in label and "→" in label


def planned_end(method: str, config: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """K and rank of the adapters that a selecting method trains in its last step, by its settings.

    WeightLoRA+ halves K (rounded down) and doubles the rank in each round. K is None where the method starts from all
    adapters, both are None where the settings do not say.
    """
    keep, rank = config.get("keep"), config.get("rank")
    rounds = _rounds(config) if method == "weight_lora_plus" else 0
    if rank is None or rounds is None:
        return None, None
    return (None if keep is None else keep >> rounds), rank << rounds


def _rounds(config: Mapping[str, Any]) -> int | None:
    """Expansion rounds of WeightLoRA+; None for a version of the authors' code whose number is not in the settings."""
    if "expansions" in config or config.get("preset") in (None, "paper"):
        return int(config.get("expansions", DEFAULT_EXPANSIONS))
    return None


def _details(method: str, config: Mapping[str, Any]) -> list[str]:
    """The settings that distinguish variants: rank, kept adapters, skip length, and non-default values."""
    if method == "peft_baselines":
        return _peft_details(config)
    if method == "solo_connection":
        return [*_rank(config), *_solo_details(config)]
    if method in ("adapter_h", "adapter_l"):
        return _bottleneck_details(config)
    details = _selected(config) if method == "weight_lora_plus" else _rank(config)
    if method in SELECTING and method != "weight_lora_plus" and config.get("keep") is not None:
        details.append(f"K={config['keep']}")
    if config.get("preset") not in (None, "paper"):
        details.append(str(config["preset"]))
    if config.get("rank_by", "signed") != "signed":
        details.append(f"by {config['rank_by']}")
    if config.get("remove_losers") is False:
        details.append("losers kept")
    if method == "weight_lora" and config.get("selection_steps", 0) is None:
        details.append("selection without end")
    if method == "weight_lora_plus" and config.get("expansion") not in (None, "qr"):
        details.append(f"{config['expansion']} expansion")
    return details


def _rank(config: Mapping[str, Any]) -> list[str]:
    return [f"r={config['rank']}"] if "rank" in config else []


def _selected(config: Mapping[str, Any]) -> list[str]:
    """WeightLoRA+ before and after its rounds: `K=6→3`, `r=8→16`; without a K from all adapters to a part of them."""
    keep, rank, rounds = config.get("keep"), config.get("rank"), _rounds(config)
    if rank is None or rounds is None:
        return [*_rank(config), *([] if keep is None else [f"K={keep}"])]
    end = f"1/{2**rounds}" if keep is None else keep >> rounds
    return [f"K={'all' if keep is None else keep}→{end}", f"r={rank}→{rank << rounds}"]


def _peft_details(config: Mapping[str, Any]) -> list[str]:
    """The rank by PEFT's own `r`; AdaLoRA starts at `init_r` and ends at `target_r` on average over its adapters."""
    settings = config.get("settings") or {}
    if config.get("name") != "adalora":
        return [f"r={settings['r']}"] if settings.get("r") is not None else []
    first, last = settings.get("init_r"), settings.get("target_r")
    if last is None:
        return [] if first is None else [f"r={first}"]
    return [f"r={last} on average" if first is None else f"r={first}→{last} on average"]


def _bottleneck_details(config: Mapping[str, Any]) -> list[str]:
    details = [f"m={config['bottleneck']}"] if "bottleneck" in config else []
    return [*details, "norms fixed"] if config.get("train_layer_norms") is False else details


def _solo_details(config: Mapping[str, Any]) -> list[str]:
    details = []
    links = config.get("links")
    if isinstance(links, str):
        details.append(links.replace("_", " "))
    elif links:
        details.append("links " + " ".join(f"{start}→{end}" for start, end in links))
    elif "skip_length" in config:
        details.append(f"k={config['skip_length']}")
    if config.get("sparsity"):
        details.append(f"sparse {config['sparsity']:g}")
    parameter = config.get("homotopy_parameter", 0.1)
    if parameter is None:
        details.append("no homotopy parameter")
    elif parameter != 0.1:
        details.append(f"a={parameter:g}")
    if config.get("train_autoencoder") is False:
        details.append("fixed random E and D")
    if config.get("shared_autoencoder") is False:
        details.append("own E and D per link")
    if config.get("layer_norm"):
        details.append("layer norm")
    if config.get("lora"):
        details.append("with LoRA")
    return details
