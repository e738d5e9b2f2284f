"Phase 3 beyond the protocol: a state that is chosen by development rows, whose choice survives kills and damage; few shots."
import csv
import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from studies import tiny

from xtl.analysis.tables import read_outcome
from xtl.cli.main import answer
from xtl.core.errors import UserError
from xtl.data.held import Held, row_texts, shot_sources
from xtl.data.preparation import Preparation, to_tokenise
from xtl.encoder.loading import load_tokenizer
from xtl.report.findings import encoder_kind, find
from xtl.report.shots import table_shots
from xtl.study.designs import cells
from xtl.study.presets import read_study, study_from
from xtl.tasks.paper import TARGETS
from xtl.transfer.beside import shot_rows
from xtl.transfer.cell import run_cell, target_step
from xtl.transfer.collected import collect
from xtl.transfer.layout import lay_out, open_workspace
from xtl.transfer.phase2 import intermediate
from xtl.transfer.phase3 import target_run
from xtl.transfer.places import data_settings, study_held
from xtl.transfer.results import write_cell
from xtl.transfer.subset import IntermediateRun


def small(name, targets=('xnli',), **phase3):
    "A target or two, and no phase 2."
    design = {'intermediate': [], 'targets': list(targets), 'n_tasks': [0], 'controls': ['none'], 'budgets': []}
    return study_from(tiny(name=name, design=design, data={'languages': ['qab', 'qcc'], 'max_test': 30}, phase2={}, device={'checkpoint_seconds': 1e-3},
                           phase3={'target_flops': 6e9} | phase3), name)


CHOOSING = dict(select='english-dev', checkpoints=4)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    "A study that chooses, laid out, and what its run gives."
    space = lay_out(small('choosing', **CHOOSING), tmp_path_factory.mktemp('choosing')/'out')
    return space, target_run(space, ('xnli',), None, 6e9, 0)


def outcome(folder):
    "What a run gives, without the times that it took."
    def timeless(value):
        if isinstance(value, dict): return {k: timeless(v) for k, v in value.items() if 'seconds' not in k}
        return [timeless(v) for v in value] if isinstance(value, list) else value
    files = {p.name: p.read_bytes() for p in sorted((folder/'predictions').rglob('*')) if p.is_file()}
    return timeless(json.loads((folder/'run.json').read_text())), pd.read_parquet(folder/'scores.parquet').to_dict('records'), files


def test_targets_of_one_training_score_what_each_scores_alone(tmp_path):
    "XQuAD and MLQA are trained on the same rows, once; each in a study by itself has the same scores, to the bit."
    def scores(*targets):
        folder = target_run(lay_out(small('-'.join(targets), targets), tmp_path/'-'.join(targets)), targets, None, 6e9, 0)
        return pd.read_parquet(folder/'scores.parquet').set_index(['target', 'language', 'metric']).score.sort_index()
    together = scores('xquad', 'mlqa')
    for target in ('xquad', 'mlqa'): pd.testing.assert_series_equal(together[[target]], scores(target), check_exact=True)


class Killed(BaseException): pass


def killing(step):
    "An observer that ends the run at a step."
    def observe(info):
        if info.get('step', 0) >= step: raise Killed
    return observe


@pytest.mark.parametrize('where', ['before the first comparison', 'behind one', 'within one', 'behind one that is damaged'])
def test_a_choice_survives_a_kill(undisturbed, tmp_path, monkeypatch, where):
    space, whole = undisturbed
    seen = json.loads((whole/'run.json').read_text())['selection']['seen']
    other = replace(space, out=tmp_path/'out')
    if where == 'within one':
        import xtl.transfer.selection as selection
        written = selection.write_aside
        def dies(path):
            if path.name == 'best' and (path/'seen.json').exists(): raise Killed
            return written(path)
        monkeypatch.setattr(selection, 'write_aside', dies)
    step = dict(zip(('before the first comparison', 'within one'), (1, 10**9))).get(where, seen[1]['step'] + 1)
    with pytest.raises(Killed): target_run(other, ('xnli',), None, 6e9, 0, killing(step))
    monkeypatch.undo()
    best = next((other.out/'running').glob('*/best'), None)
    assert (best is not None) == (where != 'before the first comparison')
    if 'damaged' in where:
        data = bytearray((best/'model.safetensors').read_bytes())
        data[-5] ^= 1
        (best/'model.safetensors').write_bytes(data)
    begun = []
    again = target_run(other, ('xnli',), None, 6e9, 0, lambda info: begun.append(info.get('step')))
    assert outcome(again) == outcome(whole)
    assert (begun[0] == 0) == (where == 'before the first comparison' or 'damaged' in where) # or it went on from a checkpoint
    assert not list((other.out/'running').glob('*'))


