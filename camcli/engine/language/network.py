"""A vision-language network as one that scores given texts, and that proposes texts of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from camcli.models.precision import at_least_float32


class Proposals(NamedTuple):
    """Texts (N,K,L), the best of each image first, and their probabilities (N,K)."""

    texts: Tensor
    probabilities: Tensor


class Teller(nn.Module):
    """Scores parts of texts about images, all of it differentiable.

    `network` is a BLIP for captions or, where `question` (Q,) is given, for answers to it. Texts
    are (N,K,L) token indices: the start token, words, the end token, padding.
    """

    def __init__(self, network: nn.Module, question: Tensor | None = None) -> None:
        super().__init__()
        self.network: Any = network
        self.question: Tensor | None
        self.register_buffer("question", question, persistent=False)

    def forward(self, images: Tensor, texts: Tensor, parts: Tensor) -> Tensor:
        """The scores of P parts for each image, (N,P): sums of their tokens' log-probabilities.

        Each token's is that behind the true tokens before it (teacher forcing). `parts`
        (N,P,K,L-1) are 1 for the tokens, the start token left out, that belong to a part.
        """
        each = self.log_probabilities(self.memory(images), texts)
        return torch.einsum("npkl,nkl->np", parts.to(each), each)

    def memory(self, images: Tensor) -> Tensor:
        """What the decoder looks at, (N,S,D): the image's tokens, or the question's that saw it."""
        tower = self.network.vision_model
        # By its parts: as a whole it would run its last norm again, for a pooled token not needed.
        blocks = tower.encoder(inputs_embeds=tower.embeddings(images))
        seen: Tensor = tower.post_layernorm(blocks.last_hidden_state)
        if self.question is None:
            return seen
        question = self.question.expand(len(images), -1)
        found = self.network.text_encoder(
            input_ids=question,
            attention_mask=torch.ones_like(question),
            encoder_hidden_states=seen,
        )
        memory: Tensor = found.last_hidden_state
        return memory

    def log_probabilities(self, memory: Tensor, texts: Tensor) -> Tensor:
        """Of each token but the first behind those before it, (N,K,L-1)."""
        count = texts.shape[1]
        flat = texts.flatten(0, 1)
        # Padding is behind the words, where a decoder does not look: it needs no mask.
        logits: Tensor = self.network.text_decoder(
            input_ids=flat[:, :-1],
            attention_mask=torch.ones_like(flat[:, :-1]),
            encoder_hidden_states=memory.repeat_interleave(count, 0),
            use_cache=False,
        ).logits
        found: Tensor = at_least_float32(logits).log_softmax(-1).gather(2, flat[:, 1:, None])
        return found.view(*texts.shape[:2], -1)

    @torch.no_grad()
    def proposals(self, memory: Tensor, count: int, longest: int, beams: int = 4) -> Proposals:
        """The network's own `count` texts for each image, of at most `longest` words' tokens."""
        facts = self.facts
        start = torch.full((len(memory), 1), facts.start, device=memory.device)
        found = self.network.text_decoder.generate(
            input_ids=start,
            attention_mask=torch.ones_like(start),
            encoder_hidden_states=memory,
            eos_token_id=facts.end,
            pad_token_id=facts.padding,
            num_beams=max(2 * count, beams),
            num_return_sequences=count,
            max_new_tokens=min(longest + 1, facts.longest - 1),
            do_sample=False,
            length_penalty=0.0,  # by probability alone
        ).view(len(memory), count, -1)
        # `generate` fills with end tokens where the padding's index is 0.
        ends = found == facts.end
        found = found.masked_fill(ends.cumsum(2) > ends.long(), facts.padding)
        probabilities = self.probabilities(memory, found)
        order = probabilities.argsort(dim=1, descending=True, stable=True)
        return Proposals(found.take_along_dim(order[..., None], 1), probabilities.gather(1, order))

    def probabilities(self, memory: Tensor, texts: Tensor) -> Tensor:
        """Of texts (N,K,L), that they end there included, (N,K)."""
        each = self.log_probabilities(memory, texts) * self.real(texts)
        return each.sum(2).exp()

    def real(self, texts: Tensor) -> Tensor:
        """Whether a token, the start token left out, is no padding, (N,K,L-1)."""
        return texts[:, :, 1:] != self.facts.padding

    def words(self, texts: Tensor) -> Tensor:
        """Whether a token, the start token left out, is of a word, (N,K,L-1)."""
        return self.real(texts) & (texts[:, :, 1:] != self.facts.end)

    @property
    def facts(self) -> Facts:
        config = self.network.config.text_config
        return Facts(
            start=config.bos_token_id,
            end=config.sep_token_id,
            padding=config.pad_token_id,
            longest=config.max_position_embeddings,
        )


class Facts(NamedTuple):
    """The decoder's special tokens, and how many tokens it takes."""

    start: int
    end: int
    padding: int
    longest: int
