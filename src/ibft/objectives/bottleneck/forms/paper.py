"""`paper`: the loss of the reference code."""

from __future__ import annotations

from ibft.objectives.bottleneck.form import NO_HEAD, Form
from ibft.objectives.bottleneck.losses import kl_to_standard_normal
from ibft.objectives.bottleneck.terms import Posterior, TappedLayer, Terms, variational_terms

__all__ = ["HEADED", "Paper"]

HEADED = frozenset({"beta", "bottleneck_dim", "logvar_min", "logvar_max", "predict_tokens"})
"""The settings of all forms with a head."""


class Paper(Form):
    """CE + alpha * (KL + beta * CE through the bottleneck), reduced as the reference code does.

    Source: OPTML-Group/MemorizationBarrier at 160d19d, util/ModelWithIB.py. The KL is a mean over *all* positions of
    the batch, prompt and padding included, and over the D dimensions, so it does not grow with D. Deviation: the
    reference pads every example to 2,048 tokens, and its mean includes that padding; here a batch is padded to its
    longest example, or not at all. The cross-entropy is that of `lm_head(h_bar)`, without the model's final norm.
    """

    name = "paper"
    place = 0
    reads = "the raw residual stream"
    compresses = "mean over **all** B × T positions, prompt and padding included, and over D"
    differs = (
        "the reference code's loss; `lm_head` reads `h_bar` without the final norm; head and model are clipped as one"
    )
    uses = HEADED
    default_warmup = 0.0  # the reference code has none
    applies_final_norm = False  # as the reference code
    clips_head_apart = False  # as the reference code
    is_mean_of_forward = True
    overload_remedy = "form: controlled or corrected, which normalize the hidden state, or a smaller alpha"
    closed_remedy = f"form: controlled with a kl_target, form: corrected with free_bits, or {NO_HEAD}"
    weak_remedy = f"a larger alpha, form: controlled with a kl_target, or {NO_HEAD}"

    def terms(self, layer: TappedLayer) -> Terms:
        """Average the KL over all positions, and decode the labelled ones."""
        posterior_BTD = layer.head.encode(layer.hidden_BTH)
        penalty = kl_to_standard_normal(*posterior_BTD).mean()
        # Deviation: the reference code draws noise for all positions. That of unlabelled ones reaches no loss.
        posterior = Posterior(layer.labelled(posterior_BTD.mean), layer.labelled(posterior_BTD.logvar))
        return variational_terms(
            layer, posterior, kl_to_standard_normal(*posterior), penalty, self.settings.predict_tokens
        )
