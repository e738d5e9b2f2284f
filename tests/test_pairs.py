"Pairs of a dictionary as a task of phase 2, and targets without training that a head of phase 2 judges."
import json

import numpy as np
import pandas as pd
import pytest
import torch
from studies import finished, tiny

from xtl.cli.main import answer
from xtl.core.errors import UserError
from xtl.core.steps import obtained
from xtl.data.dictionary import dictionary_pairs
from xtl.data.loading import load_split
from xtl.data.preparation import Reading, languages_of, read_split
from xtl.data.sources import DataSettings
from xtl.encoder.loading import load_tokenizer
from xtl.encoder.model import TransferModel
from xtl.report.findings import find
from xtl.study.definitions import with_packs
from xtl.study.designs import cells
from xtl.study.plan import unjudged
from xtl.study.presets import read_study, study_from
from xtl.tasks.definitions import FITS, define, task_from
from xtl.tasks.languages import language
from xtl.tasks.packs import PACKS
from xtl.tasks.task import Columns, Source
from xtl.transfer.cell import run_cell, target_step
from xtl.transfer.layout import lay_out
from xtl.transfer.phase2 import encoder_after, heads_of
from xtl.transfer.places import hub_sources
from xtl.transfer.tables import cell_results

# -- definitions

DICTIONARY = dict(head='sequence', files=dict(train={'lb': 'words.csv'}), negatives=1, columns=dict(text=['sentence', 'word']))
JUDGED = dict(head='sequence', files=dict(test={'lb': 'rows.csv'}), labels=['a', 'b'], columns=dict(text='text', label='label'),
              entailment=dict(head='words', positive=1, hypothesis='{label}'))
ABOUT = JUDGED['entailment']


def test_a_dictionary_says_its_language_and_has_labels_without_a_column():
    task = task_from('words', DICTIONARY | dict(columns=dict(text=['sentence', 'word'], headword='entry')))
    assert (task.train[0].spoken, task.labels, task.negatives, task.columns.label) == ('lb', ('0', '1'), 1, FITS)
    judged = task_from('judged', JUDGED)
    assert not judged.train and judged.entailment.judges[0].positive == '1' and judged.entailment.hypothesis(judged.entailment.judges[0], 'a', 'lb') == 'a'


@pytest.mark.parametrize('given, change, says', [
    (DICTIONARY, dict(negatives='two'), 'negatives` must be a number'),
    (DICTIONARY, dict(negatives=True), 'negatives` must be a number'),
    (DICTIONARY, dict(columns=dict(text='sentence')), 'must name 2 columns'),
    (DICTIONARY, dict(columns=dict(text=['s', 'w'], label='fits')), 'columns.label` is unknown'),
    (DICTIONARY, dict(negatives=0, columns=dict(text=['s', 'w'], label='fits', headword='w')), 'columns.headword` is unknown'),
    (DICTIONARY, dict(labels=['no', 'yes']), 'with `negatives` labels are 0 and 1'),
    (DICTIONARY, dict(head='token'), 'is for pairs'),
    (JUDGED, dict(labels='auto'), 'must list the labels'),
    (JUDGED, dict(negatives=1), 'has no effect beside `entailment`'),
    (JUDGED, dict(files=dict(train='rows.csv', test={'lb': 'rows.csv'})), 'has training rows, but `entailment`'),
    (JUDGED, dict(head='choice', columns=dict(text='text', label='label', options=['a', 'b'])), 'is for texts with a label'),
    (JUDGED, dict(entailment=ABOUT | dict(hypothesis='about it')), 'has no {label}'),
    (JUDGED, dict(entailment=dict(head='words', hypothesis='{label}')), "which label of 'words' is `positive`"),
    (JUDGED, dict(entailment=ABOUT | dict(heads={})), 'needs `head`, or several'),
    (JUDGED, dict(entailment=dict(heads=dict(words=dict(positive=1)))), 'has no `hypothesis`'),
    (JUDGED, dict(entailment=ABOUT | dict(labels=dict(lb=dict(a='eent')))), "has no name for 'b'"),
    (JUDGED, dict(entailment=ABOUT | dict(labels=dict(lb=dict(a='x', b='x')))), 'one name for two labels'),
    (JUDGED, dict(entailment=ABOUT | dict(hypothesis=dict(qqx='{label}'))), 'is no language'),
    (JUDGED, dict(entailment=ABOUT | dict(template='{label}')), 'entailment.template` is unknown')])
def test_a_wrong_definition_is_told_in_a_line(given, change, says):
    with pytest.raises(UserError) as error: task_from('mine', given | change)
    assert says in str(error.value) and '\n' not in str(error.value)


# -- pairs

ENTRIES = pd.DataFrame([(f'entry {n//2}', f'Sentence {n//3}.', f'word {n}') for n in range(60)], columns=['entry', 'sentence', 'word'])


