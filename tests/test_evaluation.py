"From logits and vectors to scores: answers and no answers, retrieval in memory and on disk, BUCC's original files, intermediate tasks, and what a study makes of them."
import io
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import load_dataset
from hypothesis import given, settings, strategies as st
from studies import finished, tiny

from xtl.data import tokenised
from xtl.evaluation import decoding, vectors
from xtl.data.batches import collate
from xtl.evaluation.decoding import best_span, predict_tags
from xtl.evaluation.languages import PREDICT
from xtl.evaluation.vectors import embed
from xtl.report.findings import find
from xtl.report.words import caveats
from xtl.data.bucc import BuccSplit, Corpus
from xtl.core.errors import UserError
from xtl.core.files import read_json
from xtl.data.preparation import Preparation
from xtl.data.lines import MissingData
from xtl.data.sources import DataSettings
from xtl.data.tokens import Encoded, encode_corpora
from xtl.encoder.heads import HeadSpec
from xtl.encoder.loading import load_encoder, load_tokenizer
from xtl.encoder.model import TransferModel
from xtl.evaluation.decoding import (
    Answers, answer_or_not, evaluation_batches, null_threshold, read_answers, read_logits)
from xtl.evaluation.languages import evaluate_intermediate, evaluate_retrieval, gold_of
from xtl.evaluation.vectors import RetrievalSettings, gold_pairs, sentence_names, special_tokens, vector_places
from xtl.evaluation.metrics import squad2_scores
from xtl.core.steps import Store
from xtl.study.designs import cells
from xtl.study.presets import read_study, study_from
from xtl.tasks.paper import INTERMEDIATE, TARGETS
from xtl.tasks.recipes import Recipe
from xtl.transfer.cell import planned_cell, run_cell
from xtl.transfer.tables import cell_intermediate
from xtl.transfer.phase2 import Cooldown, intermediate
from xtl.transfer.subset import IntermediateRun
from xtl.transfer.learned import intermediate_scores
from xtl.transfer.phase3 import target_run
from xtl.transfer.collected import collect
from xtl.transfer.models import find_trained
from xtl.transfer.results import stale_cells, staleness, write_cell
from xtl.transfer.layout import lay_out

LIMITS = settings(deadline=None, max_examples=30)
ONLY_RETRIEVAL = dict(n_tasks=(0,), budgets=(), controls=('none',))

# Made by hand: splits without a tokenizer, models without weights

def flat(rows): return dict(tokens=np.concatenate(rows).astype(np.int32), start=np.cumsum([0, *map(len, rows)]))

def bitext(foreign, english, pairs=None):
    "Sentences as lists of token numbers above 2; 0 and 2 are put around them."
    rows = [[0, *s, 2] for s in [*foreign, *english]]
    n, m = len(foreign), len(english)
    names = [f'f-{i}' for i in range(n)] + [f'e-{i}' for i in range(m)]
    pair = np.array([(i, n + j) for i, j in (pairs or [(i, i) for i in range(n)])])
    return Encoded('retrieval', (), flat(rows) | dict(side=np.repeat([0, 1], [n, m]), pair=pair), pd.DataFrame(dict(id=names, row=range(n + m))), dict(language='de'))

class Layers(torch.nn.Module):
    "An encoder whose layers are tables: a token means the same wherever it stands."
    def __init__(self, layers=4, width=12, words=400, seed=0):
        super().__init__()
        self.config = SimpleNamespace(num_hidden_layers=layers, hidden_size=width, pad_token_id=1, model_type='tables')
        self.tables = torch.randn(layers + 1, words, width, generator=torch.Generator().manual_seed(seed))

    def forward(self, input_ids, attention_mask, output_hidden_states): return SimpleNamespace(hidden_states=[t[input_ids] for t in self.tables])

class Reader(torch.nn.Module):
    "A model of spans whose logits are a table of the tokens."
    def __init__(self, seed):
        super().__init__()
        self.encoder, self.table = SimpleNamespace(config=SimpleNamespace(pad_token_id=1)), torch.randn(50_000, 2, generator=torch.Generator().manual_seed(seed))

    def forward(self, task, input_ids, attention_mask, options=None): return self.table[input_ids] + input_ids[:, -1:, None] % 7 # and of the window

