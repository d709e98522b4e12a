"""The reference code's training step, written anew from its description (shared METHOD.md, section 2), without TRL.

Every example is padded to 2,048 tokens; the model returns the hidden states of all layers and the logits of all
positions; the side head decodes all positions to a second full set of logits; the KL is a mean over all positions.
"""

from __future__ import annotations

from collections.abc import Callable

import peft
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibft.data.tokens import TokenizedExample

ALPHA, BETA = 0.2, 0.01
DIMENSIONS = 256


class SideHead(nn.Module):
    """Mean and log-variance of the code, and its way back."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.mean = nn.Linear(hidden_size, DIMENSIONS)
        self.logvar = nn.Linear(hidden_size, DIMENSIONS)
        self.back = nn.Linear(DIMENSIONS, hidden_size)


def make_step(model: peft.PeftModel, layer: int, max_steps: int) -> Callable[[dict[str, Tensor]], float]:
    """One optimizer step on a padded batch; returns the loss."""
    base = model.get_base_model()
    parameter = next(base.parameters())
    head = SideHead(base.config.hidden_size).to(parameter.device, parameter.dtype)
    trained = [p for p in [*model.parameters(), *head.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_steps)
    model.train()

    def step(batch: dict[str, Tensor]) -> float:
        outputs = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            output_hidden_states=True,
            use_cache=False,
        )
        loss_ce = _cross_entropy(outputs.logits, batch["labels"])
        hidden = outputs.hidden_states[layer]
        mean, logvar = head.mean(hidden), head.logvar(hidden).clamp(-4, 4)
        loss_kl = (-0.5 * (1 + logvar - mean.pow(2) - logvar.exp())).mean()
        code = mean + torch.exp(logvar / 2) * torch.randn_like(mean)
        loss_ib = _cross_entropy(base.lm_head(head.back(code)), batch["labels"])
        loss = loss_ce + ALPHA * (loss_kl + BETA * loss_ib)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def padded_batch(examples: list[TokenizedExample], length: int, device: torch.device) -> dict[str, Tensor]:
    """All examples padded to one length."""
    rows = {"input_ids": [], "labels": [], "attention_mask": []}
    for example in examples:
        padding = length - len(example.input_ids)
        rows["input_ids"].append(example.input_ids + [0] * padding)
        rows["labels"].append(example.labels + [-100] * padding)
        rows["attention_mask"].append([1] * len(example.input_ids) + [0] * padding)
    return {name: torch.tensor(values, device=device) for name, values in rows.items()}


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """As transformers' own loss for causal models: float32 logits of all positions, labels moved by one."""
    targets = F.pad(labels, (0, 1), value=-100)[:, 1:].flatten()
    return F.cross_entropy(logits.float().view(-1, logits.size(-1)), targets)
