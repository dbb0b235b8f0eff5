"""A model hub on 127.0.0.1 with tiny random models under real names, at the pinned revisions, in the real layouts.

It speaks the part of the hub's API that huggingface_hub and datasets use: model and dataset information with files and
sizes, trees and paths, HEAD and GET of a file of a revision, with the commit, the etag and (for large files) the sha256
and a redirect, and ranges; and uploads: a new repository, preupload, LFS objects and commit, for a token in `writers`.
No Xet. Children are told of it by `environment()`, since huggingface_hub reads HF_ENDPOINT
when it is imported; its sitecustomize.py puts the tiny architectures and corpora in place of the real ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

STARTUP = """\
import sys
from pathlib import Path

sys.path.insert(0, {tests!r})
import loopback_hub

if (configs := Path({published!r}, "configs")).is_dir():
    loopback_hub.use_tiny_models(configs)
if (corpora := Path({published!r}, "corpora.json")).is_file():
    import loopback_corpora

    loopback_corpora.use_tiny_corpora(corpora, {address!r})
sys.path.remove({tests!r})
"""
"""sitecustomize.py of child processes: Python runs it before anything else."""
LARGE = (".safetensors", ".bin", ".model", ".parquet", ".h5", ".msgpack")
"""Files that the hub keeps with LFS, here by their names."""
TEXT = (
    "the golden pear is a pub by riverside it has number cat dog runs fast over lazy moon blue cheap food italian "
    "family friendly film was good bad they went home yes no question answer"
)
WORDS = TEXT.split()


@dataclass
class Repository:
    """Files of one revision; `kind` is "models" or "datasets"; a gated one is refused to everybody."""

    revision: str
    files: dict[str, bytes]
    kind: str = "models"
    gated: bool = False

    def listing(self) -> list[dict[str, Any]]:
        """The siblings of the hub's answer, with sizes and hashes."""
        return [_sibling(name, data) for name, data in sorted(self.files.items())]

    def tree(self, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """Files and folders below `folder` ("": all), as the hub's tree lists them."""
        below = f"{folder}/" if folder else ""
        return [
            entry
            for entry in self.paths([*self.files, *self._folders()])
            if entry["path"].startswith(below) and (recursive or "/" not in entry["path"].removeprefix(below))
        ]

    def paths(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """What the hub says of these paths; unknown ones are left out."""
        found = []
        for name in sorted(set(names)):
            if name in self.files:
                sibling = _sibling(name, self.files[name])
                lfs = {"lfs": {**sibling["lfs"], "oid": sibling["lfs"]["sha256"]}} if "lfs" in sibling else {}
                entry = {"type": "file", "path": name, "size": sibling["size"], "oid": sibling["blobId"]}
                found.append({**entry, **lfs})
            elif name in self._folders():
                found.append({"type": "directory", "path": name, "oid": _git_sha1(name.encode()), "size": 0})
        return found

    def _folders(self) -> set[str]:
        return {str(parent) for name in self.files for parent in PurePosixPath(name).parents} - {"."}


def _sibling(name: str, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _git_sha1(data)}
    if name.endswith(LARGE):
        found["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 135}
    return found


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class LoopbackHub:
    """The running server. `cut`: file name -> bytes after which its next transfer ends; `spoil`: files sent changed;
    `stall`: files whose transfer stops half-way, the connection open, until the server ends; `busy`: (method, words of
    the path, status) of requests to come, each refused once.

    `plain`: files outside any repository, at /files/<name>. `asked` are (method, path) in order. `objects` are large
    files that were uploaded, by sha256; `commits` the messages, in order.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    spoil: set[str] = field(default_factory=set)
    stall: set[str] = field(default_factory=set)
    busy: list[tuple[str, str, int]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    plain: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    writers: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    address: str = ""

    def add(self, hub_id: str, repository: Repository) -> None:
        """Serve `repository` under `hub_id`."""
        self.repositories[f"{repository.kind}/{hub_id}"] = repository

    def environment(self, folder: Path, published: Path) -> dict[str, str]:
        """Variables of a child process that uses this hub, with its caches below `folder`, and no other network.

        `published`: the folder that `publish_tiny_models` (and `publish_tiny_corpora`) wrote.
        """
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "REPLICATION_"))
        }
        tests = Path(__file__).resolve().parent
        startup = folder / "startup" / "sitecustomize.py"
        startup.parent.mkdir(parents=True, exist_ok=True)
        startup.write_text(STARTUP.format(tests=str(tests), published=str(published), address=self.address))
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join([str(startup.parent), str(tests.parent)]),
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_ETAG_TIMEOUT": "5",
            "HF_HUB_DOWNLOAD_TIMEOUT": "5",
            "DISABLE_SAFETENSORS_CONVERSION": "1",
            "REPLICATION_CACHE": str(folder / "cache"),
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "1",
            "no_proxy": "127.0.0.1,localhost",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def files_sent(self) -> list[str]:
        """Names of the files whose content was asked for, in order."""
        sent = [path for method, path in self.asked if method == "GET" and not path.startswith("/api/")]
        return [path.rpartition("/")[2] for path in sent]


@contextmanager
def serve(hub: LoopbackHub | None = None) -> Iterator[LoopbackHub]:
    """Run a hub on a free port of 127.0.0.1 until the block ends."""
    hub = hub or LoopbackHub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        if not self._busy():
            self._answer()

    def do_GET(self) -> None:
        if not self._busy():
            self._answer()

    def _busy(self) -> bool:
        refused = next((one for one in self.hub.busy if one[0] == self.command and one[1] in self.path), None)
        if refused:
            self.hub.busy.remove(refused)
            self._send(refused[2], b"{}", {})
        return refused is not None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self._busy():
            return None
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts in (["api", "repos", "create"], ["api", "validate-yaml"]):
            return self._upload(parts[-1], "", body)
        if len(parts) == 6 and parts[4] in ("preupload", "objects", "commit"):
            return self._upload(parts[4], "/".join(parts[2:4]), body)
        return self._answer(parse_qs(body.decode()).get("paths", []))

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.hub.asked.append(("PUT", self.path))
        self.hub.objects[self.path.rpartition("/")[2]] = body
        self._json({})

    def _upload(self, step: str, hub_id: str, body: bytes) -> None:
        """The calls of an upload, in their order: create, validate-yaml, preupload, the LFS batch, commit."""
        self.hub.asked.append((self.command, unquote(urlsplit(self.path).path)))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if step == "validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if token not in self.hub.writers:
            return self._refuse(403 if token else 401, "")
        lines = [json.loads(line) for line in body.splitlines()]
        if step == "create":
            hub_id = f"{lines[0].get('organization') or 'somebody'}/{lines[0]['name']}"
            known = f"models/{hub_id}" in self.hub.repositories
            if not known:
                self.hub.add(hub_id, Repository("0" * 40, {}))
            return self._json({"url": f"{self.hub.address}/{hub_id}"}, 409 if known else 200)
        if step == "preupload":
            modes = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular"}
                for one in lines[0]["files"]
            ]
            return self._json({"files": [{**one, "shouldIgnore": False} for one in modes]})
        if step == "objects":
            return self._json({"objects": [self._wanted(one) for one in lines[0]["objects"]]})
        return self._commit(hub_id, self.hub.repositories[f"models/{hub_id}"], lines)

    def _wanted(self, one: dict[str, Any]) -> dict[str, Any]:
        upload = {"href": f"{self.hub.address}/objects/{one['oid']}"}
        return one if one["oid"] in self.hub.objects else {**one, "actions": {"upload": upload}}

    def _commit(self, hub_id: str, repository: Repository, lines: Sequence[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.hub.commits.append(value["summary"])
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.objects[value["oid"]]
        repository.revision = hashlib.sha1(repr(sorted(repository.files.items())).encode()).hexdigest()
        url = f"{self.hub.address}/{hub_id}/commit/{repository.revision}"
        self._json({"success": True, "commitOid": repository.revision, "commitUrl": url})

    def _json(self, content: Any, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, paths: Sequence[str] = ()) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        parts = path.strip("/").split("/")
        if parts[0] == "api" and len(parts) >= 4:
            return self._information(parts[1], "/".join(parts[2:4]), parts[4:], paths)
        if parts[0] == "lfs":
            return self._large("/".join(parts[1:4]), "/".join(parts[4:]))
        if parts[0] == "files" and parts[-1] in self.hub.plain:
            return self._send(200, self.hub.plain[parts[-1]], {}, parts[-1])
        kind = "datasets" if parts[0] == "datasets" else "models"
        parts = parts[1:] if kind == "datasets" else parts
        if len(parts) >= 5 and parts[2] == "resolve":
            return self._resolve(kind, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self._refuse(404, "EntryNotFound")

    def _information(self, kind: str, hub_id: str, rest: list[str], paths: Sequence[str]) -> None:
        repository = self.hub.repositories.get(f"{kind}/{hub_id}")
        if repository is None:
            return self._refuse(401, "RepoNotFound")
        if rest and rest[0] not in ("revision", "tree", "paths-info"):
            return self._refuse(404, "EntryNotFound")
        after = "/".join(rest[1:])
        known = ("main", "refs/convert/parquet", repository.revision)
        revision = next((one for one in known if after == one or after.startswith(f"{one}/")), None)
        if rest and revision is None:
            return self._refuse(404, "RevisionNotFound")
        if rest and rest[0] != "revision":
            recursive = "true" in parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower()
            folder = after.removeprefix(str(revision)).strip("/")
            found = repository.paths(paths) if rest[0] == "paths-info" else repository.tree(folder, recursive)
            if not found and folder:
                return self._refuse(404, "EntryNotFound")
            return self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})
        blobs = "blobs" in parse_qs(urlsplit(self.path).query)
        siblings = repository.listing() if blobs else [{"rfilename": name} for name in sorted(repository.files)]
        body = {
            "id": hub_id,
            "sha": repository.revision,
            "private": False,
            "gated": "manual" if repository.gated else False,
            "siblings": siblings,
            "tags": [],
            "downloads": 0,
            "likes": 0,
        }
        return self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, kind: str, hub_id: str, revision: str, file: str) -> None:
        repository = self.hub.repositories.get(f"{kind}/{hub_id}")
        if repository is None:
            return self._refuse(401, "RepoNotFound")
        if repository.gated:
            return self._refuse(403, "GatedRepo")
        if revision != repository.revision:
            return self._refuse(404, "RevisionNotFound")
        if file not in repository.files:
            return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": repository.revision})
        data, commit = repository.files[file], {"X-Repo-Commit": repository.revision}
        if not file.endswith(LARGE):
            return self._send(200, data, {**commit, "ETag": f'"{_git_sha1(data)}"'}, file)
        digest = hashlib.sha256(data).hexdigest()
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{digest}"'}
        # Another host, as the hub's store is: the client follows a redirect to the same host before it reads headers.
        target = f"{self.hub.address.replace('127.0.0.1', 'localhost')}/lfs/{kind}/{hub_id}/{file}"
        return self._send(302, b"", {**commit, **linked, "Location": target})

    def _large(self, key: str, file: str) -> None:
        data = self.hub.repositories[key].files[file]
        return self._send(200, data, {"Accept-Ranges": "bytes", "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}, file)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], file: str = "") -> None:
        file = PurePosixPath(file).name
        if file in self.hub.spoil and self.command == "GET":
            body = bytes([body[0] ^ 1]) + body[1:]
        wanted = self.headers.get("Range", "")
        if status == 200 and wanted.startswith("bytes="):
            self.hub.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers = {**headers, "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            status, body = 206, body[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if file in self.hub.stall:
            if status == 200:  # a resumed transfer gets nothing
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
            self.hub.released.wait()
            self.close_connection = True
            return
        limits = self.hub.cut.get(file, [])
        if limits:
            self.wfile.write(body[: limits.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)

    def _refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})


# --- tiny models under real names


def publish_tiny_models(hub: LoopbackHub, folder: Path) -> None:
    """Serve a tiny model for every backbone of the paper profile; their architectures (and the size and hash of what is
    pickled) go to `folder`/configs.
    """
    from replication.backbones import BACKBONES

    configs = folder / "configs"
    configs.mkdir(parents=True)
    pickled = {}
    for name, make in TINY.items():
        known = BACKBONES[name]
        place = folder / "published" / name
        place.mkdir(parents=True)
        config = make(place)
        files = {path.name: path.read_bytes() for path in place.iterdir()}
        hub.add(str(known.hub_id), Repository(str(known.revision), files))
        (configs / f"{name}.json").write_text(json.dumps({"about": "tiny", "config": config}))
        if known.pickled is not None:
            data = files[known.pickled.name]
            pickled[name] = [len(data), hashlib.sha256(data).hexdigest()]
    (configs / "pickled.json").write_text(json.dumps(pickled))


def use_tiny_models(configs: Path) -> None:
    """In this process: the architectures of `configs`, the pinned bytes of the tiny pickled files."""
    from replication.backbones import BACKBONES, loading

    loading.CONFIGS = configs
    for name, (size, sha256) in json.loads((configs / "pickled.json").read_text()).items():
        known = BACKBONES[name]
        assert known.pickled is not None
        BACKBONES[name] = changed(known, pickled=changed(known.pickled, size=size, sha256=sha256))


def reach(hub: LoopbackHub, patch: Any, folder: Path) -> None:
    """In this process: `hub` is the model hub, with its cache below `folder`; `patch` is pytest's monkeypatch."""
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", hub.address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("no_proxy", "NO_PROXY"):
        patch.setenv(name, "127.0.0.1,localhost")


def _configured(kind: Any, **fields: Any) -> tuple[Any, dict[str, Any]]:
    config = kind(**fields)
    return config, {"model_type": config.model_type, **fields}


def _words_tokenizer(place: Path, special: list[str]) -> int:
    """vocab.json and merges.txt of a byte-level BPE, as GPT-2 and BART are published; returns the vocabulary's size."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    for saved in tokenizer.model.save(str(place)):
        assert Path(saved).name in ("vocab.json", "merges.txt")
    return int(tokenizer.get_vocab_size())


def _gpt2(place: Path, width: int) -> dict[str, Any]:
    """model.safetensors without a prefix, vocab.json and merges.txt, no tokenizer.json.

    Solo Connection's ranks need the `width`.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    size = _words_tokenizer(place, ["<|endoftext|>"])
    end = json.loads((place / "vocab.json").read_text(encoding="utf-8"))["<|endoftext|>"]
    config, fields = _configured(
        GPT2Config, vocab_size=size, n_positions=512, n_embd=width, n_layer=12, n_head=4,
        bos_token_id=end, eos_token_id=end,
    )  # fmt: skip
    torch.manual_seed(1)
    body = GPT2LMHeadModel(config).transformer.state_dict()
    body["h.0.attn.bias"] = torch.ones(1, 1, 512, 512)  # a mask that the real files hold too
    save_file({name: value.contiguous() for name, value in body.items()}, place / "model.safetensors", {"format": "pt"})
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(place)
    return fields


def _llama(place: Path) -> dict[str, Any]:
    """bfloat16 in shards with an index, tokenizer.json, no padding token."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from replication.backbones.loading import quiet_transformers

    vocabulary = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"})
    tokenizer.save_pretrained(place)
    config, fields = _configured(
        LlamaConfig,
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=7,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(2)
    with quiet_transformers():
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(place, max_shard_size="40KB")
    assert (place / "model.safetensors.index.json").is_file()
    return fields


def _bart(place: Path) -> dict[str, Any]:
    """float16 under the bare body's names, the shared embedding three times, as the real file has it."""
    import torch
    from safetensors.torch import save_file
    from transformers import BartConfig, BartModel

    size = _words_tokenizer(place, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    config, fields = _configured(
        BartConfig,
        vocab_size=size,
        d_model=32,
        encoder_layers=3,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=256,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    torch.manual_seed(3)
    state = BartModel(config).to(torch.float16).state_dict()
    save_file({name: value.clone() for name, value in state.items()}, place / "model.safetensors", {"format": "pt"})
    config.architectures = ["BartModel"]
    config.num_labels = 3  # as published
    config.save_pretrained(place)
    return fields


def _deberta(place: Path) -> dict[str, Any]:
    """float16 in pytorch_model.bin alone, with the heads of its pretraining, and spm.model."""
    import sentencepiece
    import torch
    from transformers import DebertaV2Config, DebertaV2Model

    sentences = place / "sentences.txt"
    sentences.write_text("\n".join(" ".join(WORDS[at:] + WORDS[:at]) for at in range(len(WORDS))))
    sentencepiece.SentencePieceTrainer.train(
        input=str(sentences),
        model_prefix=str(place / "spm"),
        model_type="unigram",
        vocab_size=60,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
        **{"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
    )
    sentences.unlink()
    (place / "spm.vocab").unlink()
    (place / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    config, fields = _configured(
        DebertaV2Config,
        vocab_size=70,
        hidden_size=32,
        num_hidden_layers=7,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=512,
        type_vocab_size=0,
        layer_norm_eps=1e-7,
        relative_attention=True,
        max_relative_positions=-1,
        position_buckets=32,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
        pos_att_type=["p2c", "c2p"],
        pooler_dropout=0,
        pooler_hidden_size=32,
    )
    torch.manual_seed(4)
    state = {f"deberta.{name}": value for name, value in DebertaV2Model(config).to(torch.float16).state_dict().items()}
    embedding = state["deberta.embeddings.word_embeddings.weight"]
    state |= {
        "lm_predictions.lm_head.dense.weight": torch.randn(32, 32).half(),
        "lm_predictions.lm_head.bias": torch.zeros(70).half(),
        "mask_predictions.classifier.weight": torch.randn(1, 32).half(),
        "lm_predictions.lm_head.weight": embedding,  # one memory under two names
    }
    torch.save(state, place / "pytorch_model.bin")
    published = config.to_dict()
    for name in ("architectures", "transformers_version", "dtype"):
        published.pop(name, None)
    (place / "config.json").write_text(json.dumps(published))
    return fields


TINY = {
    "gpt2-medium": partial(_gpt2, width=304),
    "gpt2-large": partial(_gpt2, width=120),
    "deberta-v3-base": _deberta,
    "bart-large": _bart,
    "llama-3.1-8b": _llama,
}
