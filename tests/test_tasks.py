"""Tasks and languages that a study defines: what is wrong with a definition is told with its line, every head and format
trains and is scored, keys hold what changes rows and scores, and real data of languages that XTREME lacks."""
import csv
import json

import pandas as pd
import pytest
import yaml
from studies import finished

from xtl.cli.main import answer
from xtl.core.errors import UserError
from xtl.study.designs import cells
from xtl.study.presets import read_study
from xtl.tasks.definitions import define, task_from
from xtl.tasks.languages import LANGUAGES, language
from xtl.tasks.packs import PACKS
from xtl.tasks.paper import task
from xtl.transfer.layout import lay_out, open_workspace

RIGHT = """tasks:
  mine:
    head: sequence
    files:
      train: rows.csv
      test: {ha: rows.csv, lb: rows.csv}
    columns:
      text: text
      label: label
    metric: accuracy
languages:
  xx:
    name: Example
    cc100_gib: 0.3
"""
REPOSITORY = "repository: Davlan/sib200\n    config: '{flores}'\n    split: {train: train, test: test}\n    languages: [ha]"
FILES = "files:\n      train: rows.csv\n      test: {ha: rows.csv, lb: rows.csv}"
WRONG = { # What is changed in the right definition -> the line, and what is said
    ('head: sequence', 'head: tokn'): (3, "did you mean 'token'"),
    ('head: sequence\n    ', ''): (2, 'has no `head`'),
    ('head: sequence', 'head: [token]'): (3, 'must be one of'),
    ('  mine:', '  Mine task:'): (2, 'is no name'),
    ('  mine:', '  xnli:'): (2, 'is taken'),
    ('metric: accuracy', 'metric: f1'): (10, 'accuracy or macro_f1 or mcc'),
    ('metric: accuracy', 'metrics: mcc'): (10, "did you mean 'metric'"),
    ('train: rows.csv', 'train: row.csv'): (5, 'a file that is not there'),
    ('train: rows.csv', 'train: rows.xlsx'): (5, 'must end in .csv'),
    ('train: rows.csv\n      ', ''): (2, 'names no training rows'),
    ('lb: rows.csv', 'qq: rows.csv'): (6, "unknown language 'qq'"),
    ('lb: rows.csv', 'hau: rows.csv'): (6, 'has Hausa (ha) twice'),
    ('test: {ha: rows.csv, lb: rows.csv}', 'test: rows.csv'): (2, 'which `languages`'),
    ('test: {ha: rows.csv, lb: rows.csv}', 'tests: rows.csv'): (6, "did you mean 'test'"),
    ('      label: label', '      lable: label'): (9, "did you mean 'label'"),
    ('      label: label\n', ''): (7, 'does not say which column is `label`'),
    ('      text: text', '      text: [a, b, c]'): (8, 'must name 1 to 2 columns'),
    ('      text: text', '      text: [a, a]'): (8, "has 'a' twice"),
    ('metric: accuracy', 'labels: [1]'): (10, 'two labels or more'),
    ('metric: accuracy', 'labels: {a: b}'): (10, 'must be auto or a list'),
    ('metric: accuracy', 'map: {label: 3}'): (10, 'must map names to values'),
    ('metric: accuracy', 'pivot: en'): (10, 'for the head retrieval alone'),
    ('metric: accuracy', 'split: test'): (10, 'has no effect beside `files`'),
    ('metric: accuracy', 'repository: a/b'): (2, 'leave one out'),
    ('metric: accuracy', 'languages: [ha]'): (10, 'each place names its own'),
    ('metric: accuracy', 'train: {files: rows.csv, metric: f1}'): (10, 'is unknown'),
    (FILES, REPOSITORY.replace('{flores}', '{language}')): (5, 'no name of a language'),
    (FILES, REPOSITORY.replace("'{flores}'", 'hau_Latn').replace('[ha]', '[ha, lb]')): (5, 'would be read as each of ha, lb'),
    (FILES, REPOSITORY.replace('[ha]', '[pcm]')): (5, 'has no such name'),
    (FILES, REPOSITORY.replace('split: {train: train, test: test}', 'kind: x')): (2, 'which `split`'),
    ('cc100_gib: 0.3', 'cc100_gib: much'): (14, 'must be a size in GiB'),
    ('cc100_gib: 0.3', 'joshi: 7'): (14, 'from 0 to 5'),
    ('    name: Example\n', ''): (12, 'has no `name`'),
    ('  xx:', '  sw:'): (12, 'all is known'),
}