@st.composite
def bitexts(draw, most=24):
    "Two sides of one length, no sentence twice, and pairs between them."
    n, seed = draw(st.integers(2, most)), draw(st.integers(0, 999))
    rng = np.random.default_rng(seed)
    made = {tuple(rng.integers(3, 400, rng.integers(1, 9)).tolist()): None for _ in range(4*n)}
    sentences = [list(s) for s in made][:2*n]
    half = len(sentences)//2
    return sentences[:half], [s if rng.random() < .3 else t for s, t in zip(sentences[:half], sentences[half:])]

@pytest.fixture(scope='module')
def base(written_world):
    "The settings of the embedded study, on an embedded world that is written once."
    return read_study('mini').but(data=dict(source=str(written_world)), design=dict(controls_expected={}))

@pytest.fixture(scope='module')
def mini(base, tmp_path_factory):
    return Preparation(DataSettings(base.data.source, 'qaa', sources=base.data.sources), Store(tmp_path_factory.mktemp('store')), load_tokenizer('mini'), 'mini')

def rows_of(prep, task, split='test', code='qaa', **recipe): return Encoded.load(prep.split((INTERMEDIATE | TARGETS)[task], split, code, Recipe(**{'max_length': 96, 'stride': 24} | recipe))[0])

# Batches

@LIMITS
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=80), tokens=st.integers(40, 400), part=st.integers(1, 90))
def test_every_row_is_read_once_within_the_limit(lengths, tokens, part):
    encoded = Encoded('sequence', (), flat([[5]*n for n in lengths]), pd.DataFrame(), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, 'SORTED', part)
        batches = evaluation_batches(encoded, tokens)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for rows in batches: assert len(rows) == 1 or len(rows)*encoded.lengths[rows].max() <= tokens
    for a, b in zip(batches, batches[1:]): assert b.min() // part >= a.max() // part

@pytest.mark.parametrize('task', ['mnli', 'csqa', 'panx', 'xquad'])
def test_an_item_alone_is_predicted_as_among_others(mini, task, monkeypatch):
    encoded = rows_of(mini, task, max_length=24, stride=6)
    model = TransferModel(load_encoder('mini'), {task: HeadSpec(encoded.head, len(encoded.labels))}, 0)
    together = PREDICT[encoded.head](read_logits(model, task, encoded), encoded)
    monkeypatch.setattr(decoding, 'SORTED', 1)
    assert PREDICT[encoded.head](read_logits(model, task, encoded), encoded) == together

@LIMITS
@given(max_length=st.integers(6, 60), seed=st.integers(0, 99))
def test_every_word_has_the_tag_of_its_first_piece_however_its_sentence_is_split(mini, max_length, seed):
    encoded = rows_of(mini, 'udpos', code='qbb', max_length=max_length)
    table = np.random.default_rng(seed).normal(size=(50_000, len(encoded.labels)))
    batches = [(rows, table[collate(encoded, rows, 1)['input_ids']]) for rows in evaluation_batches(encoded)]
    first = encoded.arrays['tokens'][encoded.arrays['word'] >= 0] # words are numbered in order
    expected = [encoded.labels[t] for t in table[first].argmax(1)]
    found = predict_tags(iter(batches), encoded)
    assert [t for tags in found for t in tags] == expected and list(map(len, found)) == list(map(len, encoded.gold.tags))

# Answers and no answers