@pytest.mark.parametrize('headword', ['', 'entry'])
@pytest.mark.parametrize('count', [1, 3])
def test_no_word_of_the_same_sentence_or_entry_is_drawn(headword, count):
    from datasets import Dataset
    rows = Dataset.from_pandas(ENTRIES)
    columns = Columns(('sentence', 'word'), FITS, headword=headword)
    found = dictionary_pairs(rows, columns, count, 'here').to_pandas()
    assert found.equals(dictionary_pairs(rows, columns, count, 'here').to_pandas())
    right, drawn = found[found[FITS] == '1'], found[found[FITS] == '0']
    assert right[['entry', 'sentence', 'word']].reset_index(drop=True).equals(ENTRIES) and len(drawn) == count*len(ENTRIES)
    assert (drawn.groupby(drawn.index//(count + 1)).word.nunique() == count).all() # of one pair, no word twice
    for by in ['sentence', *([headword] if headword else [])]:
        own = ENTRIES.groupby(by).word.agg(set)
        assert not any(row.word in own[getattr(row, by)] for row in drawn.itertuples())
    assert drawn.word.nunique() > 20


@pytest.mark.parametrize('ending', ['csv', 'tsv', 'json', 'parquet'])
def test_a_dictionary_of_any_format_gives_the_same_pairs(tmp_path, ending):
    path = tmp_path/f'words.{ending}'
    writers = dict(csv=lambda t: t.to_csv(path, index=False), tsv=lambda t: t.to_csv(path, index=False, sep='\t'),
                   json=lambda t: t.to_json(path, orient='records'), parquet=lambda t: t.to_parquet(path))
    writers[ending](ENTRIES[['sentence', 'word']])
    task = task_from('words', DICTIONARY | dict(files=dict(train={'lb': str(path)})))
    rows, [record] = read_split(task, 'train', language('en'), Reading(DataSettings(), None, None))
    assert record['language'] == 'lb' and rows.labels == ['1', '0']*60
    from datasets import Dataset
    same = dictionary_pairs(Dataset.from_pandas(ENTRIES[['sentence', 'word']]), task.columns, 1, '')
    assert rows.texts[1] == same['word'][:]


def test_letz_is_read_as_its_makers_ship_it(hub):
    tasks = define({}, PACKS['letz'])
    how = Reading(DataSettings(str(hub), max_train=500), hub, None)
    rows, [record] = read_split(tasks['letz_syn'], 'train', language('en'), how)
    assert (record['language'], record['config'], set(rows.labels), len(rows.ids)) == ('lb', 'LETZ-SYN', {'0', '1'}, 500)
    assert read_split(tasks['letz_wot'], 'train', language('en'), how)[1][0]['split'] == 'validation'


def test_words_are_drawn_for_a_data_set_of_the_hub_as_well(hub):
    rows = dict(repository='fredxlpy/LETZ', config='LETZ-SYN')
    given = dict(head='sequence', negatives=2, columns=dict(text=['text', 'label']), filter={'class': 1}, languages=['lb'], **rows,
                 split=dict(test='validation'), train=dict(split='train', languages=['lb'], filter={'class': 1}, **rows))
    rows, _ = read_split(task_from('drawn', given), 'test', language('lb'), Reading(DataSettings(str(hub)), hub, None))
    assert rows.labels == ['1', '0', '0']*739 and not rows.dropped


# -- judged targets

def _files(folder, root):
    "A dictionary in a language that is not the source, and a target that asks which of three words a sentence holds."
    sentences = [words for split in ('validation', 'test') for words in load_split(Source('google/xtreme', 'PAN-X.qab', split), root)['tokens']]
    labels = ['gubor', 'bufu', 'pufu']
    fitting = [(' '.join(s), w) for s in sentences for w in dict.fromkeys(s) if w.isalpha()]
    told = [(' '.join(s), w) for s in sentences for w in labels if len({*labels} & {*s}) == 1 and w in s]
    for name, rows in dict(dictionary=fitting, topics=told).items(): pd.DataFrame(rows, columns=['sentence', 'word']).to_csv(folder/f'{name}.csv', index=False)
    words = dict(head='sequence', files=dict(train={'qab': str(folder/'dictionary.csv')}, test={'qab': str(folder/'dictionary.csv')}),
                 negatives=1, columns=dict(text=['sentence', 'word']))
    topic = dict(head='sequence', files=dict(test={'qab': str(folder/'topics.csv')}), labels=labels, columns=dict(text='sentence', label='word'),
                 entailment=dict(heads=dict(words=dict(positive=1, hypothesis='{label}'), mnli=dict(positive='entailment')),
                                 hypothesis={'qac': 'hi {label}', 'qab': 'zis {label}.'}, labels={'qab': dict(gubor='gubor', bufu='bufu', pufu='tufu')}))
    return dict(words=words, topic=topic)


@pytest.fixture(scope='module')
def settings(tmp_path_factory, written_world):
    tasks = _files(tmp_path_factory.mktemp('dictionary'), written_world)
    return tiny(tasks=tasks, data={'languages': ['qab'], 'max_test': 40, 'max_train': 400}, phase3={'target_flops': 1e9},
                design={'intermediate': ['csqa', 'words', 'mnli'], 'targets': ['topic', 'tatoeba'], 'n_tasks': [0, 1, 2], 'budgets': [2e9],
                        'subsets': [['csqa'], ['words'], ['mnli'], ['mnli', 'words']]} | {'subset_count': 3})


@pytest.fixture(scope='module')
def space(settings, tmp_path_factory):
    return finished(lay_out(study_from(settings, 'a study'), tmp_path_factory.mktemp('judged')/'out'))


def test_a_cell_has_a_score_where_its_phase_2_has_a_head_that_judges(space):
    results = pd.read_parquet(space.out/'results.parquet')
    scored = results[results.target == 'topic']
    assert set(scored.tasks) == {'words', 'mnli', 'words+mnli'} and set(scored.metric) == {'accuracy'} and set(scored.language) == {'qab'}
    assert (scored.flops_target == 0).all() and set(results[results.target == 'tatoeba'].n_tasks) == {0, 1, 2}
    without = {c.name for c in cells(space.study)} - set(scored.cell)
    assert set(unjudged(space.study)['topic']) == without and len(without) == 3
    assert not any((space.out/'cells'/name/'predictions'/'topic').exists() for name in without)
    learned = pd.read_parquet(space.out/'intermediate.parquet')
    assert {'words', 'mnli', 'csqa'} <= set(learned.task) # the dictionary in its own language, the others in the source


def test_the_language_that_a_judge_was_trained_in_is_not_zero_shot(space):
    results = pd.read_parquet(space.out/'results.parquet')
    told = results[results.target == 'topic'].groupby('tasks').zero_shot.first().to_dict()
    assert told == {'words': False, 'mnli': True, 'words+mnli': False} # the dictionary is in qab, MNLI in the source language
    assert results[results.target == 'tatoeba'].zero_shot.all()
    seen = results[results.target == 'tatoeba'].groupby('tasks').phase2_language.first()
    assert seen.to_dict() == {'': False, 'csqa': False, 'mnli': False, 'words': True, 'words+mnli': True}


@pytest.mark.parametrize('tasks', [('words',), ('mnli',), ('words', 'mnli')])
def test_predictions_are_the_hypotheses_that_the_head_finds_most_probable(space, tasks):
    cell = next(c for c in cells(space.study) if c.tasks == tasks)
    from safetensors.torch import load_file
    begin = target_step(space, cell, 'topic').begin
    with obtained(space.store, begin) as folder:
        model = TransferModel(encoder_after(space, folder), heads_of(begin.run.splits()), 0)
        model.heads.load_state_dict(load_file(folder/'heads.safetensors'))
    model.eval()
    head, positive, told = ('words', 1, ['gubor', 'bufu', 'tufu']) if 'words' in tasks else ('mnli', 0, ['zis gubor.', 'zis bufu.', 'zis tufu.'])
    tokenizer, rows = load_tokenizer('mini'), pd.read_csv(space.study.tasks['topic']['files']['test']['qab'])
    test = space.prepared.load('topic', 'test', 'qab')
    rows, found = rows.iloc[test.gold.id.astype(int)] if len(test.gold) == len(rows) else rows, []
    texts = [tokenizer.decode(test.arrays['tokens'][a:b], skip_special_tokens=True) for a, b in zip(test.arrays['start'], test.arrays['start'][1:])]
    for text in texts:
        batch = tokenizer([text]*3, told, return_tensors='pt', padding=True)
        with torch.inference_mode(): fits = model(head, batch['input_ids'], batch['attention_mask']).softmax(1)[:, positive]
        found.append(['gubor', 'bufu', 'pufu'][int(fits.argmax())])
    written = (space.out/'cells'/cell.name/'predictions'/'topic'/'test-qab.tsv').read_text().split()
    assert np.mean([a == b for a, b in zip(written, found)]) > 0.95 and len(written) == len(found) # sums differ in their last bits
    results = pd.read_parquet(space.out/'cells'/cell.name/'results.parquet').query('target == "topic"')
    assert results.score.item() == pytest.approx(100*np.mean([p == g for p, g in zip(written, test.gold.label)]))


def test_a_judged_target_has_no_model_to_take_home(space, tmp_path):
    cell = next(c for c in cells(space.study) if c.tasks == ('words',))
    code, said = answer(['model', str(space.out), cell.name, '--target', 'topic', '--to', str(tmp_path/'model')])
    assert code == 2 and 'topic' in said and '\n' not in said and not (tmp_path/'model').exists()


def test_cells_without_the_head_are_no_less_complete(space):
    found = find(space.out)
    assert set(found.panel.pairs.target) == {'tatoeba'} and len(found.panel.cells) == len(cells(space.study)) and not len(found.panel.left_out)


def test_a_cell_without_any_score_has_a_table_all_the_same(space):
    first = next(c for c in cells(space.study) if c.tasks == ('csqa',))
    lacking, other = (next(r for r in run_cell(space, first) if r.target == target) for target in ('topic', 'tatoeba'))
    table = cell_results(space, first, [lacking])
    assert len(table) == 0 and list(table.columns) == list(cell_results(space, first, [lacking, other]).columns)


def test_the_plan_tells_which_cells_have_no_score(settings, tmp_path, here):
    import yaml
    (tmp_path/'study.yaml').write_text(yaml.safe_dump(settings))
    code, out, err = here('plan', tmp_path/'study.yaml')
    assert code == 0 and 'no score: topic in 3 of 6 cells, whose phase 2 has no head that judges it' in out, err


@pytest.mark.parametrize('changes, says', [
    (dict(design={'intermediate': ['csqa'], 'n_tasks': [0, 1], 'subsets': 'all'}), "put one of words, mnli into `design.intermediate`"),
    (dict(head='csqa'), "asks the head of 'csqa', which is not trained on pairs"),
    (dict(head='mnly'), "did you mean 'mnli'")])
def test_a_head_that_cannot_judge_is_refused(settings, changes, says):
    changed = dict(settings)
    if 'design' in changes: changed['design'] = settings['design'] | changes['design']
    else:
        about = dict(head=changes['head'], positive='entailment', hypothesis='{label}')
        changed['tasks'] = settings['tasks'] | dict(topic=settings['tasks']['topic'] | dict(entailment=about))
    with pytest.raises(UserError) as error: study_from(changed, 'a study')
    assert says in str(error.value) and '\n' not in str(error.value)


def test_a_label_that_the_head_does_not_have_is_told_before_anything_is_trained(settings, tmp_path):
    about = dict(head='mnli', positive='yes', hypothesis='{label}')
    study = study_from(settings | dict(tasks=settings['tasks'] | dict(topic=settings['tasks']['topic'] | dict(entailment=about))), 'a study')
    with pytest.raises(UserError, match="`positive` of 'mnli' is 'yes', but its labels are entailment, neutral, contradiction"): lay_out(study, tmp_path/'out')


# -- packs

def test_a_pack_adds_what_a_study_can_be_judged_by(tmp_path):
    def targets(intermediate): return with_packs(dict(design=dict(targets=['xnli'], intermediate=intermediate)), ['letz'])['design']['targets']
    assert targets(['csqa']) == ['xnli'] and targets(['mnli']) == ['xnli', 'sib200_judged']
    (tmp_path/'study.yaml').write_text('{name: x, packs: [letz], encoder: {name: mini}, design: {intermediate: [letz_syn, mnli], targets: [sib200_judged], '
                                       'n_tasks: [1], budgets: [1e9], controls: []}, data: {languages: [lb, en]}}')
    study = read_study(str(tmp_path/'study.yaml'))
    assert set(study.tasks) == set(PACKS['letz']) and 'packs' not in json.dumps(study.settings_key())
    assert {(s.repository, s.config) for s in hub_sources(study)} == {
        ('fredxlpy/LETZ', 'LETZ-SYN'), ('nyu-mll/multi_nli', 'default'), ('Davlan/sib200', 'ltz_Latn'), ('Davlan/sib200', 'eng_Latn')}
    (tmp_path/'study.yaml').write_text('{name: x, packs: letx}')
    code, said = answer(['plan', str(tmp_path/'study.yaml')])
    assert code == 2 and "did you mean 'letz'" in said


def test_sib200_is_judged_in_its_own_language(hub):
    from xtl.data.preparation import hypothesis_rows
    task = define({}, PACKS['letz'])['sib200_judged']
    assert 'lb' in languages_of(task, DataSettings())
    rows, _ = read_split(task, 'test', language('lb'), Reading(DataSettings(str(hub), max_test=10), hub, None))
    judges = {j.head: hypothesis_rows(rows, task, j, 'lb') for j in task.entailment.judges}
    assert judges['mnli'].texts[1][1] == 'Am Text geet et ëm Reesen.' and judges['letz_syn'].texts[1][1] == 'Reesen'
    for pairs in judges.values(): assert len(pairs.ids) == 70 and pairs.labels.count('1') == 10 and pairs.texts[0][:7] == [rows.texts[0][0]]*7