@pytest.fixture
def rows(tmp_path):
    (tmp_path/'rows.csv').write_text('text,label\none,yes\ntwo,no\n')
    return tmp_path


@pytest.mark.parametrize('change', WRONG, ids=lambda change: change[1].split('\n')[0][:40] or change[0][:20])
def test_a_wrong_definition_is_told_with_its_line(rows, change):
    assert RIGHT.count(change[0]) == 1
    (rows/'mine.yaml').write_text(RIGHT.replace(*change))
    line, says = WRONG[change]
    code, said = answer(['tasks', str(rows/'mine.yaml')])
    assert code == 2 and f'mine.yaml, line {line}: ' in said and says in said and '\n' not in said, said


def test_a_study_tells_the_same_of_a_file_that_it_names(rows):
    (rows/'mine.yaml').write_text(RIGHT.replace('head: sequence', 'head: tokn'))
    study = dict(name='x', encoder={'name': 'mini'}, tasks='mine.yaml', design=dict(intermediate=[], targets=['mine'], n_tasks=[0], controls=['none']))
    (rows/'study.yaml').write_text(yaml.safe_dump(study))
    assert answer(['plan', str(rows/'study.yaml')])[1].startswith(f"xtl: {rows/'mine.yaml'}, line 3: ")
    (rows/'mine.yaml').write_text(RIGHT)
    assert read_study(str(rows/'study.yaml')).tasks['mine']['files']['train'] == str(rows/'rows.csv')


FAULTS = { # A file's text -> what is said of it
    'text,label\none,yes\ntwo,no,3\n': "rows.csv, line 3: 3 fields, but the first line names 2 columns",
    'text,label\none,yes\n"two,no\n': 'rows.csv, line 3: ',
    'text,lable\none,yes\n': "rows.csv, line 1: unknown column 'label': did you mean 'lable'",
    'text,label,label\none,yes,no\n': "rows.csv, line 1: two columns are called 'label'",
    'text,label\n': 'rows.csv holds no row',
    'text,label\none,yes\n\ntwo,perhaps\n': "rows.csv, line 4, column 'label': the label 'perhaps' is none of",
}


@pytest.mark.parametrize('text', FAULTS)
def test_a_wrong_row_is_told_with_file_line_and_column(rows, text):
    (rows/'rows.csv').write_text(text)
    (rows/'mine.yaml').write_text(RIGHT.replace('metric: accuracy', 'labels: ["yes", "no"]'))
    code, said = answer(['tasks', str(rows/'mine.yaml'), '--check'])
    assert code == 2 and FAULTS[text] in said and '\n' not in said, said


def test_latin_1_and_too_many_empty_rows_are_told(rows):
    (rows/'mine.yaml').write_text(RIGHT)
    (rows/'rows.csv').write_bytes('text,label\none,yes\ntwö,no\n'.encode('latin-1'))
    assert 'rows.csv, line 3: byte 0xf6 is not UTF-8' in answer(['tasks', str(rows/'mine.yaml'), '--check'])[1]
    (rows/'rows.csv').write_text('text,label\n' + 'one,yes\n,no\n'*5)
    assert '5 of 10 rows cannot be used' in answer(['tasks', str(rows/'mine.yaml'), '--check'])[1]