@LIMITS
@given(seed=st.integers(0, 999), max_length=st.sampled_from([32, 48, 96]))
def test_batches_change_no_answer_and_the_null_score_is_the_lowest_of_all_windows(mini, seed, max_length):
    encoded, model = rows_of(mini, 'squad2', max_length=max_length, stride=8), Reader(seed)
    batches = list(read_logits(model, 'squad2', encoded))
    whole = read_answers(iter(batches), encoded)
    alone = [(rows[n:n + 1], logits[n:n + 1]) for rows, logits in batches for n in range(len(rows))]
    assert read_answers((alone[i] for i in np.random.default_rng(seed).permutation(len(alone))), encoded) == whole
    assert all(text in context and text for text, context in zip(whole.text.values(), encoded.gold.context))
    logits = {int(r): l for rows, some in alone for r, l in zip(rows, some)}
    for n, i in enumerate(encoded.gold.id):
        windows = np.flatnonzero(encoded.arrays['example'] == n)
        best = max(best_span(logits[r][:encoded.lengths[r]], encoded.arrays['char'][encoded.arrays['start'][r]:encoded.arrays['start'][r + 1], 0] >= 0)[0] for r in windows)
        assert whole.null[i] == pytest.approx(min(float(logits[r][0].sum()) for r in windows) - best, abs=1e-4)

asked = st.lists(st.tuples(st.sampled_from([[], ['Nile'], ['the Nile'], ['San Jose']]), st.sampled_from(['Nile', 'in San', 'Lima', 'the']), st.sampled_from([-2., -1., -.5, 0., 1., np.inf])), min_size=1, max_size=12)

@LIMITS
@given(items=asked, seed=st.integers(0, 99))
def test_no_other_threshold_answers_the_same_questions_better(items, seed):
    gold, answers = {str(n): g for n, (g, _, _) in enumerate(items)}, Answers({str(n): t if d < np.inf else '' for n, (_, t, d) in enumerate(items)}, {str(n): d for n, (_, _, d) in enumerate(items)})
    def f1(threshold): return squad2_scores(gold, answer_or_not(answers, threshold))['f1']
    threshold = null_threshold(gold, answers)
    assert f1(threshold) == pytest.approx(max(f1(t) for t in (-np.inf, *answers.null.values())))
    order = np.random.default_rng(seed).permutation(len(items)).astype(str)
    assert null_threshold({i: gold[i] for i in order}, answers) == threshold

def test_a_threshold_needs_questions():
    with pytest.raises(UserError, match='needs questions'): null_threshold({}, Answers({}, {}))

@pytest.mark.parametrize('seed', range(3))
def test_the_threshold_comes_from_the_half_that_is_not_scored(mini, seed):
    encoded, model = rows_of(mini, 'squad2'), Reader(seed)
    answers, gold = read_answers(read_logits(model, 'squad2', encoded), encoded), gold_of('squad2', encoded)
    odd, even = ({i: gold[i] for i in encoded.gold.id[half::2]} for half in (1, 0))
    kept = answer_or_not(answers, null_threshold(odd, answers))
    scores = evaluate_intermediate(model, 'squad2', encoded)
    assert scores == squad2_scores(even, {i: kept[i] for i in even}) and len(odd) + len(even) == len(encoded.gold) == 120

# Retrieval

ways = st.builds(RetrievalSettings, layer=st.integers(0, 4), pooling=st.sampled_from(['mean', 'cls']), special=st.booleans(), similarity=st.sampled_from(['cosine', 'margin']))

@LIMITS
@given(sides=bitexts(), how=ways, target=st.sampled_from(['tatoeba', 'bucc']), seed=st.integers(0, 99))
def test_the_curve_at_a_layer_is_the_run_of_that_layer(sides, how, target, seed):
    encoder, encoded = Layers(seed=seed), bitext(*sides)
    found = evaluate_retrieval(encoder, target, encoded, encoded, how)
    assert len(found.layers) == 5 and found.layers[how.layer] == found.scores[TARGETS[target].metric]
    for layer in range(5):
        assert evaluate_retrieval(encoder, target, encoded, encoded, replace(how, layer=layer)).scores[TARGETS[target].metric] == found.layers[layer]

