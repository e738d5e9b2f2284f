"The embedded world: its labels are true, its files have the columns of the real data sets."
import os
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtl.core.errors import UserError
from xtl.world.concepts import CLASS_OF, Phrase, Proposition, entails, verdict
from xtl.world.lexicon import names, words
from xtl.world.sentences import render
from xtl.tasks.languages import LANGUAGES, MINI_LANGUAGES
from xtl.world.datasets import tables
from xtl.world.meanings import LABELS, exchange, fact_choices, FACTS, inference, paraphrase, reading
from xtl.world.mirror import mini_encoder, write_world
from xtl.world.text import documents

SOURCE, FOREIGN = MINI_LANGUAGES[0], MINI_LANGUAGES[1:]
seeds = st.integers(0, 10**9)


@pytest.fixture(scope='module')
def world() -> dict:
    return {t[:3]: t.rows for t in tables()}


@pytest.fixture(scope='module')
def mirror(tmp_path_factory) -> Path:
    return write_world(tmp_path_factory.mktemp('world')/'mirror', evaluation=12)


def xtreme(world: dict, config: str, split: str) -> list[dict]:
    return world['google/xtreme', config, split]


def concepts(text: str, code: str) -> list[set[str]]:
    "What each content word of a text can mean; a name means itself."
    meanings: dict[str, set[str]] = {}
    for concept, forms in words(code).items():
        for form in forms: meanings.setdefault(form, set()).add(concept)
    for name in names(): meanings.setdefault(name, set()).add(name)
    found = [meanings.get(w, {w}) for w in text.replace('.', '').replace('?', '').replace(',', '').split()]
    return [m for m in found if not all(CLASS_OF.get(c) == 'grammar' for c in m)]


def matches(text: str, code: str, other: str, other_code: str) -> bool:
    "Whether every content word of one text has a counterpart in the other."
    there = concepts(other, other_code)
    return all(any(m & o for o in there) for m in concepts(text, code))


@settings(max_examples=60, deadline=None)
@given(seed=seeds, label=st.sampled_from(LABELS))
def test_an_inference_has_the_label_it_was_made_for(seed, label):
    premise, hypothesis = inference(random.Random(seed), label)
    assert verdict(premise, hypothesis) == label and premise != hypothesis


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_entailment_is_reflexive_and_denial_contradicts(seed):
    premise, _ = inference(random.Random(seed), 'neutral')
    denial = Proposition(**{**premise.__dict__, 'negated': not premise.negated})
    assert entails(premise, premise) and verdict(premise, denial) == 'contradiction'


def test_verdicts_by_hand():
    seen = Proposition(Phrase('king', 'old'), 'see', Phrase('dog', number='two'), Phrase('forest'), 'noon')
    def like(**kw): return Proposition(**{**seen.__dict__, **kw})
    assert verdict(seen, like(time='', place=None)) == 'entailment'
    assert verdict(seen, like(patient=Phrase('animal'))) == 'entailment'
    assert verdict(seen, like(place=Phrase('land'))) == 'entailment'
    assert verdict(seen, like(manner='slowly')) == 'neutral'
    assert verdict(seen, like(patient=Phrase('dog', 'big', 'two'))) == 'neutral'
    assert verdict(seen, like(agent=Phrase('king', 'young'))) == 'contradiction'
    assert verdict(seen, like(patient=Phrase('dog', number='three'))) == 'contradiction'
    assert verdict(seen, like(time='night', negated=True)) == 'entailment'
    assert verdict(like(time='', negated=True), like(negated=True)) == 'entailment'
    assert verdict(like(negated=True), like(time='', negated=True)) == 'neutral'


@settings(max_examples=40, deadline=None)
@given(seed=seeds, same=st.booleans(), make=st.sampled_from((paraphrase, exchange)))
def test_paraphrases_are_the_same_proposition_and_the_others_use_the_same_words(seed, same, make):
    first, second = make(random.Random(seed), same)
    assert (first == second) is same
    text, other = (render(p, SOURCE).text.rstrip('.').split() for p in (first, second))
    extra = words(SOURCE)['the'] + words(SOURCE)['not']
    assert sorted(w for w in text if w not in extra) == sorted(w for w in other if w not in extra)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, code=st.sampled_from(MINI_LANGUAGES))
def test_exactly_one_sentence_answers_a_question(seed, code):
    r = reading(random.Random(seed), 3)
    answering = [p for p in r.text if entails(p, Proposition(**{**r.mention.__dict__, r.slot: getattr(p, r.slot)})) and getattr(p, r.slot)]
    assert answering == [r.text[r.answer]]
    sentence = render(r.text[r.answer], code, random.Random(seed))
    start, text = sentence.span(r.slot)
    assert sentence.text[start:start + len(text)] == text


@settings(max_examples=40, deadline=None)
@given(seed=seeds, held_out=st.booleans())
def test_only_the_right_choice_is_a_fact(seed, held_out):
    fact, slot, choices, right = fact_choices(random.Random(seed), held_out)
    true = [c for c in choices if (fact.agent.head, fact.verb, c) in FACTS]
    assert true == [choices[right]] and len(set(choices)) == 5