def test_a_look_at_the_rows(rows, capsys):
    (rows/'rows.csv').write_text('text,label\n' + 'zin polu,yes\nzin kefa,no\n'*20 + ',no\n')
    (rows/'mine.yaml').write_text(RIGHT)
    assert answer(['tasks', str(rows/'mine.yaml'), '--check']) == (0, '')
    said = capsys.readouterr().out
    assert '41 rows; dropped: 1 (a text is empty)' in said and 'labels: yes 20, no 20' in said and '<s> zin polu</s>  ->  yes' in said


# Every head and every format, in English and in a language of the study's own; no data set is looked up

def sentences(count):
    return [f'zin {w} {v}' for w in ('polu', 'kefa', 'miro', 'tasa') for v in ('sune', 'lado', 'veki')][:count]


def own_tasks(folder):
    "A task of every head, with rows in every format; returns their definitions."
    texts = sentences(12)
    with (folder/'topic.csv').open('w', newline='') as file:
        csv.writer(file).writerows([['text', 'label'], *((t, int('polu' in t or 'kefa' in t)) for t in texts)])
    (folder/'pairs.tsv').write_text('first\tsecond\tsame\n' + ''.join(f'{t}\t{texts[n//2]}\t{n % 2}\n' for n, t in enumerate(texts)))
    (folder/'choice.jsonl').write_text(''.join(json.dumps(dict(start=t, ends=['polu', 'kefa', 'miro'], right=n % 3)) + '\n' for n, t in enumerate(texts)))
    two = [dict(start=t, a='polu', b='kefa', right=str(n % 2)) for n, t in enumerate(texts[:6])]
    pd.DataFrame(two).to_parquet(folder/'choice.parquet')
    (folder/'tags.conll').write_text('\n'.join(''.join(f"{w}\t_\t{'B-X' if w in ('polu', 'kefa') else 'O'}\n" for w in t.split()) for t in texts))
    (folder/'spans.csv').write_text('q,context,answer,at\n' + ''.join(f'zin,{t},{t.split()[1]},4\n' for t in texts))
    for code in ('en', 'xx'):
        (folder/f'{code}.tsv').write_text('n\tsentence\n' + ''.join(f'{n}\t{t}{" lado"*(code == "xx")}\n' for n, t in enumerate(texts)))
    def place(name, codes=('en', 'xx')): return dict(train=str(folder/name), test={c: str(folder/name) for c in codes})
    choice = dict(files=str(folder/'choice.jsonl'), columns=dict(text='start', options='ends', label='right'), labels=['0', '1', '2'])
    return {
        'topic': dict(head='sequence', files=place('topic.csv'), columns=dict(text='text', label='label'), metric='mcc', map={'label': {0: 'no', 1: 'yes'}}),
        'pairs': dict(head='sequence', files=place('pairs.tsv'), columns=dict(text=['first', 'second'], label='same'), metric='macro_f1'),
        'ends': dict(head='choice', files=dict(test={'xx': str(folder/'choice.parquet')}), columns=dict(text='start', options=['a', 'b'], label='right'), train=choice),
        'tags': dict(head='token', files=place('tags.conll'), columns=dict(text='1', label='-1')),
        'spans': dict(head='span', files=place('spans.csv'), columns=dict(text=['q', 'context'], label='answer', start='at'), metric='exact_match'),
        'parallel': dict(head='retrieval', files=dict(test={c: str(folder/f'{c}.tsv') for c in ('en', 'xx')}), pivot='en', columns=dict(text='sentence', id='n'))}


def own_study(folder, **design):
    tasks = own_tasks(folder)
    study = dict(
        name='own', encoder=dict(name='mini'), tasks=tasks,
        languages=dict(xx=dict(name='Example', family='None known', script='Latin')),
        design=dict(dict(intermediate=['pairs', 'tags'], targets=list(tasks), budgets=[2e7], n_tasks=[0, 2], controls=['none']), **design),
        phase2=dict(learning_rate=5e-4, score_intermediate=True),
        phase3=dict(target_flops=2e7, recipes={'all': dict(learning_rate=5e-4, max_length=24, batch_size=8, stride=8)}))
    (folder/'own.yaml').write_text(yaml.safe_dump(study, sort_keys=False))
    return folder/'own.yaml'