@LIMITS
@given(sides=bitexts(), target=st.sampled_from(['tatoeba', 'bucc']), part=st.integers(1, 60), seed=st.integers(0, 99))
def test_neither_order_nor_batches_change_a_retrieval_score(sides, target, part, seed):
    encoder, how = Layers(seed=seed), RetrievalSettings(layer=2, special=False)
    order = np.random.default_rng(seed).permutation(len(sides[0]))
    plain, moved = bitext(*sides), bitext(*([side[i] for i in order] for side in sides))
    first = evaluate_retrieval(encoder, target, plain, plain, how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, 'SORTED', part)
        again, other = evaluate_retrieval(encoder, target, plain, plain, how), evaluate_retrieval(encoder, target, moved, moved, how)
    assert (again.predictions, again.layers) == (first.predictions, first.layers)
    assert other.scores == pytest.approx(first.scores) and other.layers == pytest.approx(first.layers)

@LIMITS
@given(sides=bitexts(), special=st.booleans())
def test_identical_sides_score_100_in_every_layer(sides, special):
    assert evaluate_retrieval(Layers(), 'tatoeba', bitext(sides[0], sides[0]), how=RetrievalSettings(layer=1, special=special)).layers == [100.]*5

@LIMITS
@given(sides=bitexts(), target=st.sampled_from(['tatoeba', 'bucc']), layer=st.integers(0, 4))
def test_vectors_on_disk_give_the_score_of_vectors_in_memory(tmp_path_factory, sides, target, layer):
    encoder, encoded, how, scratch = Layers(), bitext(*sides), RetrievalSettings(layer=layer), tmp_path_factory.mktemp('scratch')
    memory = evaluate_retrieval(encoder, target, encoded, encoded, how, scratch=scratch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, 'IN_MEMORY', 0)
        disk = evaluate_retrieval(encoder, target, encoded, encoded, how, scratch=scratch)
    assert (disk.scores, disk.predictions, disk.layers[layer]) == (memory.scores, memory.predictions, memory.layers[layer])
    assert not list(scratch.iterdir())

