"""A small byte-level BPE in CLIP's format: the atelier's words are single tokens, other text is split."""

import json
from pathlib import Path
from random import Random
from typing import Final

from tokenizers import Tokenizer, models, trainers
from transformers import CLIPTokenizer

from atelier.captions import draw_caption

MAX_TOKENS: Final = 32
VOCABULARY: Final = 860
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_letters() -> list[str]:
    """The 256 characters of byte-level BPE: printable bytes as they are, the others from code point 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def learn_merges(texts: list[str], tokens: int) -> tuple[list[str], list[tuple[str, str]]]:
    """New tokens and the pairs from which they are merged, in order."""
    letters = byte_letters()
    core = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = core.normalizer, core.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=tokens, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    pairs = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    merges = [(first, second) for first, second in pairs]
    return [first + second for first, second in merges], merges


def build_tokenizer(seed: int = 0) -> CLIPTokenizer:
    """Learn a tokenizer from training captions. Every byte is a token, so any text can be encoded."""
    rng = Random(seed)
    texts = [draw_caption(rng).text for _ in range(20_000)]
    letters = byte_letters()
    alphabet = letters + [letter + "</w>" for letter in letters]
    learnt, merges = learn_merges(texts, VOCABULARY - len(letters) - 2)
    tokens = [*list(dict.fromkeys(alphabet + learnt))[: VOCABULARY - 2], START, END]
    known = set(tokens)
    merges = [pair for pair in merges if "".join(pair) in known]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        model_max_length=MAX_TOKENS,
        padding_side="right",
    )


def load_or_build_tokenizer(folder: Path, seed: int) -> CLIPTokenizer:
    """The tokenizer in a folder, learnt and saved if there is none: weights work with their own tokenizer only."""
    if not folder.exists():
        build_tokenizer(seed).save_pretrained(folder)
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer
