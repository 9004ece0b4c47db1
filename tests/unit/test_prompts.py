"""The prompt set is balanced, and its controls keep what they promise to keep."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tgn.probing.prompts import NEUTRAL, VARIANTS, digest, read_prompts, start_tokens, variants

CONFIG = Path(__file__).parents[2] / "config"
SET = CONFIG / "prompts.csv"
COUNTS = CONFIG / "prompts_tokens.csv"
CATEGORIES = ["factual", "syntactic", "cliche", "novel", "nonsense", NEUTRAL]
TEMPLATE = (
    "{% for m in messages %}<u> {{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} <m>{% endif %}"
)


def tokenizer(start=False, template=None, bos="<s>"):
    words = sorted({word for text in read_prompts(SET)["text"] for word in text.split()})
    specials = ["<s>", "<u>", "<m>"]
    vocabulary = {word: n for n, word in enumerate([*specials, "a", "b", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<m>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if start:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=bos, additional_special_tokens=["<u>", "<m>"]
    )
    made.chat_template = template
    return made


def test_the_set_has_six_categories_of_twenty():
    prompts = read_prompts(SET)
    assert prompts["category"].value_counts().to_dict() == dict.fromkeys(CATEGORIES, 20)
    assert not prompts["text"].str.endswith((".", "!", "?", " ")).any()


@pytest.mark.parametrize("count", [5, 20])
def test_the_kth_prompts_of_all_categories_stand_in_one_band(count):
    prompts = read_prompts(SET, count)
    bands = prompts.groupby("category")["band"].agg(list)
    assert all(own == bands.iloc[0] for own in bands)
    assert set(bands.iloc[0]) == {"short", "medium", "long"}


@pytest.mark.parametrize("count", [5, 20])
@pytest.mark.parametrize("name", ["smollm2", "cl100k_base", "o200k_base"])
def test_categories_have_as_many_tokens(name, count):
    table = read_prompts(SET).merge(pd.read_csv(COUNTS), on="id", validate="one_to_one")
    assert len(table) == 120
    chosen = table.groupby("category").head(count)
    means = chosen.groupby("category")[name].mean()
    assert means.max() - means.min() <= (0 if name == "smollm2" else 0.65)
    ends = table.groupby("band")[name].agg(["min", "max"])
    assert ends.loc["short", "max"] < ends.loc["medium", "min"]
    assert ends.loc["medium", "max"] < ends.loc["long", "min"]


def test_the_first_of_each_category_are_taken_in_order():
    whole, some = read_prompts(SET), read_prompts(SET, 5)
    assert len(some) == 30
    for category, own in some.groupby("category"):
        assert list(own["id"]) == list(whole[whole["category"] == category]["id"][:5])


def test_the_digest_is_of_the_prompts_and_of_each_of_them():
    whole = read_prompts(SET)
    assert digest(whole) == digest(read_prompts(SET))
    changed = whole.copy()
    changed.loc[3, "text"] += "x"
    assert len({digest(whole), digest(changed), digest(read_prompts(SET, 5))}) == 3


@pytest.mark.parametrize("start", [False, True])
def test_variants(start):
    prompts = read_prompts(SET, 5)
    made = tokenizer(start, TEMPLATE)
    ids, missing = variants(prompts, made, seed=1)
    assert start_tokens(made) == ([0] if start else [])
    assert set(ids) | set(missing) == set(VARIANTS)
    assert set(missing) == {"with_start" if start else "without_start"}
    other = ids["without_start" if start else "with_start"]
    head = [0] * start
    for name, text in prompts[["id", "text"]].itertuples(index=False, name=None):
        bare = made.convert_tokens_to_ids(text.split())
        assert ids["plain"][name] == head + bare
        assert other[name] == (bare if start else [0, *bare])
        assert ids["first_token"][name] == bare[:1]
        shuffled, drawn = ids["shuffled_tokens"][name], ids["random_tokens"][name]
        assert shuffled[:start] == drawn[:start] == head
        assert Counter(shuffled) == Counter(head + bare)
        assert len(drawn) == len(bare) + start
        assert not {0, 1, 2} & set(drawn[start:])
        assert made.convert_ids_to_tokens(ids["chat"][name]) == ["<u>", *text.split(), "<m>"]
    assert any(ids["shuffled_tokens"][name] != ids["plain"][name] for name in prompts["id"])


def test_controls_depend_on_the_seed_and_the_prompt_alone():
    made = tokenizer()
    whole, _ = variants(read_prompts(SET), made, seed=1)
    some, _ = variants(read_prompts(SET, 5), made, seed=1)
    other, _ = variants(read_prompts(SET, 5), made, seed=2)
    for control in ("random_tokens", "shuffled_tokens"):
        assert all(whole[control][name] == ids for name, ids in some[control].items())
        assert some[control] != other[control]
    drawn = list(some["random_tokens"].values())
    assert len({tuple(ids) for ids in drawn}) == len(drawn)


def test_what_there_is_not_is_said():
    prompts = read_prompts(SET, 1)
    _, missing = variants(prompts, tokenizer(bos=None), seed=1)
    assert "no start" in missing["with_start"]
    assert "no chat template" in missing["chat"]
    longest = max(len(text.split()) for text in prompts["text"])
    ids, missing = variants(prompts, tokenizer(template=TEMPLATE), seed=1, context=longest)
    assert "plain" in ids
    assert f"{longest + 1} tokens" in missing["with_start"]
    with pytest.raises(ValueError, match=f"{longest} tokens"):
        variants(prompts, tokenizer(), seed=1, context=longest - 1)


def test_a_plain_tokenizer_of_our_own_models_will_do():
    prompts = read_prompts(SET, 1)
    inner = tokenizer().backend_tokenizer
    ids, missing = variants(prompts, inner, seed=1)
    assert ids["plain"] == variants(prompts, tokenizer(), seed=1)[0]["plain"]
    assert {"chat", "with_start", "without_start"} == set(missing)
    assert start_tokens(inner) == []


def test_damaged_sets_are_refused(tmp_path):
    table = read_prompts(SET, 2)
    path = tmp_path / "prompts.csv"
    for damage, words in (
        (table.drop(columns="band"), "no column band"),
        (pd.concat([table, table.head(1)]), "once"),
        (table.assign(text=table["text"].where(table.index != 2, " ")), "empty"),
        (table.assign(band="huge"), "huge"),
    ):
        damage.to_csv(path, index=False)
        with pytest.raises(ValueError, match=words):
            read_prompts(path)
    with pytest.raises(ValueError, match="20 prompts, 21 wanted"):
        read_prompts(SET, 21)