def test_large_corpora_take_little_memory(tmp_path, monkeypatch):
    rng, n = np.random.default_rng(0), 6000
    encoder = Layers(layers=24, width=64)
    encoded = bitext(*([rng.integers(3, 400, 4).tolist() for _ in range(n)] for _ in range(2)))
    whole = 25*2*n*64*4
    monkeypatch.setattr(vectors, 'IN_MEMORY', whole/10)
    tracemalloc.start()
    layers = list(embed(encoder, encoded, RetrievalSettings(layer=14), folder=tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < whole/4
    assert [f.dtype for f, _ in layers] == [np.float32 if l == 14 else np.float16 for l in range(25)] and all(f.shape == e.shape == (n, 64) for f, e in layers)
    expected = encoder.tables[14][torch.tensor([[0, *encoded.arrays['tokens'][1:5].tolist(), 2]])].mean(1)[0].numpy()
    assert np.allclose(layers[14][0][0], expected, atol=1e-6)

def test_a_disk_without_room_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match='no room in .* for the sentence vectors of 25 layers'): vector_places(25, 10**12, 1024, 14, tmp_path)
    assert not list(tmp_path.iterdir())

def test_a_layer_that_is_not_there_is_refused_before_anything_runs(base, tmp_path):
    encoded = bitext([[5]], [[6]])
    with pytest.raises(UserError, match='no hidden layer 9'): evaluate_retrieval(Layers(), 'tatoeba', encoded, how=RetrievalSettings(layer=9))
    with pytest.raises(UserError, match='no hidden layer 9'): lay_out(base.but(retrieval=dict(layer=9)), tmp_path/'out')

def test_special_tokens_are_those_of_the_tokenizer(mini):
    encoded = rows_of(mini, 'tatoeba', code='qab')
    batch = collate(encoded, np.arange(20), mini.tokenizer.pad_token_id)
    expected = np.isin(batch['input_ids'], mini.tokenizer.all_special_ids)
    assert np.array_equal(special_tokens(torch.from_numpy(batch['attention_mask'])).numpy() == 1, expected)

@pytest.mark.parametrize('pooling, special', [('mean', True), ('mean', False), ('cls', True)])
def test_pooling_settings_reach_the_vectors(pooling, special):
    encoder, encoded = Layers(layers=1), bitext([[7, 9]], [[8]])
    (foreign, english), _ = embed(encoder, encoded, RetrievalSettings(layer=1, pooling=pooling, special=special))
    read = {'cls': [0], 'mean': [0, 7, 9, 2] if special else [7, 9]}[pooling]
    assert np.allclose(foreign[0], encoder.tables[0][torch.tensor(read)].mean(0), atol=1e-6)

# BUCC's original files

def write_bucc(folder, code, splits, pivot='qaa'):
    "Corpora in the original layout: split -> foreign sentences, English ones, gold pairs of their places."
    folder.mkdir(parents=True, exist_ok=True)
    for split, (foreign, english, gold) in splits.items():
        for side, sentences in ((code, foreign), (pivot, english)):
            (folder/f'{code}-{pivot}.{split}.{side}').write_text(''.join(f'{side}-{n:09d}\t{s}\n' for n, s in enumerate(sentences)), encoding='utf-8')
        (folder/f'{code}-{pivot}.{split}.gold').write_text(''.join(f'{code}-{f:09d}\t{pivot}-{e:09d}\n' for f, e in gold))

@pytest.fixture(scope='module')
def corpora(mini, tmp_path_factory):
    "The embedded world's pairs, shuffled among sentences of both sides that translate nothing."
    root, folder, cache = Path(mini.settings.data), tmp_path_factory.mktemp('corpora'), str(tmp_path_factory.mktemp('arrow'))
    def pairs(config, split): return [(r['source_sentence'].strip(), r['target_sentence'].strip()) for r in load_dataset(str(root/'google'/'xtreme'), config, split=split, cache_dir=cache)]
    known, hidden, others = pairs('bucc18.qab', 'validation'), pairs('bucc18.qab', 'test'), pairs('tatoeba.qab', 'validation')
    def buried(real, distractors, seed):
        rng = np.random.default_rng(seed)
        sides = [[p[side] for p in real] + [d[side] for d in distractors[side::2]] for side in (0, 1)]
        orders = [rng.permutation(len(s)) for s in sides]
        places = [np.argsort(o) for o in orders]
        return [sides[0][i] for i in orders[0]], [sides[1][i] for i in orders[1]], [(places[0][n], places[1][n]) for n in range(len(real))]
    write_bucc(folder/'bucc2018', 'qab', {'sample': buried(known, others[:40], 0), 'training': buried(hidden, others[40:], 1)})
    return folder

def bucc_study(base, folder, **changes):
    data = dict(languages=('qab',), sources={'bucc': {'folder': str(folder)}}) | changes
    return base.but(data=data, design=dict(targets=('bucc',)) | ONLY_RETRIEVAL)

def test_a_study_mines_the_corpora_of_a_folder(base, corpora, tmp_path):
    space = lay_out(bucc_study(base, corpora, max_test=10), tmp_path/'out')
    encoded, development = (space.prepared.load('bucc', split, 'qab') for split in ('test', 'development'))
    sides = [(corpora/'bucc2018'/f'qab-qaa.training.{code}').read_text().splitlines() for code in ('qab', 'qaa')]
    assert [int((encoded.arrays['side'] == s).sum()) for s in (0, 1)] == [len({line.split('\t')[1] for line in lines}) for lines in sides]
    assert len(gold_pairs(encoded)) == 120 < len(sides[0])
    record = next(r for r in read_json(space.out/'data.json') if r['part'] == 'test')
    assert (record['repository'], record['split'], record['rows']) == (str(corpora), 'training', sum(map(len, sides)))
    folder = target_run(space, ('bucc',), None, 0.0, 0)
    scores = pd.read_parquet(folder/'scores.parquet').set_index('metric').score
    again = evaluate_retrieval(load_encoder('mini'), 'bucc', encoded, development)
    assert scores.to_dict() == again.scores and 5 < scores['f1'] < 100 and len(pd.read_parquet(folder/'layers.parquet')) == 4
    assert {line for p in again.predictions for line in ['\t'.join(p)]} == set((folder/'predictions'/'bucc2018'/'test-qab.tsv').read_text().splitlines())
    assert len((space.out/'gold'/'bucc2018'/'test-qab.tsv').read_text().splitlines()) == 120

def test_the_report_says_whether_the_corpora_were_mined(base, corpora, tmp_path):
    notes = {}
    for name, study in {'folder': bucc_study(base, corpora), 'hub': bucc_study(base, corpora, sources={})}.items():
        space = lay_out(study, tmp_path/name)
        cell = cells(study)[0]
        write_cell(space, cell, run_cell(space, cell))
        collect(space.out)
        notes[name] = ' '.join(caveats(find(space.out)))
    assert 'gold pairs alone' in notes['hub'] and 'gold pairs alone' not in notes['folder']

def test_a_pair_of_languages_that_the_folder_lacks_is_left_out_and_named(base, corpora, tmp_path):
    space = lay_out(bucc_study(base, corpora, languages=None), tmp_path/'out')
    assert space.prepared.languages('bucc') == ['qab'] and {m['language'] for m in space.prepared.missing} >= {'qba', 'qcc'}
    only = tmp_path/'only'
    write_bucc(only, 'qab', {'training': (['a', 'b'], ['c', 'd'], [(0, 0)])})
    with pytest.raises(MissingData, match='qab-qaa.sample.qab is not there'): lay_out(bucc_study(base, only), tmp_path/'none')

def test_a_sentence_of_several_names_is_read_once_and_its_pairs_stay_in_the_gold(mini):
    corpora = BuccSplit(Corpus(('s0', 's1', 's2'), ('Ja.', 'Nein.', 'Ja.')), Corpus(('t0', 't1'), ('Yes.', 'No.')), frozenset({('s2', 't0'), ('s1', 't1')}))
    arrays, gold, _ = encode_corpora(corpora, mini.tokenizer, Recipe())
    encoded = Encoded('retrieval', (), arrays, gold, {})
    assert sentence_names(encoded) == ([None, 's1'], ['t0', 't1']) and arrays['side'].tolist() == [0, 0, 1, 1]
    assert sorted(gold_pairs(encoded)) == [('s1', 't1'), ('s2', 't0')]

def test_a_folder_is_refused_for_other_tasks(base, tmp_path):
    with pytest.raises(UserError, match='only ccg and bucc'): lay_out(bucc_study(base, tmp_path, targets=('xnli',), sources={'xnli': {'folder': str(tmp_path)}}), tmp_path/'out')

# What a study makes of it

def test_retrieval_settings_reach_a_study_and_its_store(base, tmp_path):
    plain = base.but(data=dict(languages=('qba',)), design=dict(targets=('tatoeba',)) | ONLY_RETRIEVAL)
    space, cell = lay_out(plain, tmp_path/'out'), cells(plain)[0]
    encoder, encoded = load_encoder('mini'), space.prepared.load('tatoeba', 'test', 'qba')
    write_cell(space, cell, run_cell(space, cell))
    ways = {RetrievalSettings(): {}, RetrievalSettings(pooling='cls'): dict(retrieval=dict(pooling='cls')), RetrievalSettings(special=False): dict(retrieval=dict(special_tokens=False)),
            RetrievalSettings(similarity='margin'): dict(retrieval=dict(tatoeba_similarity='margin')), RetrievalSettings(layer=1): dict(retrieval=dict(layer=1))}
    folders = set()
    for how, changes in ways.items():
        changed = replace(space, study=plain.but(**changes))
        folder = target_run(changed, ('tatoeba',), None, 0.0, 0)
        folders.add(folder)
        found = evaluate_retrieval(encoder, 'tatoeba', encoded, how=how)
        assert pd.read_parquet(folder/'scores.parquet').score.tolist() == list(found.scores.values()) and pd.read_parquet(folder/'layers.parquet').score.tolist() == found.layers
        assert staleness(changed, cell) == ('changed since: settings' if changes else None)
    assert len(folders) == len(ways)

def test_nothing_is_tokenised_twice(base, tmp_path, monkeypatch):
    read, kept = [], []
    def told(rows, *rest, encode=tokenised.encode):
        read.append(id(rows))
        kept.append(rows) # so that no id is used twice
        return encode(rows, *rest)
    monkeypatch.setattr(tokenised, 'encode', told)
    study = base.but(data=dict(languages=('qab', 'qcc')), phase3=dict(target_flops=1e9),
                     design=dict(targets=('xnli', 'tatoeba'), intermediate=('csqa',), n_tasks=(0, 1), budgets=(1e9,), subset_count=1))
    space = lay_out(study, tmp_path/'out')
    assert len(read) == len(set(read)) == 1 + 2 + 3 + 2 # training rows of both tasks and CSQA's development rows, XNLI in three languages, Tatoeba in two
    with monkeypatch.context() as patch:
        patch.setattr(type(load_tokenizer('mini')), '__call__', lambda *a, **k: pytest.fail('a cell tokenises'))
        for cell in cells(study)[:2]: run_cell(space, cell)
    # laying out again tokenises the probe text that the tokenizer is checked by, and no row
    assert lay_out(study, tmp_path/'out') == space and len(read) == 8

def test_whoever_observes_is_told_the_language_and_a_terminal_shows_a_bar(base, tmp_path, monkeypatch):
    study = base.but(data=dict(languages=('qab', 'qba', 'qcc')), design=dict(targets=('tatoeba',)) | ONLY_RETRIEVAL)
    space, told, screen = lay_out(study, tmp_path/'out'), [], io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, 'stderr', screen)
    run_cell(space, cells(study)[0], told.append)
    assert [(t['phase'], t['of'], t['done'], t['languages']) for t in told[:-1]] == [('evaluation', 'tatoeba', n, 3) for n in range(3)] and told[-1]['phase'] == 'writing'
    assert 'tatoeba' in screen.getvalue() and '3/3' in screen.getvalue()

