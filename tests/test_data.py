"The eighteen tasks in both sources, and what a loader answers to faulty data."
import re
import shutil
import unicodedata
from dataclasses import replace
from functools import cache

import datasets
import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from xtl.core.errors import UserError
from xtl.data.preparation import Preparation, languages_of, prepare
from xtl.data.ccgbank import read_ccgbank, tagged_sentences
from xtl.data.rows import MARKED, Rows, read_rows
from xtl.data.lines import MissingData
from xtl.data.sources import DataSettings, source_for
from xtl.data.text import pretraining_texts
from xtl.data.tokens import Encoded, encode
from xtl.encoder.loading import load_tokenizer
from xtl.tasks.languages import LANGUAGES
from xtl.core.steps import Store
from xtl.tasks.paper import INTERMEDIATE, TARGETS, TASKS
from xtl.tasks.recipes import recipe
from xtl.tasks.task import Columns

PMB = {'ccg': {'repository': 'pmb/ccg_supertags', 'config': 'en'}}


@pytest.fixture(scope='module')
def world(written_world):
    return written_world


@pytest.fixture(scope='module')
def mini(world, tmp_path_factory):
    return Preparation(DataSettings(str(world), 'qaa', sources=PMB, max_train=200, max_test=40), Store(tmp_path_factory.mktemp('store')), load_tokenizer('mini'), 'mini')


@pytest.fixture(scope='module')
def real(hub, tmp_path_factory):
    tokenizer = hub.parent/'models'/'xlm-roberta-base-tokenizer'
    tokenizer = AutoTokenizer.from_pretrained(tokenizer) if tokenizer.is_dir() else load_tokenizer('mini')
    return Preparation(DataSettings(str(hub), sources=PMB, max_train=100, max_test=30), Store(tmp_path_factory.mktemp('store')), tokenizer, 'xlmr')


def check(encoded, task, tokenizer, split):
    "What must hold of every tokenised split."
    a, lengths = encoded.arrays, encoded.lengths
    assert encoded.head == task.head and (lengths > 0).all() and lengths.max() <= recipe(task).max_length and len(a['tokens']) == a['start'][-1]
    if split == 'test' and len(task.test) == 1: assert len(set(encoded.gold.id)) == len(encoded.gold)
    if task.head in ('sequence', 'choice'):
        assert a['label'].min() >= 0 and a['label'].max() < len(encoded.labels) and len(a['label']) == len(encoded.gold)
        assert len(np.unique(a['label'])) > 1
    if task.head == 'choice': assert (np.diff(encoded.items) == len(encoded.labels)).all()
    if task.head == 'token':
        words = sum(map(len, encoded.gold.tags))
        assert sorted(a['word'][a['word'] >= 0]) == list(range(words)), 'every word has exactly one first piece'
    if task.head == 'span':
        found = set()
        for row, (first, last) in enumerate(a['answer']):
            if first == 0: continue
            example, lo = a['example'][row], a['start'][row]
            text = encoded.gold.context[example][a['char'][lo + first, 0]:a['char'][lo + last, 1]]
            assert encoded.gold.answers[example][0] in text and len(text) <= len(encoded.gold.answers[example][0]) + 24, (text, encoded.gold.answers[example])
            found.add(example)
        answered = sum(len(x) > 0 for x in encoded.gold.answers)
        assert len(found) >= 0.95*answered
    if task.head == 'retrieval': assert (a['side'] == 0).sum() == (a['side'] == 1).sum() == len(a['pair']) == len(encoded.gold)/2


@pytest.mark.parametrize('name', TASKS)
def test_a_task_loads_from_the_embedded_world(mini, name):
    task = TASKS[name]
    for split, code in [('train', 'qaa')]*bool(task.train) + [('test', c) for c in (('qab', 'qcc') if name in TARGETS else ('qaa',))]:
        folder, records = mini.split(task, split, code, recipe(task))
        encoded = Encoded.load(folder)
        check(encoded, task, mini.tokenizer, split)
        assert all(r['fingerprint'] and r['rows'] > 0 for r in records) and len(records) == len(task.train if split == 'train' else task.test)


