"""Tasks and targets that are trained in more languages, by translations: at the same compute, told by language, and never
counted as zero-shot in a language that they were trained in."""
import json
from dataclasses import replace

import pandas as pd
import pytest
from safetensors.torch import load_file
from studies import ROWS, finished, tiny
from test_spending import trained as trained_again

from xtl.analysis.arms import translates
from xtl.analysis.tables import read_outcome, trained_in
from xtl.core.errors import UserError
from xtl.core.files import read_json
from xtl.data.loading import load_split
from xtl.report.findings import find
from xtl.report.words import caveats
from xtl.study.designs import cells, shared_trunks
from xtl.study.presets import read_study, study_from
from xtl.tasks.task import Source
from xtl.transfer.cell import run_cell, target_step
from xtl.transfer.layout import lay_out
from xtl.transfer.phase2 import intermediate
from xtl.transfer.places import hub_sources
from xtl.transfer.results import cell_key, stale_cells
from xtl.transfer.subset import run_of
from xtl.transfer.taught import phase2_languages, taught_in

CODES = ['qab', 'qac', 'qcc']


@pytest.fixture(scope='module')
def files(tmp_path_factory, written_world):
    "XNLI's development rows of the embedded world stand in for translations of its MNLI."
    folder = tmp_path_factory.mktemp('translations')
    rows = load_split(Source('google/xtreme', 'XNLI', 'validation'), written_world).to_pandas()
    for code in CODES: rows[rows.language == code].to_csv(folder/f'mnli-{code}.csv', index=False)
    return folder


def place(files): return dict(files=str(files/'mnli-{code}.csv'), columns=dict(text=['sentence1', 'sentence2'], label='gold_label'))


@pytest.fixture(scope='module')
def settings(files):
    more = dict(mnli=dict(languages=['qaa', 'qab', 'qcc']) | place(files))
    small = {'recipes': {'all': ROWS | dict(batch_size=2, learning_rate=5e-4)}, 'target_flops': 1e9}
    return tiny(arms={'english': {}, 'translated': {'translate': more}}, data={'languages': CODES, 'max_test': 20, 'max_train': 200}, phase3=small,
                design={'targets': ['xnli', 'panx', 'tatoeba'], 'n_tasks': [0, 1, 2], 'budgets': [4e9], 'subsets': [['csqa'], ['mnli'], ['mnli', 'csqa']],
                        'subset_count': 3}, phase2={'score_intermediate': False})


@pytest.fixture(scope='module')
def space(settings, tmp_path_factory):
    return finished(lay_out(study_from(settings, 'a study'), tmp_path_factory.mktemp('translated')/'out'))


def cell_of(space, arm, *tasks): return next(c for c in cells(space.study) if c.arm == arm and c.tasks == tasks)


# -- the compute

def test_languages_of_a_task_share_what_it_has_in_the_other_arm(space):
    ledgers = {arm: pd.read_parquet(space.out/'cells'/cell_of(space, arm, 'mnli', 'csqa').name/'ledger.parquet').query('phase == "intermediate"').set_index('task')
               for arm in space.study.arms}
    wanted = {arm: t.wanted_share.to_dict() for arm, t in ledgers.items()}
    assert wanted['english'] == pytest.approx({'mnli': 0.5, 'csqa': 0.5})
    assert wanted['translated'] == pytest.approx({'mnli': 1/6, 'mnli/qab': 1/6, 'mnli/qcc': 1/6, 'csqa': 0.5})
    for t in ledgers.values(): assert (t.realised_share - t.wanted_share).abs().max() < 0.03
    spent = [t.executed_flops.sum() for t in ledgers.values()]
    assert max(spent) < 1.01*min(spent)


def test_one_head_reads_all_languages(space, tmp_path):
    alone = replace(space, study=space.study.but(device=dict(keep=['intermediate'])), out=tmp_path)
    cell = cell_of(space, 'translated', 'mnli')
    heads = load_file(intermediate(run_of(alone, cell), cell.budget)/'heads.safetensors')
    assert {name.split('.')[0] for name in heads} == {'mnli'}


def test_the_source_language_may_be_left_out(space, files, tmp_path):
    more = dict(mnli=dict(languages=['qab']) | place(files))
    study = space.study.but(arms={}, mixture=dict(translate=more), design=dict(subsets=[['mnli']], n_tasks=[1], controls=()))
    alone = replace(space, study=study, out=tmp_path)
    cell = cells(study)[0]
    record = read_json(intermediate(run_of(alone, cell), cell.budget)/'run.json')
    assert set(record['spent']) == {'mnli/qab'} and phase2_languages(alone, cell) == {'qab'}