@pytest.fixture(scope='module')
def nine(base, tmp_path_factory):
    "Phase 2 on all nine tasks, on a sample of their rows."
    study = base.but(data=dict(languages=('qab',), max_train=200, max_test=40), phase2=dict(score_intermediate=True),
                     design=dict(targets=('tatoeba',), n_tasks=(9,), budgets=(4e9,), subset_count=1, controls=()))
    return lay_out(study, tmp_path_factory.mktemp('nine')/'out')

def test_every_intermediate_task_is_scored_after_phase_2(nine):
    cell = cells(nine.study)[0]
    pieces = run_cell(nine, cell)
    write_cell(nine, cell, pieces)
    collect(nine.out)
    table = pd.read_parquet(nine.out/'intermediate.parquet')
    assert table.equals(cell_intermediate(cell, pieces))
    about = ['arm', 'budget_flops', 'n_tasks', 'tasks', 'subset', 'seed', 'flops_intermediate']
    assert list(table.columns) == ['cell', 'task', 'metric', 'score', 'chance', 'place', 'stage', 'stages', *about]
    metrics = table.groupby('task').metric.agg(set).to_dict()
    chance = table.groupby('task').chance.first()
    assert {'mnli', 'csqa', 'hellaswag'} <= set(chance.index[chance.between(15, 45)]) and chance.squad == 0 and 10 < chance.squad2 < 60
    assert set(metrics) == set(INTERMEDIATE) and table.score.between(0, 100).all() and (table.flops_intermediate >= 4e9).all()
    for task in INTERMEDIATE.values(): assert metrics[task.name] >= ({'f1', 'exact_match'} if task.head == 'span' else {'accuracy'})
    assert {'HasAns_f1', 'NoAns_f1'} <= metrics['squad2'] and (table.budget_flops == 4e9).all() and set(table.cell) == {cell.name}