def test_the_chosen_state_is_scored_and_its_cost_is_planned_and_kept(undisturbed, tmp_path):
    space, whole = undisturbed
    record = json.loads((whole/'run.json').read_text())
    seen, chosen = record['selection']['seen'], record['selection']['chosen']
    assert len(seen) == 4 and chosen['score'] == max(s['score'] for s in seen) and record['steps'] == seen[-1]['step']
    cell, = cells(space.study)
    write_cell(space, cell, run_cell(space, cell))
    folder = space.out/'cells'/cell.name
    ledger, results, plan = pd.read_parquet(folder/'ledger.parquet'), pd.read_parquet(folder/'results.parquet'), pd.read_parquet(space.out/'plan.parquet')
    read = ledger[ledger.phase == 'selection']
    assert read.task.tolist() == ['xnli'] and read.executed_flops.tolist() == plan.selection.tolist() == plan.to_do_selection.tolist()
    assert (results.selected_at == chosen['flops']/seen[-1]['flops']).all() and (results.phase3_select == 'english-dev').all()
    segments = pd.read_parquet(folder/'segments.parquet')
    assert segments[segments.phase == 'selection'].executed_flops.tolist() == read.executed_flops.tolist()
    assert open_workspace(space.out).beside == space.beside


def test_the_last_state_is_the_protocols_and_the_choice_is_part_of_the_key(undisturbed, tmp_path):
    space, whole = undisturbed
    last = replace(space, study=space.study.but(phase3=dict(select='last', checkpoints=5)), out=tmp_path/'out')
    cell, = cells(last.study)
    keys = {target_step(s, cell, 'xnli').name for s in (last, space, replace(space, study=space.study.but(phase3=dict(checkpoints=3))))}
    assert len(keys) == 3 and study_held(last.study) == [] and target_step(last, cell, 'xnli').chosen == {}
    record, chosen = (json.loads((f/'run.json').read_text()) for f in (target_run(last, ('xnli',), None, 6e9, 0), whole))
    assert 'selection' not in record and record['spent'] == chosen['spent']


RECIPE = dict(learning_rate=5e-4, max_length=96, batch_size=16, stride=24)
FIRST = small('first', target_flops=4e10, recipes={'all': RECIPE | dict(head_first=0.3, head_learning_rate=1e-2)})


def test_a_head_that_learns_first_has_its_share_of_the_same_compute(tmp_path):
    "The whole is spent to an item, more of it in steps; the rate is the head's own for its share."
    def ran(study): return json.loads((target_run(lay_out(study, tmp_path/study.name), ('xnli',), None, 4e10, 0)/'run.json').read_text())
    plain, first = ran(small('plain', target_flops=4e10, recipes={'all': RECIPE})), ran(FIRST)
    for record in (plain, first): assert record['spent']['xnli']['executed_flops'] == pytest.approx(4e10, rel=0.005)
    assert first['steps'] > plain['steps']*1.4
    before, after = ([p['learning_rate'] for p in first['curve'] if (p['flops'] < 1.2e10) == alone] for alone in (True, False))
    assert max(before) > 5e-4 >= max(after) and before == sorted(before, reverse=True)


@pytest.mark.parametrize('step', [25, 65])
def test_a_head_that_learns_first_goes_on_after_a_kill(tmp_path, step):
    "While it learns alone, and after that."
    space = lay_out(FIRST, tmp_path/'out')
    whole = target_run(space, ('xnli',), None, 4e10, 0)
    other, begun = replace(space, out=tmp_path/'other'), []
    with pytest.raises(Killed): target_run(other, ('xnli',), None, 4e10, 0, killing(step))
    again = target_run(other, ('xnli',), None, 4e10, 0, lambda info: begun.append((info.get('step'), info.get('flops'))))
    assert begun[0][0] > 0 and (begun[0][1] < 1.2e10) == (step == 25) and outcome(again) == outcome(whole)


