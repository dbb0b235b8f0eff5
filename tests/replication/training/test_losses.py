"""The token loss of the recipe, and the dev loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from replication.examples import Encoded, collate
from replication.training.losses import evaluate_loss, token_loss

VOCABULARY = 31


def tiny(dropout=0.1, seed=0):
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCABULARY, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    dropouts = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    return GPT2LMHeadModel(GPT2Config(**sizes, **dropouts, bos_token_id=0, eos_token_id=0)).eval()


def corpus(examples, seed=0):
    """Rows that count upwards after a context of random length, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    rows = []
    for _ in range(examples):
        start, given, learnt = number(1, 30), number(1, 6), number(1, 9)
        ids = [1 + (start + i) % 30 for i in range(given + learnt)]
        rows.append(Encoded(ids, [0] * given + [1] * learnt, text=f"count from {ids[0]}"))
    return rows


DEV = corpus(9, seed=1)


class Fixed(torch.nn.Module):
    """A model with the same logits whatever it is given."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, **_):
        return self


@given(
    seed=st.integers(0, 2**31),
    smoothing=st.floats(0, 0.9),
    masks=st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=9), min_size=1, max_size=4),
)
def test_the_loss_is_the_recipes_on_the_target_tokens(seed, smoothing, masks):
    generator = torch.Generator().manual_seed(seed)
    rows = [Encoded(torch.randint(VOCABULARY, (len(m),), generator=generator).tolist(), m) for m in masks]
    batch = collate(rows, pad_id=0)
    logits = 5 * torch.randn(*batch["input_ids"].shape, VOCABULARY, generator=generator)
    model = Fixed(logits)
    expected, count = 0.0, 0
    for i, row in enumerate(rows):
        for position in range(1, len(row)):  # nothing predicts the first token
            if row.loss_mask[position]:
                log_p = torch.log_softmax(logits[i, position - 1], -1)
                expected += (1 - smoothing) * -log_p[row.input_ids[position]] + smoothing * -log_p.mean()
                count += 1
    loss, weight = token_loss(model, batch, label_smoothing=smoothing)
    assert int(weight) == count
    assert loss.item() == pytest.approx(float(expected), rel=1e-4, abs=1e-4)


@given(seed=st.integers(0, 2**31), examples=st.integers(1, 5))
def test_without_smoothing_the_loss_is_cross_entropy(seed, examples):
    batch = collate(corpus(examples, seed), pad_id=0)
    logits = torch.randn(*batch["input_ids"].shape, VOCABULARY, generator=torch.Generator().manual_seed(seed))
    labels = batch["input_ids"].masked_fill(batch["loss_mask"] == 0, -100)[:, 1:]
    expected = F.cross_entropy(logits[:, :-1].transpose(1, 2), labels, reduction="sum")
    loss, weight = token_loss(Fixed(logits), batch, label_smoothing=0.0)
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)
    assert int(weight) == int((labels != -100).sum())


def test_padding_and_batch_size_do_not_change_the_dev_loss():
    model = tiny()
    losses = [evaluate_loss(model, DEV, batch_size=size, pad_id=pad) for size, pad in ((1, 0), (4, 7), (9, 0))]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    labels = [(row, token_loss(model, collate([row], 0))) for row in DEV]
    by_hand = sum(loss.item() for _, (loss, _) in labels) / sum(int(weight) for _, (_, weight) in labels)
    assert losses[0] == pytest.approx(by_hand, rel=1e-5)