def ran(space):
    "Every cell of a study, in this process; its tables."
    finished(space)
    return {n: pd.read_parquet(space.out/f'{n}.parquet') for n in ('results', 'intermediate')}


@pytest.fixture(scope='module')
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp('own')
    space = lay_out(read_study(str(own_study(folder))), folder/'out')
    return space, ran(space)


def scored(folder, space):
    "What `xtl score` says of a cell's predictions."
    code, said = answer(['score', str(folder/'predictions'), str(space.out/'gold'), '--json', str(folder.parent/'scores.json')])
    assert code == 0, said
    found = json.loads((folder.parent/'scores.json').read_text())['languages']
    return {(r['target'], r['language'], r['metric']): r['score'] for r in found}


def table_of(table, cell): return table[table.cell == cell].set_index(['target', 'language', 'metric']).score.to_dict()


def test_every_head_and_format_is_trained_and_scored_in_every_language(own):
    _, tables = own
    held = tables['results'].groupby('target').language.agg(set).to_dict()
    assert held == dict(topic={'en', 'xx'}, pairs={'en', 'xx'}, ends={'xx'}, tags={'en', 'xx'}, spans={'en', 'xx'}, parallel={'xx'})
    metrics = tables['results'].groupby('target').metric.agg(set).to_dict()
    assert metrics == dict(topic={'mcc', 'accuracy'}, pairs={'macro_f1', 'accuracy'}, ends={'accuracy'}, tags={'f1', 'precision', 'recall'},
                           spans={'f1', 'exact_match'}, parallel={'accuracy'})
    assert tables['results'].score.between(-100, 100).all() and (tables['results'].query('language == "xx"').tier == 'low').all()
    assert set(tables['intermediate'].task) == {'pairs', 'tags'}


def test_predictions_scored_again_equal_the_table(own):
    space, tables = own
    for cell in cells(space.study):
        folder = space.out/'cells'/cell.name
        assert scored(folder, space) == table_of(tables['results'], cell.name)


def test_the_folder_of_a_study_stands_without_its_files(own, tmp_path):
    space, _ = own
    moved = {p: p.rename(tmp_path/p.name) for p in space.out.parent.glob('*.[ctj]*')}
    try: assert open_workspace(space.out).study.tasks == space.study.tasks
    finally:
        for p, to in moved.items(): to.rename(p)


CHANGES = { # Change to a definition -> whether its rows are others
    'metric': (lambda d: d | dict(metric='accuracy'), 'test'), 'kind': (lambda d: d | dict(kind='a topic'), ''),
    'map': (lambda d: d | dict(map={'label': {0: 'nay', 1: 'yes'}}), 'train test'),
    'labels': (lambda d: d | dict(labels=['yes', 'no']), 'train test'), 'filter': (lambda d: d | dict(filter={'text': ['zin polu sune', 'zin miro sune']}), 'train test'),
    'column': (lambda d: d | dict(columns=dict(text='label', label='label')), 'train test')}


@pytest.mark.parametrize('change', CHANGES)
def test_keys_hold_what_changes_rows_or_scores(own, tmp_path, change):
    space, _ = own
    make, differs = CHANGES[change]
    given = yaml.safe_load((space.out.parent/'own.yaml').read_text())
    given |= dict(tasks={'topic': make(given['tasks']['topic'])}, design=dict(intermediate=[], targets=['topic'], n_tasks=[0], controls=['none']))
    (tmp_path/'other.yaml').write_text(yaml.safe_dump(given, sort_keys=False))
    try: other = lay_out(read_study(str(tmp_path/'other.yaml')), tmp_path/'out')
    finally: define({}, space.study.tasks)
    for split in ('train', 'test'):
        assert (other.prepared.name('topic', split, 'en') != space.prepared.name('topic', split, 'en')) == (split in differs.split()), split