def test_a_rate_of_the_head_alone_needs_a_share(tmp_path):
    with pytest.raises(UserError, match='`head_learning_rate` in `phase3.recipes: all` has an effect only with a `head_first` above 0'):
        small('rate', recipes={'all': dict(head_learning_rate=1e-2)})
    assert small('rate', recipes={'all': dict(head_learning_rate=1e-2), 'xnli': dict(head_first=0.1)})


def own_files(folder):
    "A study's own task, some of whose development rows are test rows, in other letters."
    def rows(start, n): return [(f'the {w} sank {i}', ('no', 'yes')[i % 2]) for i, w in enumerate(['boat', 'kite']*n, start)][:n]
    held = {'train': rows(0, 40), 'validation': rows(100, 12), 'test': rows(200, 12)}
    held['validation'] += [(text.upper().replace(' ', '  '), label) for text, label in held['test'][:5]]
    for name, some in held.items():
        with open(folder/f'{name}.csv', 'w', newline='') as file: csv.writer(file).writerows([('text', 'label'), *some])
    return held


def test_development_rows_are_never_test_rows(tmp_path):
    held = own_files(tmp_path)
    files = {part: {'en': f'{part}.csv'} for part in held}
    given = dict(name='own', encoder=dict(name='mini'), design=dict(intermediate=[], targets=['sinking'], n_tasks=[0], controls=['none']),
                 tasks=dict(sinking=dict(head='sequence', files=files, columns=dict(text='text', label='label'))),
                 phase3=dict(target_flops=2e7, select='english-dev', recipes=dict(all=dict(max_length=24, stride=8))))
    (tmp_path/'own.yaml').write_text(yaml.safe_dump(given))
    space = lay_out(read_study(str(tmp_path/'own.yaml')), tmp_path/'out')
    rows = space.prepared.load('sinking', 'validation', 'en').gold
    assert len(rows) == 12
    record, = (r for r in space.prepared.records if r['part'] == 'validation')
    assert record['reasons'] == {'it is a test row': 5}
    del given['tasks']['sinking']['files']['validation']
    (tmp_path/'own.yaml').write_text(yaml.safe_dump(given))
    with pytest.raises(UserError, match="'sinking' has none: name a `validation` split"): read_study(str(tmp_path/'own.yaml'))
    given['tasks']['sinking']['files']['validation'] = {'en': 'test.csv'}
    (tmp_path/'own.yaml').write_text(yaml.safe_dump(given))
    with pytest.raises(UserError, match='each of its 12 rows is a test row, too'): lay_out(read_study(str(tmp_path/'own.yaml')), tmp_path/'other')


def test_squads_development_rows_hold_xquads_questions_which_are_left_out(hub, tmp_path):
    design = {'intermediate': [], 'targets': ['xquad'], 'n_tasks': [0], 'controls': ['none'], 'budgets': []}
    study = study_from(tiny(name='real', data={'source': str(hub), 'source_language': 'en', 'languages': ['de'], 'max_test': 20, 'max_train': 20, 'sources': {}},
                            design=design, phase2={}, phase3={'target_flops': 1e8, 'select': 'english-dev'}), 'real')
    space = lay_out(study, tmp_path/'out')
    record, = (r for r in space.prepared.records if r['part'] == 'validation')
    assert record['reasons']['it is a test row'] >= 20 and len(space.prepared.load('xquad', 'validation', 'en').gold) == 20


def test_a_plan_tells_what_choosing_costs(capsys):
    words = ['plan', 'xtreme-base', '--targets', 'xnli,panx', '--n-tasks', '0', '--seeds', '0']
    assert answer(words) == (0, '') and 'development rows' not in capsys.readouterr().out
    assert answer([*words, '--set', 'phase3.select=english-dev']) == (0, '')
    assert 'reading development rows, to choose states: ' in capsys.readouterr().out
    assert "of which 'tydiqa' has none" in answer(['plan', 'xtreme-base', '--set', 'phase3.select=english-dev'])[1]


# Few shots