@pytest.mark.parametrize('code', FOREIGN)
def test_retrieval_pairs_say_the_same(world, code):
    rows = xtreme(world, f'tatoeba.{LANGUAGES[code].tatoeba}', 'validation') + xtreme(world, f'bucc18.{code}', 'test')
    for row in rows:
        assert matches(row['source_sentence'].strip(), code, row['target_sentence'].strip(), SOURCE)
        assert matches(row['target_sentence'].strip(), SOURCE, row['source_sentence'].strip(), code)


@pytest.mark.parametrize('code', FOREIGN)
def test_parallel_items_have_the_same_answer(world, code):
    for config, split in (('XQuAD.{0}', 'validation'), ('MLQA.{0}.{0}', 'test')):
        for row, source in zip(xtreme(world, config.format(code), split), xtreme(world, config.format(SOURCE), split)):
            assert row['id'] == source['id']
            answer, expected = row['answers']['text'][0], source['answers']['text'][0]
            assert matches(answer, code, expected, SOURCE) and matches(expected, SOURCE, answer, code)
            start = row['answers']['answer_start'][0]
            assert row['context'][start:start + len(answer)] == answer


def test_the_right_choice_comes_at_every_place(world):
    places = [row['label'] for row in world['Rowan/hellaswag', 'default', 'train']]
    assert all(0.18 < places.count(label)/len(places) < 0.32 for label in '0123')


def test_training_rows_are_not_evaluation_rows(world):
    for train, test, columns in (('PAWS-X.qaa', 'PAWS-X.qaa', ('sentence1', 'sentence2')), ('SQuAD', 'XQuAD.qaa', ('context', 'question')),
                                 ('udpos.Avalo', 'udpos.Avalo', ('tokens',))):
        seen = {tuple(map(str, (row[c] for c in columns))) for row in xtreme(world, train, 'train')}
        rows = xtreme(world, test, 'validation' if test.startswith('XQuAD') else 'test')
        assert not any(tuple(map(str, (row[c] for c in columns))) in seen for row in rows)


def test_a_seed_fixes_every_row(world):
    assert {t[:3]: t.rows for t in tables(0)} == world
    assert {t[:3]: t.rows for t in tables(1)} != world
    assert documents('qcc', 5, 3) == documents('qcc', 5, 3) != documents('qcc', 5, 4)


def test_every_split_loads(mirror):
    from datasets import get_dataset_config_names, load_dataset
    for readme in mirror.rglob('README.md'):
        repository = str(readme.parent.relative_to(mirror))
        assert sorted(get_dataset_config_names(str(readme.parent))) == sorted(p.name for p in readme.parent.iterdir() if p.is_dir()), repository
    snli = load_dataset(str(mirror/'stanfordnlp/snli'), 'plain_text', split='train')
    assert snli.features['label'].names == list(LABELS) and -1 in snli['label']
    tydiqa = load_dataset(str(mirror/'google/xtreme'), 'tydiqa', split='validation')
    assert {i.split('-')[0] for i in tydiqa['id']} == {LANGUAGES[c].tydiqa for c in MINI_LANGUAGES}


def real_mirror() -> Path | None:
    "The folder with real data, where there is one."
    places = [os.environ.get('XTL_DATA', ''), Path(__file__).parents[2]/'shared/hub']
    return next((Path(p) for p in places if p and (Path(p)/'google/xtreme').is_dir()), None)


@pytest.mark.skipif(real_mirror() is None, reason='no mirror of the real data (XTL_DATA) to compare with')
def test_columns_and_types_are_those_of_the_real_data_sets(mirror):
    def features(path): return __import__('json').loads(pq.read_schema(path).metadata[b'huggingface'])['info']['features']
    def kind(path, root): return (str(path.relative_to(root).parent.parent), path.parent.name.split('.')[0])
    real = {kind(p, real_mirror()): features(p) for p in sorted(real_mirror().rglob('*.parquet'))}
    made = {kind(p, mirror): features(p) for p in sorted(mirror.rglob('*.parquet'))}
    assert len(made) > 15
    assert made.pop(('made-up/coin', 'default')) # which is nobody's
    for key, found in made.items(): assert found == real[key], key


def test_a_wrong_language_and_too_few_items_are_refused(tmp_path):
    with pytest.raises(UserError, match='unknown mini-world language'): documents('en', 1)
    with pytest.raises(UserError, match='at least 12'): write_world(tmp_path/'world', evaluation=3)
    assert not (tmp_path/'world').exists()


def test_the_shipped_encoder_loads_and_knows_every_word(world):
    from transformers import AutoModel, AutoTokenizer
    folder = mini_encoder()
    assert (folder/'model.safetensors').stat().st_size <= 4_000_000
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    assert tokenizer.is_fast and model.config.model_type == 'xlm-roberta'
    texts = [row['context'] for code in MINI_LANGUAGES for row in xtreme(world, f'XQuAD.{code}', 'validation')]
    ids = tokenizer(texts).input_ids
    assert not any(tokenizer.unk_token_id in row for row in ids)
    assert max(map(len, ids)) <= tokenizer.model_max_length
