"""How well the controller of `form: controlled` holds its set point, on a head that is trained alone.

    python benchmarks/controller.py

The response states of one layer of SmolLM2-135M-Instruct are computed once (300 functions of the standard library);
then a variational head is trained on random batches of them, as in training but without the model, under several
settings of gains, set point, steps and learning rate. Prints, for each, the share of steps after the warm-up whose KL
is within 10% of the set point. The cross-entropy is over the tokens that occur, which is many times as fast.
"""

from __future__ import annotations

import argparse
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ibft.data.functions import function_pairs
from ibft.data.tokens import encode_pairs
from ibft.models.loading import limits_of, load_model, load_tokenizer
from ibft.models.tap import final_norm
from ibft.objectives.bottleneck.forms.controlled import KLController
from ibft.objectives.bottleneck.losses import kl_to_standard_normal, rms_normalize
from ibft.objectives.bottleneck.terms import Posterior
from ibft.run.sections import ModelConfig
from ibft.text.encoding import TextCodec
from ibft.training.head import VariationalHead

LAYER, NUM_EXAMPLES, BATCH_TOKENS, PREDICTED_TOKENS = 20, 300, 200, 64
ALPHA, BETA, WARMUP = 0.1, 1.0, 0.25

SETTINGS = [
    {"gain_p": 5.0, "gain_i": 0.3},
    {"gain_p": 5.0, "gain_i": 0.3, "steps": 300, "learning_rate": 1e-4},
    {"gain_p": 5.0, "gain_i": 0.3, "steps": 60},
    {"gain_p": 5.0, "gain_i": 0.3, "target": 10.0},
    {"gain_p": 1.0, "gain_i": 0.05},
    {"gain_p": 3.0, "gain_i": 0.2},
    {"gain_p": 5.0, "gain_i": 0.5},
]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    states = response_states()
    print("| gains | set point | steps | learning rate | within 10% | largest deviation |")
    print("|---|---|---|---|---|---|")
    for settings in SETTINGS:
        print(row(states, **settings), flush=True)


def response_states() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States (N, H), next tokens (N,) as rows of the reduced vocabulary, its weights (V, H), the final norm's gain."""
    config = ModelConfig(dtype="float32", device="cpu")
    tokenizer, model = load_tokenizer(config), load_model(config)
    pairs = function_pairs("stdlib")
    data = encode_pairs(pairs, TextCodec(tokenizer, "plain"), max_tokens=96, limits=limits_of(model.config))
    states, tokens = [], []
    with torch.no_grad():
        for example in data.examples[:NUM_EXAMPLES]:
            output = model(torch.tensor([example.input_ids]), output_hidden_states=True)
            states.append(output.hidden_states[LAYER][0, example.border - 1 : -1])
            tokens.append(torch.tensor(example.input_ids[example.border :]))
    vocabulary, targets = torch.cat(tokens).unique(return_inverse=True)
    weight = model.get_output_embeddings().weight.detach()[vocabulary]
    return torch.cat(states), targets, weight, final_norm(model).weight.detach()


def row(
    states: tuple[Tensor, Tensor, Tensor, Tensor],
    gain_p: float,
    gain_i: float,
    target: float = 30.0,
    steps: int = 120,
    learning_rate: float = 4e-4,
) -> str:
    hidden_NH, targets_N, weight_VH, gain_H = states
    generator = torch.Generator().manual_seed(0)
    head = VariationalHead(hidden_NH.size(1), 256, -4.0, 4.0, generator)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=0.0)
    controller = KLController(ALPHA, target, gain_p, gain_i, round(WARMUP * steps))
    deviations = []
    for step in range(steps):
        warm, rest = min(1.0, 10 * (step + 1) / steps), max(0.0, step / steps - 0.1) / 0.9
        optimizer.param_groups[0]["lr"] = learning_rate * warm * 0.5 * (1 + math.cos(math.pi * rest))
        chosen = torch.randint(len(hidden_NH), (BATCH_TOKENS,), generator=generator)
        posterior = head.encode(rms_normalize(hidden_NH[chosen]))
        kl = kl_to_standard_normal(*posterior).sum(-1).mean()
        few = Posterior(posterior.mean[:PREDICTED_TOKENS], posterior.logvar[:PREDICTED_TOKENS])
        decoded = head.decode(few, torch.randn(few.mean.shape, generator=generator))
        logits = rms_normalize(decoded) * gain_H @ weight_VH.T
        ce = F.cross_entropy(logits, targets_N[chosen][:PREDICTED_TOKENS])
        optimizer.zero_grad()
        (controller.alpha * kl / posterior.mean.size(1) + ALPHA * BETA * ce).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        controller.update(kl.item())
        if step >= WARMUP * steps:
            deviations.append(abs(kl.item() / target - 1))
    held = sum(deviation <= 0.1 for deviation in deviations) / len(deviations)
    return f"| {gain_p:g}, {gain_i:g} | {target:g} | {steps} | {learning_rate:g} | {held:.0%} | {max(deviations):.0%} |"


if __name__ == "__main__":
    main()
