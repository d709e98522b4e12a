"""A model whose matrix products are added up one term after the other, as GPU kernels for float32 do it, on a CPU.

A float32 kernel of a GPU keeps each value in a register and adds product after product to it, each with one rounding
(FFMA; cuBLAS, CUTLASS). Libraries for CPUs add up in 16 lanes and in blocks, so their errors are smaller. With this, a
machine without a GPU shows what a float32 forward pass on one may be off by: not what a given kernel is off by, since
it may split the sum.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_SOURCE = r"""
#include <string.h>
enum { ROWS = 4, COLUMNS = 64 };
/* out (M, N) = a (M, K) times b (K, N) */
void product(const float *restrict a, const float *restrict b, float *restrict out, long M, long N, long K) {
    #pragma omp parallel for collapse(2) schedule(dynamic)
    for (long n = 0; n < N; n += COLUMNS)
        for (long m = 0; m < M; m += ROWS) {
            long columns = N - n < COLUMNS ? N - n : COLUMNS, rows = M - m < ROWS ? M - m : ROWS;
            float sums[ROWS][COLUMNS];
            memset(sums, 0, sizeof sums);
            for (long k = 0; k < K; k++)
                for (long i = 0; i < rows; i++)
                    for (long j = 0; j < columns; j++)
                        sums[i][j] = __builtin_fmaf(a[(m + i) * K + k], b[k * N + n + j], sums[i][j]);
            for (long i = 0; i < rows; i++)
                memcpy(out + (m + i) * N + n, sums[i], columns * sizeof(float));
        }
}
"""


def in_sequence(model: Any) -> Any:
    """Change a float32 model's linear layers and attention in place, on a CPU with a C compiler."""
    if model.device.type != "cpu" or model.dtype != torch.float32:
        raise SystemExit(f"sequential: on a CPU and in float32, not on {model.device} in {model.dtype}")
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, _Linear(child))
    ALL_ATTENTION_FUNCTIONS.register("in_sequence", _attention)
    model.config._attn_implementation = "in_sequence"
    return model


class _Linear(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight_KN, self.bias_N = linear.weight.detach().t().contiguous(), linear.bias

    def forward(self, x: Tensor) -> Tensor:
        out = _product(x.flatten(0, -2), self.weight_KN).unflatten(0, x.shape[:-1])
        return out if self.bias_N is None else out + self.bias_N


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **others: Any
) -> tuple[Tensor, None]:
    """Causal, without padding; shapes (B, heads, T, D). As PyTorch's math kernel: scaled on both sides."""
    batch, num_heads, length, _ = query.shape
    group = num_heads // key.shape[1]
    later = torch.full((length, length), float("-inf")).triu(1)
    out = torch.empty_like(query)
    for b in range(batch):
        for head in range(num_heads):
            keys, values = key[b, head // group], value[b, head // group]
            weights = _product(query[b, head] * scaling**0.5, (keys * scaling**0.5).t()) + later
            out[b, head] = _product(weights.softmax(-1), values)
    return out.transpose(1, 2), None


def _product(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    a_MK, b_KN = a_MK.contiguous(), b_KN.contiguous()
    out_MN = torch.empty(len(a_MK), b_KN.shape[1])
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (a_MK, b_KN, out_MN)]
    _library().product(*pointers, *(ctypes.c_long(size) for size in (*out_MN.shape, len(b_KN))))
    return out_MN


@functools.cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="ibft-benchmark-") as name:
        folder = Path(name)
        (folder / "product.c").write_text(_SOURCE)
        command = ["cc", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "product.c", "-o", "product.so"]
        subprocess.run(command, cwd=folder, check=True)
        return ctypes.CDLL(str(folder / "product.so"))
