"""A vision-language network that scores given texts and proposes texts of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from camcli.models.precision import at_least_float32


class Proposals(NamedTuple):
    """Texts (N,K,L), the best of each image first, and their probabilities (N,K)."""

    texts: Tensor
    probabilities: Tensor


class Tokens(NamedTuple):
    """The decoder's special tokens, and the most tokens that a text may have."""

    start: int
    end: int
    padding: int
    longest: int


class TextScorer(nn.Module):
    """A BLIP for captions or, where `question` (Q,) is given, for answers to it.

    Its output for images (N,3,H,W) is a Memory, from which texts are scored.
    """

    def __init__(self, network: nn.Module, question: Tensor | None = None) -> None:
        super().__init__()
        self.network: Any = network
        self.question: Tensor | None
        self.register_buffer("question", question, persistent=False)

    def forward(self, images: Tensor) -> Memory:
        tower = self.network.vision_model
        # Run the parts: the whole runs its last norm again, for a pooled token that nothing needs.
        blocks = tower.encoder(inputs_embeds=tower.embeddings(images))
        states: Tensor = tower.post_layernorm(blocks.last_hidden_state)
        if self.question is not None:
            question = self.question.expand(len(images), -1)
            states = self.network.text_encoder(
                input_ids=question,
                attention_mask=torch.ones_like(question),
                encoder_hidden_states=states,
            ).last_hidden_state
        return Memory(self.network.text_decoder, states, self.tokens)

    @property
    def tokens(self) -> Tokens:
        config = self.network.config.text_config
        return Tokens(
            start=config.bos_token_id,
            end=config.sep_token_id,
            padding=config.pad_token_id,
            longest=config.max_position_embeddings,
        )


class Memory:
    """The states that a decoder attends to, (N,S,D): of N images, or of a question about each.

    Texts are token indices (N,K,L): the start token, words, the end token, padding. Scores keep
    their graph, and each set of texts is decoded once.
    """

    def __init__(self, decoder: Any, states: Tensor, tokens: Tokens) -> None:
        self.decoder = decoder
        self.states = states
        self.tokens = tokens
        self._decoded: dict[Any, Tensor] = {}
        self._proposed: dict[tuple[int, int], Proposals] = {}

    def log_probabilities(self, texts: Tensor) -> Tensor:
        """Return the log-probability of each token but the first, (N,K,L-1).

        Each follows the true tokens before it (teacher forcing).
        """
        key = tuple(texts.shape), tuple(texts.flatten().tolist()), torch.is_grad_enabled()
        if key not in self._decoded:
            self._decoded[key] = self._decode(texts)
        return self._decoded[key]

    def probabilities(self, texts: Tensor) -> Tensor:
        """Return the probability of each text, including that it ends there, (N,K)."""
        each = self.log_probabilities(texts) * self.is_text(texts)
        return each.sum(2).exp()

    @torch.no_grad()
    def proposals(self, count: int, longest: int, beams: int = 4) -> Proposals:
        """Return the network's own `count` texts for each image, of at most `longest` tokens."""
        if (count, longest) not in self._proposed:
            self._proposed[count, longest] = self._propose(count, longest, beams)
        return self._proposed[count, longest]

    def is_text(self, texts: Tensor) -> Tensor:
        """Return whether each token but the first is not padding, (N,K,L-1)."""
        return texts[:, :, 1:] != self.tokens.padding

    def is_word(self, texts: Tensor) -> Tensor:
        """Return whether each token but the first belongs to a word, (N,K,L-1)."""
        return self.is_text(texts) & (texts[:, :, 1:] != self.tokens.end)

    def _decode(self, texts: Tensor) -> Tensor:
        flat = texts.flatten(0, 1)
        # Padding follows the words, and a decoder does not look ahead: it needs no mask.
        logits: Tensor = self.decoder(
            input_ids=flat[:, :-1],
            attention_mask=torch.ones_like(flat[:, :-1]),
            encoder_hidden_states=self.states.repeat_interleave(texts.shape[1], 0),
            use_cache=False,
        ).logits
        found: Tensor = at_least_float32(logits).log_softmax(-1).gather(2, flat[:, 1:, None])
        return found.view(*texts.shape[:2], -1)

    def _propose(self, count: int, longest: int, beams: int) -> Proposals:
        start = torch.full((len(self.states), 1), self.tokens.start, device=self.states.device)
        found = self.decoder.generate(
            input_ids=start,
            attention_mask=torch.ones_like(start),
            encoder_hidden_states=self.states,
            eos_token_id=self.tokens.end,
            pad_token_id=self.tokens.padding,
            num_beams=max(2 * count, beams),
            num_return_sequences=count,
            max_new_tokens=min(longest + 1, self.tokens.longest - 1),
            do_sample=False,
            length_penalty=0.0,  # rank by probability alone
        ).view(len(self.states), count, -1)
        # `generate` fills up with end tokens where the padding's index is 0.
        ends = found == self.tokens.end
        found = found.masked_fill(ends.cumsum(2) > ends.long(), self.tokens.padding)
        probabilities = self.probabilities(found)
        order = probabilities.argsort(dim=1, descending=True, stable=True)
        return Proposals(found.take_along_dim(order[..., None], 1), probabilities.gather(1, order))