def test_another_study_does_not_know_the_tasks(own):
    with pytest.raises(UserError, match="unknown task in `design.targets` 'topic'"):
        read_study(str(own[0].out/'study.yaml')).but(tasks={}, design=dict(intermediate=(), n_tasks=(0,), budgets=()))


def test_a_task_trains_in_another_language(tmp_path):
    given = own_tasks(tmp_path)['topic']
    given['files']['train'] = {'xx': given['files']['train']}
    define({'xx': dict(name='Example')}, {'elsewhere': given})
    assert task('elsewhere').train[0].spoken == 'xx'


# Packs, and real data

def test_packs_join_a_study(capsys):
    assert answer(['plan', 'xtreme-base', '--pack', 'low-resource,xcopa', '--set', 'phase3.target_flops=1e15', '--yaml'])[0] == 0
    study = yaml.safe_load(capsys.readouterr().out)
    assert study['design']['targets'][-5:] == ['sib200', 'sib200_pairs', 'masakhaner2', 'americasnli', 'xcopa']
    assert answer(['plan', 'xtreme-base', '--pack', 'low'])[0] == 2
    for pack in PACKS.values():
        for name, given in pack.items(): assert task_from(name, given).licence


LACKING = ['ha', 'ig', 'lb', 'qu', 'ay', 'gn', 'ht', 'wo', 'zu', 'ti', 'ace', 'ks'] # Of SIB-200; none is one of XTREME's


def real_study(hub):
    "Three packs' tasks in the languages that the mirror has, from YAML alone."
    sib, ner, xcopa = PACKS['sib200']['sib200'], PACKS['masakhaner2']['masakhaner2'], PACKS['xcopa']['xcopa']
    return dict(
        name='beyond', encoder=dict(name='mini'), data=dict(source=str(hub), max_train=24, max_test=6),
        tasks=dict(topics=sib | dict(languages=LACKING, metric='macro_f1'), xcopa=xcopa | dict(languages=['et', 'ht', 'qu']),
                   pairs=PACKS['sib200']['sib200_pairs'] | dict(languages=['ha', 'lb']),
                   ner=ner | dict(config={c: ner['config'][c] for c in ('ha', 'ig', 'rw', 'sw', 'wo', 'yo')})),
        design=dict(intermediate=['mnli'], targets=['topics', 'ner', 'xcopa', 'pairs'], n_tasks=[0, 1], budgets=[2e7], controls=['none']),
        phase2=dict(learning_rate=5e-4),
        phase3=dict(target_flops=2e7, recipes={'all': dict(learning_rate=5e-4, max_length=32, batch_size=8)}))


def test_real_data_of_languages_that_xtreme_lacks(hub, tmp_path):
    (tmp_path/'beyond.yaml').write_text(yaml.safe_dump(real_study(hub), sort_keys=False))
    space = lay_out(read_study(str(tmp_path/'beyond.yaml')), tmp_path/'out')
    table = ran(space)['results']
    held = table.groupby('target').language.agg(set).to_dict()
    assert held == dict(topics=set(LACKING), ner={'ha', 'ig', 'rw', 'sw', 'wo', 'yo'}, xcopa={'et', 'ht', 'qu'}, pairs={'ha', 'lb'})
    assert (table[table.language != 'et'].tier == 'low').all() and (table[table.language == 'et'].tier == 'mid').all()
    for cell in cells(space.study): assert scored(space.out/'cells'/cell.name, space) == table_of(table, cell.name)
    _, said = answer(['report', str(space.out)])
    page = (space.out/'report'/'index.html').read_text()
    names = {code: language(code).name for code in table.language}
    assert not said and [n for n in names.values() if n not in page] == []
    assert [t for t in held if t not in page] == [] and all(LANGUAGES[c].world == 'other' for c in LACKING)
    ner = space.prepared.load('ner', 'test', 'ha')
    assert not {t for tags in ner.gold.tags for t in tags if 'DATE' in t} and len(space.prepared.load('xcopa', 'train', 'en').labels) == 5