def test_what_an_arm_reads_is_in_its_cells_keys_alone(space, files, tmp_path):
    assert not stale_cells(space)
    english, translated = (cell_key(space, cell_of(space, arm, 'mnli')) for arm in space.study.arms)
    assert 'translated' not in english and set(translated['translated']) == {'mnli/qab', 'mnli/qcc'}
    trunks = shared_trunks(space.study)
    assert trunks[cell_of(space, 'english', 'csqa').name] == trunks[cell_of(space, 'translated', 'csqa').name]
    moved = {k: (dict(space.prepared.rows) | {'mnli/phase2/qab': 'other rows'})[k] for k in space.prepared.rows}
    changed = replace(space, prepared=replace(space.prepared, rows=moved))
    assert set(stale_cells(changed)) == {c.name for c in cells(space.study) if c.arm == 'translated' and 'mnli' in c.tasks}
    third = replace(space, study=space.study.but(arms=space.study.arms | {'odd': {'sampling': 'proportional'}}))
    assert all(name.startswith('odd-') for name in stale_cells(third))


def test_a_run_in_several_languages_that_is_stopped_ends_with_the_same_bits(space, tmp_path, monkeypatch):
    monkeypatch.setattr('xtl.training.loop.BLOCK', 1) # a checkpoint after every step
    often, cell = space.study.but(device=dict(checkpoint_seconds=1e-9)), cell_of(space, 'translated', 'mnli', 'csqa')
    whole, stopped = (replace(space, study=often, out=tmp_path/n) for n in ('whole', 'stopped'))
    whole, again = trained_again(whole, cell, monkeypatch), trained_again(stopped, cell, monkeypatch, stops=(2, 5, 9))
    assert whole.keys() == again.keys() and all(whole[n].equal(t) for n, t in again.items())


def test_languages_of_a_task_go_into_its_stage_of_a_sequence(space, files):
    more = dict(mnli=dict(languages=['qaa', 'qab']) | place(files))
    arms = dict(turns=dict(order='sequence', replay=0.2, memory=40, translate=more))
    turns = replace(space, study=space.study.but(arms=arms))
    run = run_of(turns, cell_of(turns, 'turns', 'mnli', 'csqa'))
    first, second = run.stages
    assert [run.kept_rows(n) for n in ('csqa', 'mnli', 'mnli/qab')] == [40, 20, 20]
    at = sorted([first, second], key=lambda stage: len(stage.tasks))
    assert at[0].tasks == ('csqa',) and at[1].tasks == ('mnli', 'mnli/qab')
    assert sum(second.shares.values()) == pytest.approx(1) and len(second.shares) == 3


def test_claims_know_an_arm_of_translations(space):
    assert [translates(read_outcome(space.out).settings, own) for own in space.study.arms.values()] == [False, True]


# -- zero-shot

def test_a_language_trained_in_is_never_counted_as_zero_shot(space):
    results = pd.read_parquet(space.out/'results.parquet')
    with_mnli = (results.arm == 'translated') & results.tasks.str.contains('mnli')
    taught = with_mnli & (results.target == 'xnli') & results.language.isin(['qab', 'qcc'])
    source = (results.language == 'qaa') & results.target.isin(['xnli', 'panx'])
    assert taught.sum() == 4 and (~results.zero_shot == taught | source).all()
    assert results.phase2_language[with_mnli & results.language.isin(['qab', 'qcc'])].all() # also for names, which phase 2 had none of there
    assert not results.phase2_language[(results.control == 'none') | (results.language == 'qac')].any()
    outcome = read_outcome(space.out)
    at = ['arm', 'language']
    kept = outcome.results[outcome.results.target == 'xnli']
    assert {*map(tuple, kept[at].drop_duplicates().to_numpy())} == {
        (arm, code) for arm in ('', 'english', 'translated') for code in ('qaa', *CODES) if arm != 'translated' or code in ('qaa', 'qac')}
    assert set(map(tuple, outcome.taught[['arm', 'target', 'language']].to_numpy())) == {('translated', 'xnli', code) for code in ('qab', 'qcc')}


def test_arms_are_compared_where_both_are_zero_shot(space):
    found = find(space.out)
    assert len(found.panel.cells) == 5 and not len(found.panel.left_out) # the first arm, with all its languages
    assert set(found.panel.pairs.language[found.panel.pairs.target == 'xnli']) == {'qaa', *CODES}
    rows = found.arms[(found.arms.kind == 'target') & found.arms.n_tasks.isna()].set_index('group')
    results = pd.read_parquet(space.out/'results.parquet').query('control == "intermediate" and tasks != "csqa" and metric in ["accuracy", "f1"]')
    def mean(arm, target, codes):
        part = results[(results.arm == arm) & (results.target == target) & results.language.isin(codes)]
        return part.groupby('tasks').score.mean().mean()
    for target, codes in dict(xnli=['qac'], panx=CODES, tatoeba=CODES).items():
        assert rows.difference[target] == pytest.approx(mean('translated', target, codes) - mean('english', target, codes)), target
    assert set(rows.pairs) == {2}
    assert [c for c in caveats(found) if 'not zero-shot' in c] == [
        'Trained in, for what the target asks, so not zero-shot and left out: xnli in qab, qcc (arm “translated”).']