@pytest.fixture(scope='module')
def few(undisturbed, tmp_path_factory):
    "A study with shots, run, in the world of the other."
    out = tmp_path_factory.mktemp('few')/'out'
    shutil.copytree(undisturbed[0].out/'store', out/'store', ignore=shutil.ignore_patterns('target'))
    space = lay_out(small('few', ['panx', 'xquad', 'tatoeba'], shots=[4, 16, 1000], shot_epochs=3), out)
    cell, = cells(space.study)
    write_cell(space, cell, run_cell(space, cell))
    collect(out)
    return space, out/'cells'/cell.name


def test_each_number_of_shots_has_rows_of_its_own(few):
    space, folder = few
    results = pd.read_parquet(space.out/'results.parquet')
    held = {t: sorted(set(zip(r.language, r.shots))) for t, r in results.groupby('target')}
    assert held['panx'] == [('qaa', 0), *((c, n) for c in ('qab', 'qcc') for n in (0, 4, 16))]
    assert {n for t in ('xquad', 'tatoeba') for _, n in held[t]} == {0}
    why = {(m['task'], m['language'], m['why']) for m in space.prepared.missing}
    assert ('panx', 'qab', '120 rows are fewer than 1000') in why and {t for t, *_ in why} == {'panx', 'xquad'}
    assert {p.name for p in (folder/'shots').rglob('test-*.tsv')} == {'test-qab.tsv', 'test-qcc.tsv'}
    assert not space.store.path(target_step(space, cells(space.study)[0], 'panx').model).exists()


def test_shots_are_in_plan_and_ledger_and_in_no_other_phase(few):
    space, folder = few
    ledger, plan, results = (pd.read_parquet(p) for p in (folder/'ledger.parquet', space.out/'plan.parquet', folder/'results.parquet'))
    spent = ledger[ledger.phase == 'shots']
    assert sorted(spent.task) == sorted(f'panx/{c}/{n}' for c in ('qab', 'qcc') for n in (4, 16))
    assert 1 <= spent.executed_flops.sum()/plan.shots.sum() < 1.5 and plan.shots.tolist() == plan.to_do_shots.tolist()
    flops = results[results.target == 'panx'].groupby(['language', 'shots']).flops_target.first()
    assert flops['qab', 16] - flops['qab', 0] == spent.set_index('task').executed_flops['panx/qab/16'] and flops['qaa', 0] == flops['qab', 0]
    segments = pd.read_parquet(folder/'segments.parquet')
    assert segments[segments.phase == 'shots'].executed_flops.sum() == spent.executed_flops.sum()


def test_shots_are_no_test_rows_and_fewer_are_the_first_of_more(few):
    space, _ = few
    work = Held(Preparation(data_settings(space.study), space.store, load_tokenizer('mini'), space.identity['fingerprint']), ('panx',))
    recipe = space.recipe('panx')
    tests, place = work.barred('token', 'qab', recipe), shot_sources(TARGETS['panx'], 'qab')[-1]
    pool = to_tokenise(work.whole, place, 'validation', 'qab', recipe)[0].rows
    said = dict(zip(pool.ids, row_texts(pool, 'token')))
    drawn = space.prepared.load('panx', 'shots-0', 'qab').gold
    assert len(tests) > 100 and not {said[i] for i in drawn.id} & tests
    four, sixteen = (shot_rows(space.prepared, 'panx', 0, 'qab', n).gold.id.tolist() for n in (4, 16))
    assert sixteen[:4] == four and sixteen == drawn.id.tolist()[:16]


def test_shots_change_nothing_that_is_zero_shot_and_no_shot_is_counted_as_zero_shot(few, tmp_path):
    space, folder = few
    bare = replace(space, study=space.study.but(phase3=dict(shots=[0], shot_epochs=10)), out=tmp_path/'out')
    cell, = cells(bare.study)
    write_cell(bare, cell, run_cell(bare, cell))
    keys = ['target', 'language', 'metric']
    zero, alone = (pd.read_parquet(s.out/'cells'/cell.name/'results.parquet').query('shots == 0').set_index(keys).score for s in (space, bare))
    assert zero.equals(alone)
    outcome = read_outcome(space.out)
    assert set(outcome.results.shots) == {0} and set(outcome.taught.shots) == {4, 16}
    page = table_shots(find(space.out)).data
    assert 'panx' in page and 'Too few rows, or none, to draw from: panx in qab, qcc; xquad in qab, qcc.' in page