@pytest.mark.parametrize('name', TASKS)
def test_a_task_loads_from_real_data(real, name):
    task = TASKS[name]
    held = 0
    for split, code in [('train', 'en')]*bool(task.train) + [('test', c) for c in languages_of(task, real.settings)]:
        try: folder, _ = real.split(task, split, code, recipe(task))
        except MissingData:
            assert (name, code) in {('panx', 'th'), ('bucc', 'de'), ('bucc', 'fr'), ('bucc', 'ru')}, 'the mirror holds it'
            continue
        check(Encoded.load(folder), task, real.tokenizer, split)
        held += 1
    assert held == (2 if name in INTERMEDIATE else {'panx': 40, 'bucc': 1}.get(name, len(task.languages) + bool(task.train)))


def test_the_hubs_misplaced_answers_are_realigned_and_counted(hub, tmp_path):
    prep = Preparation(DataSettings(str(hub)), Store(tmp_path), load_tokenizer('mini'), 'mini')
    _, records = prep.split(TARGETS['xquad'], 'test', 'zh', recipe(TARGETS['xquad']))
    assert records[0]['realigned'] > 20 and records[0]['dropped'] == 0


def test_sentences_of_bucc_keep_their_names(hub, mini, tmp_path):
    "A submission names them."
    real = Preparation(DataSettings(str(hub)), Store(tmp_path), load_tokenizer('mini'), 'mini')
    for prep, code, english in ((mini, 'qab', 'qaa'), (real, 'zh', 'en')):
        names = Encoded.load(prep.split(TARGETS['bucc'], 'test', code, recipe(TARGETS['bucc']))[0]).gold.id
        assert names.is_unique and all(re.fullmatch(rf'{side}-\d{{9}}', n) for side, part in ((code, names[:len(names)//2]), (english, names[len(names)//2:])) for n in part)


def test_real_text_to_pretrain_on_holds_no_test_text(hub, tmp_path):
    texts = pretraining_texts(DataSettings(str(hub)), Store(tmp_path))
    assert {'en', 'th', 'yo', 'sw', 'my'} <= set(texts) and len(texts) == 40
    assert not [t for t in texts['zh'] + texts['ja'] if re.search('[\u3040-\u30ff\u4e00-\u9fff] [\u3040-\u30ff\u4e00-\u9fff]', t)], 'words are joined as they are written'
    test = datasets.load_dataset(str(hub/'google'/'xtreme'), 'XNLI', split='test', cache_dir=str(tmp_path/'hf'))
    read = {code: set(t) for code, t in texts.items()}
    assert not [1 for r in test if r['language'] in read and len(r['sentence1']) > 40 and r['sentence1'].strip() in read[r['language']]]
    questions = datasets.load_dataset(str(hub/'google'/'xtreme'), 'XQuAD.th', split='validation', cache_dir=str(tmp_path/'hf'))
    assert not set(questions['question']) & read['th']


def broken(world, tmp_path, config, split, change):
    "A copy of the world in which one split of XTREME or another repository is changed."
    copy = tmp_path/'world'
    tmp_path.mkdir(exist_ok=True)
    shutil.copytree(world, copy)
    path = next((copy/config).glob(f'{split}-*.parquet'))
    change(datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path/'hf'))).to_parquet(str(path))
    return Preparation(DataSettings(str(copy), 'qaa', sources=PMB), Store(tmp_path/'store'), load_tokenizer('mini'), 'mini')


def set_first(**values):
    return lambda rows: rows.map(lambda row, i: row | values if i == 0 else row, with_indices=True)


def fails(prep, task, split, code, *words):
    with pytest.raises(UserError) as error: prep.split(TASKS[task], split, code, recipe(TASKS[task]))
    assert all(w in str(error.value) for w in words) and '\n' not in str(error.value), str(error.value)


def test_a_label_outside_the_set_is_named(world, tmp_path):
    prep = broken(world, tmp_path, 'google/xtreme/PAWS-X.qaa', 'train', set_first(label='7'))
    fails(prep, 'pawsx', 'train', 'qaa', 'row 0', "'7'", '0, 1')


def of_classes(values, **columns):
    "Rows whose label or tags are numbers of the classes `a` and `b`, whatever the numbers are."
    features = datasets.Features({k: datasets.List(datasets.Value('string')) if isinstance(v[0], list) else datasets.Value('string') for k, v in columns.items()}
                                 | {'label': datasets.List(datasets.ClassLabel(names=['a', 'b'])) if isinstance(values[0], list) else datasets.ClassLabel(names=['a', 'b'])})
    return datasets.Dataset(datasets.table.InMemoryTable(pa.table(columns | {'label': values}, schema=features.arrow_schema)))


def test_a_number_that_no_class_has_is_no_missing_label():
    task = replace(TASKS['mnli'], columns=Columns(('text',), 'label'), labels=('a', 'b'))
    rows = read_rows(of_classes([1, -1, -1], text=['one', 'two', 'six']), task, task.columns, 'here')
    assert rows.labels == ['b'] and rows.reasons == {MARKED: 2}, 'what its makers left out never stops a run'
    with pytest.raises(UserError, match="here, row 1: label '7' is none of a, b"): read_rows(of_classes([1, 7], text=['one', 'two']), task, task.columns, 'here')


@pytest.mark.parametrize('labels', [(), ('a', 'b')])
def test_a_word_without_a_tag_costs_its_sentence_and_many_stop_the_run(labels):
    task = replace(TASKS['ccg'], columns=Columns(('words',), 'label'), labels=labels)
    rows = read_rows(of_classes([[0], [1, None]], words=[['one'], ['two', 'three']]), task, task.columns, 'here')
    assert rows.labels == [['a']] and rows.dropped == 1 and rows.reasons == {'a word has no tag': 1}
    with pytest.raises(UserError, match='here: 2 of 3 rows cannot be used, more than 5% .*a word has no tag: 2'):
        read_rows(of_classes([[0], [None], [None]], words=[['one'], ['two'], ['three']]), task, task.columns, 'here')


def test_a_damaged_file_is_one_line_and_leaves_no_copies(world, tmp_path, capfd):
    shutil.copytree(world, tmp_path/'world')
    path = next((tmp_path/'world'/'google'/'xtreme'/'PAWS-X.qab').glob('test-*.parquet'))
    path.write_bytes(path.read_bytes()[:100])
    prep, task = Preparation(DataSettings(str(tmp_path/'world'), 'qaa'), Store(tmp_path/'store'), load_tokenizer('mini'), 'mini'), TARGETS['pawsx']
    with pytest.raises(UserError, match='PAWS-X.qab, test.*could not be loaded') as error: prepare([(task, 'test', c) for c in ('qaa', 'qab')], prep, {'pawsx': recipe(task, changes={'all': {'max_length': 96}})})
    assert 'mirror' not in str(error.value) and capfd.readouterr().err == '' and not (tmp_path/'store'/'arrow').exists()


def test_an_answer_that_does_not_occur_costs_its_row_alone(world, tmp_path):
    prep = broken(world, tmp_path, 'google/xtreme/XQuAD.qab', 'validation', set_first(answers={'text': ['nowhere at all'], 'answer_start': [3]}))
    folder, records = prep.split(TARGETS['xquad'], 'test', 'qab', recipe(TARGETS['xquad']))
    assert records[0]['dropped'] == 1 and len(Encoded.load(folder).gold) == records[0]['rows'] - 1


def test_answers_that_do_not_occur_stop_the_run_where_they_are_many(world, tmp_path):
    nowhere = {'text': ['nowhere at all'], 'answer_start': [3]}
    prep = broken(world, tmp_path, 'google/xtreme/XQuAD.qab', 'validation', lambda rows: rows.map(lambda row, i: row | {'answers': nowhere} if i < 10 else row, with_indices=True))
    fails(prep, 'xquad', 'test', 'qab', '10 of 120 rows cannot be used', 'its answer is not in its context: 10')


def test_a_question_that_shares_its_id_is_named(world, tmp_path):
    prep = broken(world, tmp_path, 'google/xtreme/XQuAD.qab', 'validation', lambda rows: rows.map(lambda row, i: row | {'id': rows[max(0, i - 1)]['id'] if i == 1 else row['id']}, with_indices=True))
    fails(prep, 'xquad', 'test', 'qab', 'occurs more than once')


def test_an_answer_that_stands_elsewhere_is_realigned(world, tmp_path):
    prep = broken(world, tmp_path, 'google/xtreme/XQuAD.qab', 'validation', lambda rows: rows.map(lambda r: {'answers': r['answers'] | {'answer_start': [s + 1 for s in r['answers']['answer_start']]}}))
    folder, records = prep.split(TARGETS['xquad'], 'test', 'qab', recipe(TARGETS['xquad']))
    gold = Encoded.load(folder).gold
    assert records[0]['realigned'] == len(gold) and all(c[s[0]:].startswith(t[0]) for c, t, s in zip(gold.context, gold.answers, gold.answer_start))


def test_placeholders_and_empty_text_are_counted_and_dropped(world, tmp_path):
    prep = broken(world, tmp_path, 'google/xtreme/PAWS-X.qab', 'test', lambda rows: rows.map(lambda row, i: row | {'sentence1': ('NS', '  ', row['sentence1'])[min(i, 2)]}, with_indices=True))
    folder, records = prep.split(TARGETS['pawsx'], 'test', 'qab', recipe(TARGETS['pawsx']))
    assert records[0]['dropped'] == 2 and len(Encoded.load(folder).gold) == records[0]['rows'] - 2


def test_unlabelled_snli_rows_are_dropped(mini):
    _, records = mini.split(INTERMEDIATE['anli'], 'train', 'qaa', recipe(INTERMEDIATE['anli']))
    assert records[-1]['repository'] == 'stanfordnlp/snli' and 0 < records[-1]['dropped'] < 10


def test_over_long_text_is_windowed_split_or_cut_and_counted(world, tmp_path):
    prep = broken(world, tmp_path, 'google/xtreme/PAN-X.qab', 'test', lambda rows: rows.map(lambda row, i: {k: v*80 for k, v in row.items()} if i == 0 else row, with_indices=True))
    encoded = Encoded.load(prep.split(TARGETS['panx'], 'test', 'qab', recipe(TARGETS['panx']))[0])
    assert encoded.info['cut_or_split'] >= 1 and (encoded.arrays['example'] == 0).sum() > 1
    check(encoded, TARGETS['panx'], prep.tokenizer, 'test')


@pytest.mark.parametrize('answer', ['river', ' river', 'river ', ' long river '])
def test_spaces_around_an_answer_reach_for_no_other_word(answer):
    context = 'zin has a long river here'
    encoded = encode(Rows(['q'], [['zin?'], [context]], [{'text': [answer], 'answer_start': [context.index(answer)]}]), 'span', (), load_tokenizer('mini'), recipe(TARGETS['tydiqa']), {'where': 'here'})
    first, last = encoded.arrays['answer'][0]
    assert context[encoded.arrays['char'][first, 0]:encoded.arrays['char'][last, 1]] == answer.strip() and encoded.gold.answers[0] == [answer]


@pytest.mark.parametrize('name', ['jiant', 'xtreme'])
def test_neighbouring_windows_share_the_stride_of_the_recipe(name):
    how, context = recipe(TARGETS['xquad'], name), ' '.join(f'{n} avo' for n in range(900))
    encoded = encode(Rows(['q'], [['zin?'], [context]], [{'text': ['7'], 'answer_start': [context.index('7')]}]), 'span', (), load_tokenizer('mini'), how, {'where': 'a long context'})
    windows = [{tuple(place) for place in window if place[0] >= 0} for window in np.split(encoded.arrays['char'], encoded.arrays['start'][1:-1])]
    assert len(windows) > 3 and {len(one & other) for one, other in zip(windows, windows[1:])} == {how.stride} == {128}


def test_rows_longer_than_the_encoder_can_read_are_refused(mini):
    with pytest.raises(UserError, match=r"'xquad' .* 384 tokens, but this encoder reads at most 96: shorten them by `--set 'phase3.recipes={all: {max_length: 96, stride: 32}}'`"):
        prepare([(TARGETS['xquad'], 'test', c) for c in ('qab', 'qac')], mini, {'xquad': recipe(TARGETS['xquad'])})


def test_a_source_that_is_named_takes_the_place_of_the_tasks_own_rows_alone():
    settings = DataSettings(sources={'xnli': {'repository': 'some/where', 'config': '{code}'}, 'anli': {'repository': 'other/anli'}})
    xnli, anli = TARGETS['xnli'], INTERMEDIATE['anli']
    assert [source_for(xnli, s, settings).repository for s in (*xnli.train, *xnli.test)] == ['nyu-mll/multi_nli', 'some/where']
    assert [source_for(anli, s, settings).repository for s in anli.train] == ['other/anli']*3 + ['nyu-mll/multi_nli', 'stanfordnlp/snli']


def test_a_missing_column_is_named_with_what_was_found(world, tmp_path):
    prep = broken(world, tmp_path, 'google/xtreme/udpos.' + LANGUAGES['qab'].ud, 'test', lambda rows: rows.rename_column('pos_tags', 'tags'))
    fails(prep, 'udpos', 'test', 'qab', 'pos_tags')


def test_tags_and_words_of_unequal_number_cost_their_row_and_many_stop_the_run(world, tmp_path):
    def cut(which): return lambda rows: rows.map(lambda row, i: {'tokens': row['tokens'][1:]} if which(i) else {}, with_indices=True)
    prep = broken(world, tmp_path/'one', 'google/xtreme/PAN-X.qab', 'test', cut(lambda i: i == 3))
    folder, records = prep.split(TARGETS['panx'], 'test', 'qab', recipe(TARGETS['panx']))
    assert records[0]['dropped'] == 1 and len(Encoded.load(folder).gold) == records[0]['rows'] - 1
    prep = broken(world, tmp_path/'many', 'google/xtreme/PAN-X.qab', 'test', cut(lambda i: i % 2))
    fails(prep, 'panx', 'test', 'qab', 'rows cannot be used', 'words and tags differ in number')


def test_a_mirror_without_the_data_set_is_named(world, tmp_path):
    shutil.copytree(world, tmp_path/'world')
    shutil.rmtree(tmp_path/'world'/'tau')
    prep = Preparation(DataSettings(str(tmp_path/'world'), 'qaa'), Store(tmp_path/'store'), load_tokenizer('mini'), 'mini')
    fails(prep, 'csqa', 'train', 'qaa', 'tau/commonsense_qa', 'expected the folder')
    fails(prep, 'xnli', 'test', 'qzz' if 'qzz' in LANGUAGES else 'en', 'XNLI', 'English')


def test_ccgbank_is_read_from_the_users_folder(tmp_path):
    (tmp_path/'ccg').mkdir()
    for name in ('train', 'dev'): (tmp_path/'ccg'/f'{name}.txt').write_text('She\tN\nreads\t(S\\N)/N\nbooks\tN\n\nThey N\nsleep S\\N\n')
    prep = Preparation(DataSettings('hub', sources={'ccg': {'folder': str(tmp_path/'ccg')}}), Store(tmp_path/'store'), load_tokenizer('mini'), 'mini')
    encoded = Encoded.load(prep.split(INTERMEDIATE['ccg'], 'train', 'en', recipe(INTERMEDIATE['ccg']))[0])
    assert encoded.labels == ('(S\\N)/N', 'N', 'S\\N') and [len(t) for t in encoded.gold.tags] == [3, 2]


def test_a_mirror_that_the_environment_names_is_for_studies_of_real_languages(xtl, tmp_path):
    for study, data in (('mini', 'mini'), ('xtreme-base', str(tmp_path))):
        code, text, err = xtl('plan', study, '--yaml', XTL_DATA=str(tmp_path))
        assert code == 0 and f'\n  source: {data}  #' in text, err
    assert xtl('plan', 'mini', '--data', tmp_path)[0] == 2


def rows_of(name, features=None, **columns):
    task = TASKS[name]
    return read_rows(datasets.Dataset.from_dict(columns, features=features), task, task.columns, 'here')


def spans(context, answers, task='squad', **columns):
    "Labels, the characters that the first window's tokens say, what was dropped and realigned."
    rows = rows_of(task, id=['q'], question=['When?'], context=[context], answers=[answers], **columns)
    if not rows.ids: return [], '', rows.dropped, rows.realigned
    encoded = encode(rows, 'span', (), load_tokenizer('mini'), recipe(TASKS[task]), {'where': 'here'})
    first, last = encoded.arrays['answer'][0]
    found = context[encoded.arrays['char'][first, 0]:encoded.arrays['char'][last, 1]] if first else ''
    return rows.labels, found, rows.dropped, rows.realigned


CROSSED = 'Mira crossed the lake in 1931 with two boats.'
AT_1931 = [{'text': ['1931'], 'answer_start': [25]}]


@pytest.mark.parametrize('answers', [{'text': ['1931'], 'answer_start': [25]}, [{'text': '1931', 'answer_start': 25}], {'text': '1931', 'answer_start': 25},
                                     {'text': ['1931'], 'answer_start': [0]}, {'text': ['1931', ''], 'answer_start': [25, -1]}])
def test_answers_are_read_in_each_form_that_they_come_in(answers):
    labels, found, dropped, _ = spans(CROSSED, answers)
    assert labels == AT_1931 and '1931' in found and dropped == 0


@pytest.mark.parametrize('answers', [{'text': [], 'answer_start': []}, None, [], {'text': None, 'answer_start': None}, {'text': [''], 'answer_start': [-1]},
                                     {'text': [''], 'answer_start': [0]}, [{'text': '', 'answer_start': -1}], {'text': '', 'answer_start': -1}])
def test_no_answer_is_read_in_each_spelling(answers):
    assert spans(CROSSED, answers, 'squad2') == ([{'text': [], 'answer_start': []}], '', 0, 0)


def test_an_impossible_question_has_no_answer_whatever_is_plausible():
    answers = {'text': ['1931'], 'answer_start': [25]}
    assert spans(CROSSED, answers, 'squad2', is_impossible=[True])[0] == [{'text': [], 'answer_start': []}]
    assert spans(CROSSED, answers, 'squad2', is_impossible=[False])[0] == AT_1931


def test_an_answer_in_another_unicode_form_is_the_contexts_own_characters():
    seoul = '\uc11c\uc6b8\uc740 \ub300\ud55c\ubbfc\uad6d\uc758 \uc218\ub3c4\uc774\ub2e4.'
    for context, answer in ((unicodedata.normalize('NFD', seoul), '\uc218\ub3c4'), (seoul, unicodedata.normalize('NFD', '\uc218\ub3c4'))):
        rows = rows_of('tydiqa', id=['q'], question=['?a'], context=[context], answers=[{'text': [answer], 'answer_start': [10]}])
        text, start = rows.labels[0]['text'][0], rows.labels[0]['answer_start'][0]
        assert unicodedata.normalize('NFC', text) == '\uc218\ub3c4' and context[start:start + len(text)] == text and rows.realigned == 1
    assert spans(CROSSED, {'text': ['two\u00a0boats'], 'answer_start': [35]})[0] == [{'text': ['two boats'], 'answer_start': [35]}]
    spaced = CROSSED.replace('two boats', 'two\u202fboats')
    assert spans(spaced, {'text': ['two boats'], 'answer_start': [35]})[0] == [{'text': ['two\u202fboats'], 'answer_start': [35]}]
    for context, answer in (('cafe\u0301 noir', 'cafe'), (unicodedata.normalize('NFD', '\uc21c\uc11c'), unicodedata.normalize('NFC', '\uc218'))):
        assert spans(context, {'text': [answer], 'answer_start': [0]})[2] in (0, 1) # never a traceback
    assert spans(unicodedata.normalize('NFD', '\uc21c\uc11c'), {'text': ['\uc218'], 'answer_start': [0]})[2] == 1, 'half a syllable is no answer'


def test_numbers_are_ids_and_null_is_one_of_its_own():
    assert rows_of('squad', id=[7], question=['When?'], context=[CROSSED], answers=AT_1931).ids == ['7']
    assert rows_of('squad', id=[None, None], question=['When?']*2, context=[CROSSED]*2, answers=AT_1931*2).ids == ['0', '1']


@cache
def tokenizer_in(folder): return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize('answer', ['\u570b', '\u2463', 's', '\uff15', '\u1d37'])
@pytest.mark.parametrize('tokenizer', ['mini', 'xlm-roberta-base-tokenizer'])
def test_an_answer_of_one_character_is_a_span_from_left_to_right(answer, tokenizer, request):
    if tokenizer == 'mini': tokenizer = load_tokenizer('mini')
    else:
        folder = request.getfixturevalue('hub').parent/'models'/tokenizer
        if not folder.is_dir(): pytest.skip('no XLM-R tokenizer beside the data')
        tokenizer = tokenizer_in(folder)
    context = {'s': 'It is sufficient .'}.get(answer, f'the team {answer} has {answer} members')
    rows = rows_of('squad', id=['q'], question=['x'], context=[context], answers=[{'text': [answer], 'answer_start': [context.index(answer)]}])
    encoded = encode(rows, 'span', (), tokenizer, recipe(TASKS['squad']), {'where': 'here'})
    first, last = encoded.arrays['answer'][0]
    assert 0 < first <= last and answer in context[encoded.arrays['char'][first, 0]:encoded.arrays['char'][last, 1]]


def five(**changes): return {'label': list('ABCDE'), 'text': list('vwxyz')} | changes


def test_choices_are_read_by_their_own_labels_and_their_number_is_held():
    listed = [{'label': l, 'text': t} for l, t in zip('ABCDE', 'vwxyz')]
    assert rows_of('csqa', question=['a'], choices=[listed], answerKey=['B']).options == [list('vwxyz')]
    assert rows_of('csqa', question=['a'], choices=[five(label=list('EDCBA'))], answerKey=['A']).labels == ['E']
    for broken_choices in (five(text=list('vwxy'), label=list('ABCD')), five(text=list('uvwxyz'), label=list('ABCDEF')), five(text=['v', None, 'x', 'y', 'z'])):
        rows = rows_of('csqa', question=['a', 'b'], choices=[five(), broken_choices], answerKey=['A', 'B'])
        assert rows.ids == ['0'] and rows.dropped == 1
    with pytest.raises(UserError, match='no label: 2'): rows_of('csqa', question=['a']*2, choices=[five()]*2, answerKey=['', None])


def test_null_words_and_contracted_forms():
    rows = rows_of('udpos', tokens=[['du', None], ['du', 'de', 'le']], pos_tags=[['ADP', 'DET'], ['_', 'ADP', 'DET']])
    assert rows.texts == [[['de', 'le']]] and rows.labels == [['ADP', 'DET']] and rows.reasons == {'a word is empty': 1}
    rows = rows_of('panx', tokens=[['de:Berlin', 'de:ist']], ner_tags=[['B-LOC', 'O']])
    assert rows.texts == [[['Berlin', 'ist']]]
    with pytest.raises(UserError, match="'B-MISC' is none of"): rows_of('panx', tokens=[['x']], ner_tags=[['B-MISC']])


def test_labels_as_people_write_them():
    def nli(*labels, **more): return rows_of('mnli', premise=['x']*len(labels), hypothesis=['y']*len(labels), label=list(labels), **more)
    classes = {'premise': datasets.Value('string'), 'hypothesis': datasets.Value('string')}
    swapped = datasets.Features(classes | {'label': datasets.ClassLabel(names=['contradiction', 'neutral', 'entailment'])})
    assert nli(0, features=swapped).labels == ['contradiction']
    with pytest.raises(UserError, match="label '0' is none of entailment"): nli(0)
    assert nli('-', 'neutral').reasons == {MARKED: 1}
    assert rows_of('mnli', premise=['n/a', 'None', 'null'], hypothesis=['null', 'n/a', 'None'], label=['neutral']*3).texts[0] == ['n/a', 'None', 'null']
    assert rows_of('xnli', sentence1=['a'], sentence2=['b'], gold_label=['contradictory']).labels == ['contradiction']
    assert rows_of('pawsx', sentence1=['a'], sentence2=['b'], label=[1.0]).labels == ['1']
    with pytest.raises(UserError, match='here: 2 of 3 rows cannot be used.*no label: 2'): nli('neutral', None, '')


@pytest.mark.parametrize('raw, words', [('Il\tNP\n10\u00a0000\tN/N\n', ['Il', '10\u00a0000']), ('New York\tN\nwins\tS\\NP\n', ['New York', 'wins']),
    ('a\tN\n\u2028\tN\n', ['a', '\u2028']), ('a\u0085b\tN\n', ['a\u0085b']), ('\ufeffThe\tNP/N\nsun\tN\n', ['The', 'sun']),
    ('# sent_id = 1\nThe\tNP/N\n', ['The']), ('The NP/N\r\nsun N\r\n', ['The', 'sun']), ('#\tN\n# N\n', ['#', '#'])])
def test_tagged_files_as_treebanks_have_them(tmp_path, raw, words):
    (tmp_path/'train.txt').write_bytes(raw.encode())
    assert [[w for w, _ in s] for s in tagged_sentences(tmp_path/'train.txt')] == [words]


@pytest.mark.parametrize('raw, line', [(b'The\tN\ncaf\xe9\tN\n', 'line 2: byte 0xe9 is not UTF-8'), ('The\tN\n'.encode('utf-16'), 'is UTF-16'), (b'The\n', 'line 1: expected a token'),
                                       (b'The\tN\tN\n', 'line 1: expected a token'), (b'\tN\n', 'line 1: expected a token')])
def test_what_is_no_tagged_file_is_one_line(tmp_path, raw, line):
    (tmp_path/'train.txt').write_bytes(raw)
    with pytest.raises(UserError, match=line) as error: tagged_sentences(tmp_path/'train.txt')
    assert '\n' not in str(error.value)


def test_ccgbank_is_read_as_ldc_ships_it(tmp_path):
    for n in range(25):
        section = tmp_path/'data'/'AUTO'/f'{n:02d}'
        section.mkdir(parents=True)
        (section/f'wsj_{n:02d}01.auto').write_text(f'ID=wsj_{n:02d}01.1 PARSER=GOLD NUMPARSE=1\n(<T S[dcl] 1 2> (<T NP 0 1> (<L N NNP NNP Mr{n} N>) ) '
                                                   '(<L S[dcl]\\NP VBZ VBZ waits S[dcl]\\NP_1>) )\n')
    for folder in (tmp_path, tmp_path/'data', tmp_path/'data'/'AUTO'):
        rows, what = read_ccgbank(folder, 'train')
        assert [s[0] for s in rows['tokens']] == [f'Mr{n}' for n in range(2, 22)] and rows['ccg_tags'][0] == ['N', 'S[dcl]\\NP'] and what == 'AUTO 02-21'
        assert read_ccgbank(folder, 'validation')[0]['tokens'] == [['Mr0', 'waits']] and read_ccgbank(folder, 'test')[0]['tokens'] == [['Mr23', 'waits']]
    prep = Preparation(DataSettings('hub', sources={'ccg': {'folder': str(tmp_path)}}), Store(tmp_path/'store'), load_tokenizer('mini'), 'mini')
    folder, records = prep.split(INTERMEDIATE['ccg'], 'train', 'en', recipe(INTERMEDIATE['ccg']))
    assert Encoded.load(folder).labels == ('N', 'S[dcl]\\NP') and records[0]['rows'] == 20 and records[0]['config'] == 'AUTO 02-21'
    path = tmp_path/'data'/'AUTO'/'03'/'wsj_0301.auto'
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match='wsj_0301.auto, line 2: expected a derivation'): read_ccgbank(tmp_path, 'train')


def test_one_languages_rows_are_never_anothers(world, tmp_path):
    def prep(task, **place):
        return Preparation(DataSettings(str(world), 'qaa', sources={task: {'repository': 'google/xtreme'} | place}), Store(tmp_path/'store'), load_tokenizer('mini'), 'mini')
    fails(prep('pawsx', config='PAWS-X.qab'), 'pawsx', 'test', 'qab', "every language of 'pawsx'", '{code}', 'language')
    assert prep('pawsx', config='PAWS-X.qab', language='qab').split(TASKS['pawsx'], 'test', 'qab', recipe(TASKS['pawsx']))[1][0]['rows'] > 0
    with pytest.raises(MissingData, match='is in qab alone'): prep('pawsx', config='PAWS-X.qab', language='qab').split(TASKS['pawsx'], 'test', 'qac', recipe(TASKS['pawsx']))
    swahili = Preparation(DataSettings(str(world), 'sw'), Store(tmp_path/'store'), load_tokenizer('mini'), 'mini')
    fails(swahili, 'xnli', 'train', 'sw', 'is English', 'Swahili')
