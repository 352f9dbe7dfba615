"""Checkpoints of the transformers package give the same numbers here, and ours there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from regard.decoding.interface import Hypothesis, Tokens
from regard.decoding.search import Search, search
from regard.errors import InputError
from regard.export.configuration import settings_of
from regard.export.huggingface import Checkpoint, load, save
from regard.models.heads import TokenHead
from regard.models.model import ModelSettings, build_model
from regard.padded import Padded, pad

transformers = pytest.importorskip("transformers")

VOCABULARY, START, END, PADDING = 60, 57, 2, 0
SEED = 2
SOURCES = [[5, 9, 14, 3, 20, 31, END], [7, 44, END], [11, 12, 13, 59, END]]
TARGETS = [[START, 4, 5, 6], [START, 7, 8, 9, 10, 11, 12, 13, 14, 40], [START, 3]]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}

BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": START,
    "forced_eos_token_id": None,
}
T5 = {
    "d_model": 16,
    "d_ff": 40,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 10,
    "decoder_start_token_id": START,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-4,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e3, "factor": 4.0, "original_max_position_embeddings": 8}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "marian-swish": ("MarianMTModel", BART | {"scale_embedding": True, "activation_function": "swish"}),
    "marian-relu": ("MarianMTModel", BART | {"activation_function": "relu"}),
    "bart": ("BartForConditionalGeneration", BART | {"max_position_embeddings": 40}),
    "bart-scaled": ("BartForConditionalGeneration", BART | {"scale_embedding": True, "activation_function": "relu"}),
    "t5": ("T5ForConditionalGeneration", T5 | {"num_heads": 3, "d_kv": 6}),
    "t5-gated": ("T5ForConditionalGeneration", T5 | {"num_heads": 2, "d_kv": 8, "feed_forward_proj": "gated-gelu"}),
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gpt2-inner": ("GPT2LMHeadModel", GPT2 | {"n_inner": 44, "activation_function": "gelu"}),
    "llama": ("LlamaForCausalLM", LLAMA),
    "llama-tied": (
        "LlamaForCausalLM",
        LLAMA | {"tie_word_embeddings": True, "head_dim": 12, "attention_bias": True, "mlp_bias": True},
    ),
    "llama-linear": (
        "LlamaForCausalLM",
        LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0}},
    ),
    "llama-yarn": ("LlamaForCausalLM", LLAMA | {"rope_parameters": YARN}),
}


class Pair(NamedTuple):
    """A model of theirs with random weights, and what was loaded from the folder it was saved in."""

    theirs: Any
    ours: Checkpoint
    folder: Path


@torch.no_grad()
def drawn(name: str) -> Any:
    """A model of theirs whose every weight matters."""
    torch.manual_seed(SEED)
    kind, sizes = CASES[name]
    ids = {"vocab_size": VOCABULARY, "bos_token_id": START, "eos_token_id": END, "pad_token_id": PADDING}
    untied = {"tie_word_embeddings": False} if name == "t5-gated" else {}
    model = getattr(transformers, kind)(getattr(transformers, kind).config_class(**ids, **sizes, **untied)).eval()
    if untied:
        model.lm_head.weight = torch.nn.Parameter(torch.empty(VOCABULARY, sizes["d_model"]))
    for path, weight in model.named_parameters():
        if not path.endswith("embed_positions.weight") or kind != "MarianMTModel":
            is_norm = "norm" in path or "ln_" in path
            weight.normal_(float(is_norm and path.endswith("weight")), 0.1 if is_norm else 0.3)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()[:, END] += 2  # so that answers end
    return model


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory) -> Pair:
    model, folder = drawn(request.param), tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return Pair(model, load(folder), folder)


def is_decoder_only(pair: Pair) -> bool:
    return not pair.theirs.config.is_encoder_decoder


@torch.no_grad()
def their_log_probs(theirs: Any) -> Tensor:
    """At every real target step, row after row."""
    source, target = pad(SOURCES), pad(TARGETS)
    if theirs.config.is_encoder_decoder:
        logits = theirs(source.values, source.mask.long(), decoder_input_ids=target.values).logits
    else:
        logits = theirs(target.values, attention_mask=target.mask.long()).logits
    return logits[target.mask].log_softmax(-1)


@torch.no_grad()
def our_log_probs(ours: Checkpoint, chunk: int) -> Tensor:
    """The same, advanced over so many steps at a time."""
    model, source, target = ours.model, pad(SOURCES), pad(TARGETS)
    memory = None if ours.settings.encoder.kind == "none" else model.encode(source)
    state, found = model.start(memory, len(TARGETS), room=10), []
    for start in range(0, target.values.shape[1], chunk):
        lengths = (target.lengths - start).clamp(0, chunk)
        decoded, state = model.advance(Padded(target.values[:, start : start + chunk], lengths), memory, state)
        found.append(model.log_probs(decoded, memory))
    return torch.cat(found, 1)[target.mask]


@pytest.mark.parametrize("chunk", [10, 1])
def test_loaded_models_give_their_numbers(pair, chunk):
    expected = their_log_probs(pair.theirs)
    assert expected.std(0).mean() > 0.1  # steps differ
    torch.testing.assert_close(our_log_probs(pair.ours, chunk), expected, **CLOSE)


def test_saved_models_give_the_same_numbers_there(pair, tmp_path):
    save(pair.ours, tmp_path)
    again, told = type(pair.theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    torch.testing.assert_close(their_log_probs(again.eval()), their_log_probs(pair.theirs), **CLOSE)


def test_what_was_saved_loads_bit_by_bit(pair, tmp_path):
    save(pair.ours, tmp_path)
    again = load(tmp_path)
    assert again.settings == pair.ours.settings and again.tokens == pair.ours.tokens
    same = zip(again.model.named_parameters(), pair.ours.model.named_parameters(), strict=True)
    assert all(name == other and torch.equal(weight, its) for (name, weight), (other, its) in same)
    written, read = load_file(tmp_path / "model.safetensors"), load_file(pair.folder / "model.safetensors")
    assert written.keys() == read.keys()


def until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(END)] if END in tokens else tokens


def test_greedy_answers_are_theirs(pair):
    limit = {"do_sample": False, "num_beams": 1, "max_new_tokens": 12}
    if is_decoder_only(pair):
        prompts = [[*row, START] for row in SOURCES]
        made = [pair.theirs.generate(torch.tensor([row]), **limit)[0, len(row) :].tolist() for row in prompts]
    else:
        source = pad(SOURCES)
        made = pair.theirs.generate(source.values, attention_mask=source.mask.long(), **limit)[:, 1:].tolist()
    found = [one.tokens for one in searched(pair.ours, Search(max_length=13))]
    assert found == [until_end(row) for row in made]
    assert len({tuple(row) for row in made}) > 1


@torch.no_grad()
def searched(ours: Checkpoint, settings: Search, *forbidden: int) -> list[Hypothesis]:
    """The best answer of every source."""
    source = pad(SOURCES)
    memory = ours.model.encode(source)
    return [row[0] for row in search(ours.model, memory, source.lengths, settings, Tokens(START, END), forbidden)]


@torch.no_grad()
def log_likelihoods(ours: Checkpoint, answers: list[list[int]]) -> Tensor:
    """Of the answers with their ends."""
    model, given = ours.model, pad([[START, *row] for row in answers])
    memory = model.encode(pad(SOURCES))
    decoded, _ = model.advance(given, memory, model.start(memory, len(answers)))
    log_probs = model.log_probs(decoded, memory).gather(-1, pad([[*row, END] for row in answers]).values[..., None])
    return log_probs[..., 0].masked_fill(~given.mask, 0).sum(1)


@pytest.mark.parametrize("pair", ["marian-swish", "marian-relu", "bart-scaled"], indirect=True)
def test_beam_search_scores_as_theirs_and_finds_no_less(pair):
    """Ours may find more: theirs passes over an end that is not among the best tokens of its step.

    No token is used twice, the one at the start included, or tied weights would repeat one for ever.
    """
    source = pad(SOURCES)
    limit = {"do_sample": False, "num_beams": 3, "length_penalty": 0.0, "no_repeat_ngram_size": 1, "max_new_tokens": 30}
    told = {"return_dict_in_generate": True, "output_scores": True}
    made = pair.theirs.generate(source.values, attention_mask=source.mask.long(), early_stopping=False, **limit, **told)
    scores = log_likelihoods(pair.ours, [until_end(row) for row in made.sequences[:, 1:].tolist()])
    torch.testing.assert_close(scores, made.sequences_scores, rtol=1e-5, atol=1e-4)
    found = searched(pair.ours, Search(beam=3, length_penalty=0.0, no_repeat_ngram=1, max_length=31), START)
    assert (torch.tensor([one.score for one in found]) > scores - 1e-4).all()


@torch.no_grad()
@pytest.mark.parametrize("name", ["bart", "gpt2"])
def test_in_double_precision_they_are_one(name, tmp_path):
    theirs = drawn(name)
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path)
    ours.model.double()
    found, expected = our_log_probs(ours, 1), their_log_probs(theirs.double())
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.fixture
def folder(tmp_path) -> Path:
    drawn("marian-relu").save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_single(dtype, tmp_path):
    theirs = drawn("gpt2").to(dtype)
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path)
    weight = theirs.transformer.wte.weight.float()
    assert torch.equal(ours.model.embedding.weight, weight) and ours.model.embedding.weight.dtype == torch.float32


def test_shards_are_read(tmp_path):
    theirs = drawn("t5")
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len([*tmp_path.glob("*.safetensors")]) > 1
    torch.testing.assert_close(our_log_probs(load(tmp_path), 10), their_log_probs(theirs), **CLOSE)


def test_names_without_a_prefix_and_buffers_are_known(tmp_path):
    theirs = drawn("gpt2")
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    bare = {name.removeprefix("transformer."): weight for name, weight in load_file(file).items()}
    save_file(bare | {"h.0.attn.bias": torch.ones(1, 1, 24, 24)}, file)
    torch.testing.assert_close(our_log_probs(load(tmp_path), 10), their_log_probs(theirs), **CLOSE)


def test_a_bias_that_t5_once_had_in_cross_attention_is_passed_over(tmp_path):
    theirs = drawn("t5")
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    save_file(load_file(file) | {unused: torch.ones(32, 3)}, file)
    torch.testing.assert_close(our_log_probs(load(tmp_path), 10), their_log_probs(theirs), **CLOSE)


def test_what_begins_an_answer(folder):
    config = json.loads((folder / "config.json").read_text())
    for said, expected in (
        ({"decoder_start_token_id": None, "bos_token_id": 7}, 7),
        ({"decoder_start_token_id": 5}, 5),
    ):
        (folder / "config.json").write_text(json.dumps(config | said))
        assert load(folder).tokens.start == expected


@pytest.mark.parametrize("other", ["lm_head.weight", "model.decoder.embed_tokens.weight"])
def test_a_shared_weight_has_many_names(other, folder):
    file = folder / "model.safetensors"
    found = load_file(file)
    save_file(found | {other: found["model.shared.weight"].clone()}, file)
    expected = our_log_probs(load(folder), 10)
    save_file({other if name == "model.shared.weight" else name: weight for name, weight in found.items()}, file)
    assert torch.equal(our_log_probs(load(folder), 10), expected)


def test_without_a_bias_there_is_none(folder):
    file = folder / "model.safetensors"
    save_file({name: weight for name, weight in load_file(file).items() if name != "final_logits_bias"}, file)
    assert load(folder).model.head.bias is None


Tensors = dict[str, Tensor]
NORM = "model.encoder.layers.0.final_layer_norm.weight"
SPOILT: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "missing": (lambda found: {name: found[name] for name in found if name != NORM}, f"1 missing: {NORM}"),
    "foreign": (lambda found: found | {f"more.{n}": torch.ones(2) for n in range(6)}, "6 of another model: more.0, "),
    "shape": (lambda found: found | {NORM: torch.ones(31)}, f"{NORM} [31] for [32]"),
    "type": (lambda found: found | {NORM: torch.ones(32).long()}, f"not of the types BF16, F16, F32: {NORM}"),
    "copies": (lambda found: found | {"lm_head.weight": found["model.shared.weight"] + 1}, "lm_head.weight differ"),
}


@pytest.mark.parametrize(("change", "told"), SPOILT.values(), ids=SPOILT)
def test_tensors_that_do_not_fit_are_refused(change, told, folder):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file)
    with pytest.raises(InputError) as caught:
        load(folder)
    assert told in str(caught.value)


def test_at_most_four_are_named(folder):
    save_file({"a": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(InputError) as caught:
        load(folder)
    assert str(caught.value).count("model.decoder.layers") == 4


CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "kind": ("marian-relu", {"model_type": "mariam"}, "did you mean 'marian'"),
    "activation": ("marian-relu", {"activation_function": "tanh"}, "activation_function 'tanh' has no counterpart"),
    "norms": ("marian-relu", {"normalize_before": True}, "normalize_before True"),
    "vocabularies": ("marian-relu", {"decoder_vocab_size": 61}, "decoder_vocab_size"),
    "number": ("marian-relu", {"d_model": 10**30}, "d_model"),
    "word": ("marian-relu", {"vocab_size": "many"}, "vocab_size"),
    "truth": ("marian-relu", {"vocab_size": True}, "vocab_size"),
    "negative": ("marian-relu", {"vocab_size": -1}, "vocab_size"),
    "list": ("bart", {"max_position_embeddings": [1]}, "encoder.positions.length"),
    "heads": ("bart", {"encoder_attention_heads": 5}, "5 heads"),
    "gates": ("t5", {"feed_forward_proj": "gated-gelu"}, "feed_forward_proj"),
    "scale": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    "inner": ("gpt2", {"n_inner": "wide"}, "decoder.feedforward"),
    "biases": ("llama", {"attention_bias": True}, "attention_bias and mlp_bias differ"),
    "rope": ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling"),
    "rope key": ("llama", {"rope_parameters": YARN | {"attention_factor": 1.5}}, "rope_scaling"),
}


@pytest.mark.parametrize(("name", "changes", "told"), CONFIGS.values(), ids=CONFIGS)
def test_what_cannot_be_represented_is_named(name, changes, told):
    config = drawn(name).config.to_dict()
    settings_of(config)
    with pytest.raises(InputError, match=told):
        settings_of(config | changes)


def test_a_key_that_is_missing_is_named():
    with pytest.raises(InputError, match="not given: d_model"):
        settings_of({"model_type": "bart", "vocab_size": 9})


def test_older_rotary_keys_are_read():
    config = drawn("llama").config.to_dict()
    del config["rope_parameters"]
    positions = settings_of(config | {"rope_theta": 50.0, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert positions.decoder.positions.base == 50.0 and positions.decoder.positions.schedule.factor == 2.0


FILES: dict[str, tuple[str, bytes | None, str]] = {
    "pickles": ("model.safetensors", None, "pickled weights are not read"),
    "damage": ("model.safetensors", b"\xff" * 100, "header"),
    "no numbers": ("model.safetensors", b"", "cannot be read"),
    "no config": ("config.json", None, "cannot be read"),
    "no object": ("config.json", b"[1]", "not an object"),
    "nests": ("config.json", b"[" * 100_000, "not an object"),
}


@pytest.mark.parametrize(("file", "content", "told"), FILES.values(), ids=FILES)
def test_files_that_cannot_be_read_are_refused(file, content, told, folder):
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=told):
        load(folder)


def test_shards_lie_in_the_folder(folder):
    (folder / "model.safetensors").rename(folder.parent / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(InputError, match="weight_map"):
        load(folder)


SIDE = {"layers": 1, "heads": 2, "feedforward": 8}
UNLIKE: dict[str, tuple[str, dict[str, Any], str]] = {
    "norms": ("marian", {}, "decoder.norm_first is True, and in marian False"),
    "sides": ("bart", {"norm_first": False, "positions": {"kind": "learned"}}, "decoder.norm_embedded is False"),
    "activation": ("marian", {"activation": "swiglu"}, "marian has nothing like the model's encoder.activation"),
    "positions": ("bart", {}, "bart has nothing like the model's encoder.positions.length"),
}


@pytest.mark.parametrize(("name", "side", "told"), UNLIKE.values(), ids=UNLIKE)
def test_models_that_they_do_not_have_are_refused(name, side, told, tmp_path):
    settings = ModelSettings.model_validate({"width": 16, "encoder": SIDE | side, "decoder": SIDE | side})
    model = build_model(settings, 30, lambda output, widths: TokenHead(output))
    with pytest.raises(InputError, match=told):
        save(Checkpoint(model, settings, name), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_model_of_ours_goes_there(tmp_path):
    side = SIDE | {"norm_first": False, "positions": {"kind": "sinusoidal", "pairing": "halves"}}
    settings = ModelSettings.model_validate({"width": 16, "encoder": side, "decoder": side})
    torch.manual_seed(5)
    ours = build_model(settings, VOCABULARY, lambda output, widths: TokenHead(output)).eval()
    save(Checkpoint(ours, settings, "marian"), tmp_path)
    theirs = transformers.MarianMTModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(their_log_probs(theirs), our_log_probs(load(tmp_path), 10), **CLOSE)
