"""Relational memory (Santoro et al. 2018): a recurrent layer whose memory slots attend to each other and the input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from aigc_text.models.rnn.model import RecurrentState


class RelationalMemory(nn.Module):
    """Stands where `RecurrentLayers` may stand: (B, T, input_size) to (B, T, slots * size).

    At each step the memory M (B, S, H) attends to itself and to the input x, a feed-forward layer follows, both with
    what they read added and normalised; gates decide how much of M is kept (their equations 5 to 10, gates by unit):

        A = M + attention(M, [M; x])    M' = A + mlp(A)    M = sigmoid(f) M + sigmoid(i) tanh(M')

    What depends on x alone is computed for all steps at once.

    Args:
        input_size: E.
        slots: S; RelGAN has 1.
        size: H, width of a slot.
        heads: of the attention; RelGAN has 2 of 256.
    """

    def __init__(self, input_size: int, slots: int, size: int, heads: int) -> None:
        super().__init__()
        self.slots, self.size, self.heads = slots, size, heads
        self.input = nn.Linear(input_size, size)
        self.attention = nn.Linear(size, 3 * size)
        self.mlp = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU())
        self.norms = nn.ModuleList([nn.LayerNorm(size), nn.LayerNorm(size)])
        self.input_gates, self.memory_gates = nn.Linear(size, 2 * size), nn.Linear(size, 2 * size, bias=False)

    def forward(
        self,
        x: torch.Tensor,
        state: RecurrentState | None = None,
        mask: torch.Tensor | None = None,
        use_cache: bool = True,
    ) -> tuple[torch.Tensor, RecurrentState | None]:
        """Reads on from a state; see `RecurrentLayers.forward`."""
        b, t, _ = x.shape
        read = self.input(x)  # (B, T, H)
        of_input, gates = self.attention(read), self.input_gates(read)  # (B, T, 3 H), (B, T, 2 H)
        memory = state.layers[0][0][0].view(b, self.slots, self.size) if state is not None else self.first(x)
        outputs = []
        for n in range(t):
            after = self._step(memory, of_input[:, n], gates[:, n])
            memory = after if mask is None else torch.where(mask[:, n, None, None].bool(), after, memory)
            outputs.append(memory.flatten(1))
        seen = t + (state.seen if state is not None else 0)
        after_all = RecurrentState([(memory.flatten(1)[None],)], seen) if use_cache else None
        return torch.stack(outputs, 1), after_all

    def first(self, x: torch.Tensor) -> torch.Tensor:
        """The memory before the first token: slot s is the s-th unit vector, so that slots differ."""
        return torch.eye(self.slots, self.size, device=x.device, dtype=x.dtype).expand(len(x), -1, -1)

    def _step(self, memory: torch.Tensor, of_input: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        """The memory (B, S, H) after one token, of which `attention` and `input_gates` gave (B, 3 H) and (B, 2 H)."""
        b = len(memory)
        both = torch.cat([self.attention(memory), of_input[:, None].to(memory.dtype)], 1)  # (B, S + 1, 3 H)
        q, k, v = both.view(b, self.slots + 1, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, S + 1, H / heads)
        found = F.scaled_dot_product_attention(q[:, :, : self.slots], k, v)
        a = self.norms[0](memory + found.transpose(1, 2).flatten(2))
        a = self.norms[1](a + self.mlp(a))
        # The forget gate begins open (a bias of 1), the input gate in the middle, as in RelGAN.
        forget, let_in = (gates[:, None] + self.memory_gates(memory.tanh())).chunk(2, 2)
        return torch.sigmoid(forget + 1) * memory + torch.sigmoid(let_in) * a.tanh()