def test_development_rows_are_scored_with_the_heads_and_labels_of_training(nine, monkeypatch):
    from xtl.core import steps
    from xtl.transfer import development, learned
    run, seen = IntermediateRun(nine, nine.study.design.intermediate, 0), {}
    begin = Cooldown(nine, run, 4e9)
    folder = intermediate(run, 4e9)
    assert begin.name == folder.name
    def keep(model, task, encoded, precision):
        seen[task] = (encoded.labels, model.heads[task].out.weight.detach().clone())
        return {'accuracy': 50.}
    monkeypatch.setattr(development, 'evaluate_intermediate', keep)
    monkeypatch.setattr(steps, '_code_of', lambda module: 'another')
    intermediate_scores(begin)
    heads = learned.load_file(folder/'heads.safetensors')
    for task, (labels, weight) in seen.items():
        assert labels == nine.prepared.load(task, 'train', 'qaa').labels and weight.equal(heads[f'{task}.out.weight'])
    assert set(seen) == set(INTERMEDIATE) and len(seen['ccg'][0]) > 1

def test_intermediate_tasks_are_left_alone_where_that_is_asked_for(base, tmp_path):
    study = base.but(data=dict(languages=('qab',)), phase2=dict(score_intermediate=False),
                     design=dict(targets=('tatoeba',), intermediate=('csqa',), n_tasks=(1,), budgets=(1e9,), subset_count=1, controls=()))
    space, cell = lay_out(study, tmp_path/'out'), cells(study)[0]
    assert not any(k.startswith('csqa/test') for k in space.prepared.folders)
    assert len(cell_intermediate(cell, run_cell(space, cell))) == 0

