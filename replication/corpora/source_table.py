"""SHA-256, size in bytes and home of every source file that a loader reads, found or downloaded.

Each file has three entries: its name and URL (none if it was assembled from another file), the plain bytes,
and the packed copy (gzip, or zip) a mirror may hold. All were computed from copies with a stated source commit.
"""

from __future__ import annotations

from replication.corpora.sourcefiles import SourceFile

_RAW = "https://raw.githubusercontent.com"
_HOMES = {
    "glue": f"{_RAW}/F0restL1n/BERT/0d0288be08079531c7b3a85af3d532f9adb0f13a",
    "prompt": f"{_RAW}/ZhengxiangShi/PowerfulPromptFT/b4ecdea060847115e9909b442ab4eb15bcb2a2c4",
    "squad": "https://rajpurkar.github.io/SQuAD-explorer",
    "cs224n": f"{_RAW}/chrischute/squad/85623adeb9e6639f145081fea9cae2d8f3a26379",
    "decoding": f"{_RAW}/DavidFanzz/llm_decoding/bdb025d9bdb2e9b20e18edaa5dc5b0db9e3ee046",
    "decoder": f"{_RAW}/MANUJMEHROTRA/model_hosting_e2e_decoder/7c9b1c24e32ed0c883c0da6e977f9dcdb709b7bf",
    "adapters": f"{_RAW}/AGI-Edgerunners/LLM-Adapters/816657208af4db747803f87ba40a4c71383fed7a",
}
# MRPC's training file is rebuilt as GLUE's own script does (the MSR file without the dev pairs), the SQuAD subset
# merged from two files, the further XSum documents were extracted from prompts: those bytes cannot be downloaded.
_TABLE = """
cola-train.tsv glue glue_data/CoLA/train.tsv
  cb368ebeb9f27d7ad03720d27ddc95687a311bdb100781a2fe59a5f5b1bc0624 428590
  a1208d9681949aa1869ae83503ba7cc147337c4a7e5e1c4d256215655c2b467f 107391
cola-dev.tsv glue glue_data/CoLA/dev.tsv
  8c013e21dc39957cac37378d87bebe225b694a0d5fe13eded66c2856628833fd 53717
  6e0f6affc5e5e722ad60572e4420eb58aef2edbcbf554ba35289d590af34cb82 17629
mrpc-train.tsv
  15d9c71e62d662b1cc9237e2015047cad4c1f62552d49858a9bce2b944d79897 941468
  f09ea34f1ed588f7f50415d09c9e705fc985a23245254e3d2dc4854ae686c2fe 325643
mrpc-dev.tsv glue glue_data/MRPC/dev.tsv
  9e8f284788040f7c9ecde2e1b3c07237c756f926bd9ef8548ef5d34b56f69f17 105616
  c81aa334edbae8886c47e4df391dded38c1eae5e295cc00217ec5eb805a401a9 37223
qnli-dev.tsv glue glue_data/QNLI/dev.tsv
  ac19409dcb04631eaaa094bdebdcf621086bc352503dfb6a1a648b614986f4fd 1367342
  3b4c8c8dd44ca8f5e25b84652aaf4f86b375e4146370e0874e2709306918fce8 517921
rte-train.tsv glue glue_data/RTE/train.tsv
  41e3a9b063433392343fad9e962cf2f58b681c78d8f71592f4186f0837246c5c 846226
  3f4a66dd8d382ac6beb61407eb492fec84d8fb5b16f7d6d7eb07fb33133286c0 335731
rte-dev.tsv glue glue_data/RTE/dev.tsv
  80230dfa1347282e7b532b06a1004a76a710087541189bf874223ddf0e3819fb 90343
  9d327343959fd4f4a9ea7e5e419a641ad4e45b3d4f65c42c796ae8198200cbb6 37468
sst2-train.tsv glue glue_data/SST-2/train.tsv
  48eac26399f8456935f81dd9e3a745c1430adb6c62e233ccfe22db4a0d15d1d1 3806081
  7d35c8190bf12e4b0ff3b42954bf65412256bc4ff7042608512e9e664ed64bc7 1445059
sst2-dev.tsv glue glue_data/SST-2/dev.tsv
  54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0 94931
  2b362b78d36eccad2d3304110e76d95a56654f860a5913f91fe4b12546d439b4 38132
stsb-train.tsv glue glue_data/STS-B/train.tsv
  41c4d978b6162abdcada7e49a982211954cca5459c228db478af333124b257a2 984099
  973cad77bfe119f27b81b0d846d3a1e713c67b649b0c3d8aa65059fac9da1019 273121
stsb-dev.tsv glue glue_data/STS-B/dev.tsv
  fe7dc0632a5033562f3cadff991f6e8d9b9b6311861660e78c3c82eb7db67f59 276928
  53018193fc2d2729ec6f2ae83aa9ea8ad2c379ba8511d293d763cfbe26eb26f2 85499
mnli-subset-train.json prompt data/glue_pretrain/MNLI/train.json
  dae8f1133d8d48b3d6dc747b244eb75273ab398893eb2c459456bd46748c8e0b 2397853
  2e8214003938a24f260b328b57384354ffa1ca2e6e8cef5718157c1976c5e2be 696724
mnli-subset-dev.json prompt data/glue_pretrain/MNLI/dev.json
  1229f3294d9fb83a61642fb7bf1fb7a98a0954218dca43e69a3840fabf37671a 259586
  5ce0d4f30b417f7d98afae6935a2660226eab09412c9a95cdd5727da2f74ef4d 75818
qnli-subset-train.json prompt data/glue_pretrain/QNLI/train.json
  ec4595783885f0363844d89c5685c2cebb25b415769f29445153d807d7aaed00 2895781
  0b00abba4e025e3a6cd36f5e38a1c9d2759665a71b4c1bb4a2e50f0ed5ab1eaa 902739
squad-v1-dev.json squad dataset/dev-v1.1.json
  95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9 4854279
  6cf38c56fc7341bab8a5132f205dd7198148a6be9073ccd8ef07d55ca73b09b7 1051741
squad-v2-dev-half.json cs224n data/dev-v2.0.json
  e67e5969b6dc6c1642154740806b79263b77fc048c7c11ee60d534eb48ef81e8 2185577
  24c92bea51272189c5f94e90b5020b7b62ae432c37ae4f9ee28a1747aca84396 496417
squad-v1-train-subset.jsonl
  d5796391c19d64366c1a21a312a1f14979cbc04b3c2410d4acfc546c198ab661 7585154
  794adcc703f9eeaf0a140936ac501a2b47e9afa82f00327026b651d264533f79 1861417
xsum-test-1000.jsonl decoding data/xsum/test.jsonl
  d824400a3d422550d016e15599806196600932bc6109e00ab97be3044426c052 2410652
  be8586d5962a132803346bc1352b6ffe88ab3df10553c594aae08ff408d4c15e 935415
xsum-test-extra.jsonl
  f32016c7f04f23d3eb98e9c938366fd784ce44ec17fc3a417596987f35ad730d 2294194
  28fe9d75209c4898df3231f9711568d49aa0f112397c1e7e86588738e9fe83ac 886505
cnn-dailymail-test-500.csv decoder data/cnn_dailymail_test.csv
  3edb880801a800da0f9413fc01bb0fe99b81ae46b06d16e22fe334bc8b95ae17 1870851
  72d5c08ff200a2c882bc7cf56d1213f7a8ce42c14a7fd14775cd5a1453cdf13e 731177
cnn-dailymail-validation-500.csv decoder data/cnn_dailymail_validation.csv
  6eb8a5833ede7757933ed6106fc0f7b62c92e6f7e14a698ff3190353111b2df4 1922985
  d14df7024044ee40a254224e02fff8e3080f4cb15d8caaab452d153a32d94569 759526
arc-challenge-train.json adapters dataset/ARC-Challenge/train.json
  a9debff28aafed86a08211dc3584a3b6cb38edca8c56bb34cd5002ed54aeebfb 585556
  cc1e00734017f4baef87f4c4ce6eea3952521e0cfda07cf715380812b40efc25 111542
arc-challenge-test.json adapters dataset/ARC-Challenge/test.json
  4a89ce368ae01a71d268d9851686738b2a0a1d84271116bab49a1dd2b48ecad7 622510
  7782d723197866632012350c0bf2dc69e6c183f965eb7193e936acfa81b11487 120265
arc-easy-train.json adapters dataset/ARC-Easy/train.json
  6a06cece3dec32f4fb1c1b0fc29dab14be7cf3053b417290dbc6cd845359f5ff 1092324
  6864ddf40e675b429cc9c0603957d1a5fea081c27b1b881bc1ae5fe36016f645 196879
arc-easy-test.json adapters dataset/ARC-Easy/test.json
  3f32a84716ca6d57d38728bf80cc8117aecd17445c2cf29a68b571b810eb82dc 1157216
  42c95836e7d8aa87bc34f27f95a315266a81557e7626cd84cbcf06d89ef2635b 208251
boolq-train.json adapters dataset/boolq/train.json
  5ccbaceebaddc69765e1c4a363632196b81851d303696672165ab59ec4e48c83 2599507
  11b7998bb5843aa1b1bb20f127aec05811754bc648438f1cdebb7015c9ce1017 201287
boolq-dev.json adapters dataset/boolq/test.json
  89df2397cbca81dc31adcc6f7f5b635821aa0565aafde46725b2b4bd39b4dfa9 899151
  886e634e838dcf03c1ba2cc414f5ee71159d879c0cdd86412a09f8cb32fe7afb 68874
openbookqa-train.json adapters dataset/openbookqa/train.json
  a1e094eeea01f70c0baa880f37497b26700ae99b243927b9c529984de9b1fe90 1987446
  1e3669d4e683843858c29c1c5f4b588ee08fc8b0677d49d194eed668879dd898 309118
openbookqa-test.json adapters dataset/openbookqa/test.json
  8479930f7b8a26052c78250280b5465a4016ca7fc806af440d0f37e243f3099e 202545
  b9f5d5a4ef3ff2631b18d5c6cc6e85c8acaa2538c7885616e128a64488f0121b 32785
"""


def _parse(table: str) -> dict[str, SourceFile]:
    lines = [line.split() for line in table.strip().splitlines()]
    files = {}
    for (name, *home), (sha256, size), (packed, packed_size) in zip(*[iter(lines)] * 3, strict=True):
        url = f"{_HOMES[home[0]]}/{home[1]}" if len(home) == 2 else None
        files[name] = SourceFile(name, sha256, int(size), packed, int(packed_size), url)
    return files


FILES = _parse(_TABLE)