def test_one_cell_that_was_taught_takes_a_language_from_all_cells_of_its_arm():
    about = [('none', '', 'sw', True), ('one', 'a', 'sw', True), ('two', 'a', 'sw', False), ('three', 'b', 'sw', True), ('two', 'a', 'en', False)]
    table = pd.DataFrame(about, columns=['cell', 'arm', 'language', 'zero_shot']).assign(target='xnli', shots=0)
    data = pd.DataFrame(columns=['part', 'task', 'language'])
    assert trained_in(table, data, 'en', 'a').tolist() == [True, True, True, False, False]
    assert trained_in(table, data, 'en', 'b').tolist() == [False, True, True, False, False]
    assert trained_in(table.assign(shots=[0, 4, 0, 0, 0]), data, 'en', 'b').tolist() == [False, True, True, False, False]


# -- translate-train and translate-test

@pytest.fixture(scope='module')
def trained(space, settings, files, tmp_path_factory):
    more = dict(xnli=dict(languages=['qaa', 'qab']) | place(files))
    given = {k: v for k, v in settings.items() if k != 'arms'}
    given |= dict(phase3=settings['phase3'] | dict(translate=more), design=settings['design'] | dict(targets=['xnli', 'panx'], subsets=[['csqa']], n_tasks=[0, 1], controls=['none']))
    return finished(lay_out(study_from(given, 'a study'), tmp_path_factory.mktemp('train')/'out'))


def test_a_target_is_trained_in_more_languages_at_the_same_compute(trained, space):
    ledger = pd.read_parquet(trained.out/'ledger.parquet').query('phase == "target" and task != "panx"')
    each = ledger.groupby('cell').task.agg(set)
    assert all(tasks == {'xnli', 'xnli/qab'} for tasks in each) and len(each) == 2
    assert (ledger.wanted_share == 0.5).all() and (ledger.realised_share - 0.5).abs().max() < 0.03
    assert trained.target_costs == {t: space.target_costs[t] for t in ('xnli', 'panx')}
    assert (ledger.groupby('cell').executed_flops.sum()/trained.target_costs['xnli'] - 1).abs().max() < 0.05
    curves = pd.read_parquet(trained.out/'curves.parquet').query('phase == "target"')
    assert set(curves.task) == {'xnli', 'xnli/qab', 'panx'}


def test_rows_that_a_target_has_itself_are_trained_on_as_well(hub, tmp_path):
    study = study_from(dict(
        name='real', encoder={'name': 'mini'}, data={'source': str(hub), 'languages': ['ko', 'sw', 'fi'], 'max_train': 20, 'max_test': 5},
        design={'intermediate': [], 'targets': ['tydiqa', 'panx'], 'n_tasks': [0], 'controls': ['none']},
        phase3={'target_flops': 1e9, 'recipes': {'all': ROWS}, 'translate': {'tydiqa': {'languages': ['en', 'ko', 'sw']}}}), 'a study')
    there = lay_out(study, tmp_path/'out')
    assert {(r['part'], r['language'], r['config']) for r in there.prepared.records if r['task'] == 'tydiqa' and r['part'] != 'test'} == {
        ('train', 'en', 'tydiqa'), ('phase3', 'ko', 'tydiqa'), ('phase3', 'sw', 'tydiqa')}
    cell = cells(study)[0]
    assert taught_in(there, cell, 'tydiqa') == {'en', 'ko', 'sw'} and taught_in(there, cell, 'panx') == {'en'}
    results = pd.concat(pd.read_parquet(r.folder/'scores.parquet') for r in run_cell(there, cell))
    assert set(results.language[results.target == 'tydiqa']) == {'en', 'ko', 'sw', 'fi'}


def test_its_languages_are_not_zero_shot_in_any_cell(trained):
    results = pd.read_parquet(trained.out/'results.parquet')
    assert {*map(tuple, results[~results.zero_shot][['target', 'language']].drop_duplicates().to_numpy())} == {
        ('xnli', 'qaa'), ('xnli', 'qab'), ('panx', 'qaa')}
    outcome = read_outcome(trained.out)
    assert set(outcome.taught.language) == {'qab'} and set(outcome.taught.target) == {'xnli'} and len(outcome.taught) == 2
    assert 'qab' not in set(outcome.results.language[outcome.results.target == 'xnli'])
    assert all(taught_in(trained, c, 'xnli') == {'qaa', 'qab'} and not phase2_languages(trained, c) & {'qab'} for c in cells(trained.study))


