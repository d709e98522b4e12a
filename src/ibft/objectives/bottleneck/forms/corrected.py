"""`corrected`: the paper's loss on response positions, of normalized states, with the model's final norm."""

from __future__ import annotations

from ibft.objectives.bottleneck.form import NO_HEAD, Form
from ibft.objectives.bottleneck.forms.paper import HEADED
from ibft.objectives.bottleneck.losses import kl_to_standard_normal, rms_normalize, with_free_bits
from ibft.objectives.bottleneck.terms import TappedLayer, Terms, variational_terms

__all__ = ["Corrected"]


class Corrected(Form):
    """CE + alpha * (KL + beta * CE through the bottleneck); the KL is a mean over labelled tokens, as both CEs are."""

    name = "corrected"
    place = 1
    reads = "h / rms(h), response positions"
    compresses = "mean over the N tokens; over D mean or sum, as `kl_reduction` says"
    differs = "the model's final norm before `lm_head`; alpha rises over the first 10% of the steps"
    uses = HEADED | {"kl_reduction", "free_bits", "adaptive"}
    overload_remedy = "a smaller alpha, or form: controlled, which finds the weight"
    closed_remedy = f"free_bits, form: controlled with a kl_target, or {NO_HEAD}"
    weak_remedy = f"a larger alpha, form: controlled with a kl_target, or {NO_HEAD}"

    def terms(self, layer: TappedLayer) -> Terms:
        """Sum the KL over labelled tokens; over dimensions sum or average it, as `kl_reduction` says."""
        posterior = layer.head.encode(rms_normalize(layer.hidden_NH))
        kl_ND = kl_to_standard_normal(*posterior)
        weighed_ND = kl_ND if layer.weights_N is None else kl_ND * layer.weights_N[:, None]
        penalty = with_free_bits(weighed_ND, self.settings.free_bits)
        if self.settings.kl_reduction == "mean":
            penalty = penalty / kl_ND.size(1)
        return variational_terms(layer, posterior, kl_ND, penalty, self.settings.predict_tokens)