def test_a_control_by_a_task_of_its_own_runs_as_planned(base, tmp_path):
    study = base.but(data=dict(languages=('qab',)), design=dict(
        targets=('tatoeba',), intermediate=('csqa',), n_tasks=(1,), budgets=(1e9,), subset_count=1, controls_expected={'coin': ()}))
    space = lay_out(study, tmp_path/'out')
    cell = next(c for c in cells(study) if c.control == 'expected')
    done = run_cell(space, planned_cell(study, cell))
    learned = cell_intermediate(cell, done)
    assert cell.tasks == ('coin',) and set(learned.task) == {'coin'} and learned.chance.unique() == [50.] and len(done) == 1

def test_a_positive_control_is_trained_and_scored_where_it_must_help_alone_and_held_against_cells_that_have_more(tmp_path, here):
    design = dict(targets=['xnli', 'xquad', 'mlqa', 'tatoeba'], n_tasks=[0], budgets=[2e9], controls=['none'], seeds=[0, 1],
                  controls_expected={'squad': ['mlqa'], 'mnli': []})
    given = tiny(design=design, data=dict(languages=['qab'], max_test=40), phase3=dict(target_flops=2e9))
    space = finished(lay_out(study_from(given, 'a test'), tmp_path/'out'))
    results, plan, ledger = (pd.read_parquet(space.out/f'{n}.parquet') for n in ('results', 'plan', 'ledger'))
    helping = results.cell.str.startswith('expected-squad')
    assert set(results.target[helping]) == {'xquad', 'mlqa'} # which are trained once
    assert results[~helping].groupby('cell').target.apply(set).map(len).eq(4).all() and results.cell.nunique() == 6
    spent, plan = ledger.groupby(['phase', 'cell']).executed_flops.sum(), plan.set_index('cell')
    for phase in ('intermediate', 'target'):
        planned = plan[phase][plan[phase] > 0]
        assert spent[phase].to_dict() == pytest.approx(planned.to_dict(), rel=0.4) # of few steps
    assert plan.target.to_dict() == {c: 2e9*(1 if 'squad' in c else 2) for c in plan.index}
    assert not stale_cells(space) and '6 done' in here('status', space.out)[1]
    found = find(space.out)
    assert found.expected[['task', 'targets', 'freedom']].values.tolist() == [['squad', 'mlqa', 3], ['mnli', 'mlqa, xnli, xquad', 2]]
    scores = results[(results.target == 'mlqa') & (results.language == 'qab')].groupby(['control', 'tasks']).score.mean()
    assert found.expected.gain[0] == pytest.approx(scores['expected', 'squad'] - scores['none', ''])
    assert not len(found.panel.left_out) and set(found.panel.pairs.target) == {'xnli', 'xquad', 'mlqa', 'tatoeba'}
    with pytest.raises(UserError, match="unknown target of cell 'expected-squad-b2e9-r0' 'xnli'"):
        find_trained(space, 'expected-squad-b2e9-r0', 'xnli')