def test_a_training_with_translations_has_a_name_of_its_own(trained, space):
    none = next(c for c in cells(trained.study) if c.control == 'none')
    with_more, without = target_step(trained, none, 'xnli'), target_step(space, none, 'xnli')
    assert set(with_more.inputs()['trained']) == {'target', 'target/qab'} and 'trained' not in without.inputs()
    assert target_step(trained, none, 'panx').name == target_step(space, none, 'panx').name


def test_translated_test_rows_are_no_transfer(space, files):
    rows = str(files/'mnli-qab.csv')
    given = dict(head='sequence', files=dict(train=rows, test={'qab': rows}), columns=dict(text=['sentence1', 'sentence2'], label='gold_label'), translated=True)
    study = space.study.but(tasks=dict(in_english=given), design=dict(targets=['in_english']))
    there = replace(space.prepared, folders={'in_english/test/qab': ''})
    assert taught_in(replace(space, study=study, prepared=there), cell_of(space, 'english', 'csqa'), 'in_english') == {'qab'}
    with pytest.raises(UserError, match='must be true or false'): space.study.but(tasks=dict(other=given | dict(translated='qab')))


# -- settings

def test_names_of_files_start_from_the_study(tmp_path, settings, files):
    more = dict(mnli=place(files) | dict(languages=['qaa', 'qab'], files='mnli-{code}.csv'))
    given = settings | dict(arms=dict(plain={}, more=dict(translate=more)), phase3=settings['phase3'] | dict(translate=dict(xnli=more['mnli'])))
    (tmp_path/'study.yaml').write_text(json.dumps(given)) # which is YAML without references
    study = read_study(str(tmp_path/'study.yaml'))
    for found in (study.arms['more']['translate']['mnli'], study.phase3.translate['xnli']): assert found['files'] == str(tmp_path/'mnli-{code}.csv')


def test_the_hub_has_translations_of_mnli():
    study = read_study('xtreme-base').but(mixture=dict(translate=dict(mnli=dict(languages=['en', 'sw', 'de']))), phase3=dict(translate=dict(pawsx=dict(languages=['en', 'de']))),
                                          design=dict(intermediate=('mnli',), targets=('xnli', 'pawsx'), n_tasks=(1,), controls=(), controls_expected={}))
    places = {(s.repository, s.config, s.split) for s in hub_sources(study)}
    assert {('facebook/xnli', 'sw', 'train'), ('facebook/xnli', 'de', 'train'), ('google/xtreme', 'PAWS-X.de', 'train')} <= places


@pytest.mark.parametrize('changes, says', [
    (dict(mixture=dict(translate=dict(mnly={}))), "did you mean 'mnli'"),
    (dict(mixture=dict(translate=dict(mnli={}))), '`mixture.translate.mnli` does not say in which `languages`'),
    (dict(mixture=dict(translate=dict(mnli=dict(languages=['qaa'])))), 'has none but qaa'),
    (dict(mixture=dict(translate=dict(mnli=dict(languages=['qxx'])))), "unknown language 'qxx'"),
    (dict(mixture=dict(translate=dict(csqa=dict(languages=['qab'])))), 'does not say where the translations are'),
    (dict(mixture=dict(translate=dict(csqa=dict(languages=['qab', 'qac'], files='rows.csv')))), 'would be read as each of qab, qac'),
    (dict(mixture=dict(translate=dict(csqa=dict(languages=['qab', 'qac'], files={'qab': 'rows.csv'})))), 'names no place for qac'),
    (dict(mixture=dict(translate=dict(mnli=dict(languages=['qab'], labels=['a', 'b'])))), 'translate.mnli.labels` is unknown'),
    (dict(mixture=dict(translate=['mnli'])), 'must be a mapping of tasks'),
    (dict(phase3=dict(translate=dict(tatoeba=dict(languages=['qab'])))), 'unknown task in `phase3.translate`'),
    (dict(arms=dict(a=dict(translate=dict(mnli={})))), '`arms: a`: `mixture.translate.mnli` does not say'),
    (dict(arms=dict(a={}, b=dict(translate={}))), 'spend the compute alike')])
def test_settings_that_cannot_be_are_told_in_a_line(changes, says):
    with pytest.raises(UserError) as error: study_from(tiny(**changes), 'a study')
    assert says in str(error.value) and '\n' not in str(error.value)


def test_two_places_of_the_same_rows_are_refused(settings, files):
    one = settings['arms']['translated']['translate']['mnli']
    other = one | dict(files=str(files/'other-{code}.csv'))
    study = study_from(settings | dict(arms=dict(one=dict(translate=dict(mnli=one)), other=dict(translate=dict(mnli=other)))), 'a study')
    from xtl.transfer.places import study_translated
    with pytest.raises(UserError, match='in two places'): study_translated(study)