def test_a_language_trained_in_is_never_counted_as_zero_shot(tmp_path):
    rows = [dict(study='s', cell='none-r0', control='none', budget_flops=0., n_tasks=0, tasks='', subset=0, seed=0, trunk='', encoder='e', target=t,
                 language=c, tier='low', metric='f1', score=50., flops_intermediate=0., flops_target=1., seconds=1., shots=n)
            for t, c, n in [('panx', 'en', 0), ('panx', 'sw', 0), ('panx', 'sw', 10), ('panx', 'yo', 0), ('udpos', 'sw', 0)]]
    pd.DataFrame(rows).to_parquet(tmp_path/'results.parquet')
    read = [dict(task='panx', part='train', language=c) for c in ('en', 'yo')] + [dict(task='panx', part='test', language='sw')]
    (tmp_path/'data.json').write_text(json.dumps(read))
    outcome = read_outcome(tmp_path)
    assert [(r.target, r.language) for r in outcome.results.itertuples()] == [('panx', 'en'), ('panx', 'sw'), ('udpos', 'sw')]
    assert [(r.target, r.language, r.shots) for r in outcome.taught.itertuples()] == [('panx', 'sw', 10), ('panx', 'yo', 0)]


def test_shots_have_no_effect_without_rows_or_targets_that_are_trained(few, tmp_path):
    space, _ = few
    with pytest.raises(UserError, match='`phase3.shots` has an effect only with a target that is trained'):
        space.study.but(design=dict(targets=['tatoeba']))
    with pytest.raises(UserError, match='`phase3.shot_epochs` has an effect only with a number above 0'):
        space.study.but(phase3=dict(shots=[]))
    shutil.copytree(space.out/'store', tmp_path/'out'/'store')
    with pytest.raises(UserError, match="no target has rows to draw them from: 'xquad' has neither training nor validation"):
        lay_out(space.study.but(design=dict(targets=['xquad'])), tmp_path/'out')


def test_a_plan_tells_what_shots_cost(capsys):
    assert answer(['plan', 'xtreme-base', '--targets', 'panx', '--n-tasks', '0', '--seeds', '0', '--set', 'phase3.shots=[10]']) == (0, '')
    assert 'few-shot training: ' in capsys.readouterr().out


@pytest.mark.parametrize('source, kind', [('qaa', 'mini'), ('en', 'small')])
def test_the_encoder_mini_on_real_languages_is_small_and_makes_up_no_world(tmp_path, source, kind):
    (tmp_path/'study.yaml').write_text(f'{{name: s, encoder: {{name: mini}}, data: {{source_language: {source}}}}}')
    assert encoder_kind(read_outcome(tmp_path)) == kind


def test_text_waits_while_fresh_heads_learn_and_has_its_share_then(tmp_path):
    "Its own head is the checkpoint's; text alone has no fresh head, and no such time."
    design = dict(intermediate=['mnli'], targets=['xnli'], n_tasks=[0, 1], controls=['mlm'], budgets=[4e10])
    how = dict(head_first=0.3, head_learning_rate=1e-2, score_intermediate=False)
    study = study_from(tiny(name='waits', data={'languages': ['qab']}, design=design, phase2={'learning_rate': 5e-4} | how, mlm={'share': 0.25}), 'waits')
    space = lay_out(study, tmp_path/'out')
    def record(*tasks): return json.loads((intermediate(IntermediateRun(space, tasks, 0), 4e10)/'run.json').read_text())
    both, text = record('mnli'), record()
    spent = {t: c['executed_flops']/4e10 for t, c in both['spent'].items()}
    assert spent == pytest.approx({'mnli': 0.75, 'mlm': 0.25}, abs=0.02)
    first = [point for point in both['curve'] if point['flops'] < 1.1e10]
    assert first and {point['task'] for point in first} == {'mnli'} and max(p['learning_rate'] for p in first) > 5e-4
    assert 'mlm' in {point['task'] for point in both['curve']}
    assert max(point['learning_rate'] for point in text['curve']) <= 5e-4
