"Two stages: who goes on, that a stop changes nothing, what is told of what was not run, and what is refused."
import json
from collections import namedtuple

import pandas as pd
import pytest
import yaml
from studies import computed, finished, tiny

from xtl.cli.afterwards import outlook_text
from xtl.core.errors import UserError
from xtl.execution.job import write_status
from xtl.execution.progress import look, planned_work
from xtl.report.findings import find
from xtl.report.words import caveats
from xtl.study.designs import cells
from xtl.study.presets import study_from
from xtl.transfer.cell import run_cell
from xtl.transfer.collected import collect
from xtl.transfer.layout import lay_out, open_workspace
from xtl.transfer.results import GOES_ON, stale_cells
from xtl.transfer.stages import decide

Ended = namedtuple('Ended', 'cell state error')


def study(name='staged', keep=0.5, **design):
    "A staged study as a user writes it: seven cells, of four points and a control."
    stages = {'first': ['tatoeba'], 'keep': keep}
    design = {'targets': ['xnli', 'tatoeba'], 'budgets': [3e9, 1.5e10], 'n_tasks': [0, 1, 2], 'subset_count': 2, 'controls': ['none'], 'stages': stages} | design
    return tiny(name=name, design=design, data={'languages': ['qab'], 'max_test': 40}, phase3={'target_flops': 2e9})


def laid_out(given, out):
    return lay_out(study_from(given, 'a test'), out)


def scored(space):
    "The cells that have scores of each target."
    results = pd.read_parquet(space.out/'results.parquet')
    return {target: set(rows.cell) for target, rows in results.groupby('target')}


def tables(space):
    "All tables but for what a clock wrote."
    found = {}
    for name in ('results', 'ledger', 'segments', 'curves', 'layers', 'intermediate', 'plan'):
        table = pd.read_parquet(space.out/f'{name}.parquet')
        table = table.drop(columns=[c for c in table if 'seconds' in c or c in ('flops_per_second', 'peak_share')])
        found[name] = table.sort_values(list(table)[:4], kind='stable').reset_index(drop=True)
    return found | {'stages': (space.out/'stages.json').read_text()}


def encoders(space):
    return len(list(space.out.glob('store/intermediate/*/encoder.safetensors')))


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A staged study that was run without a stop."
    return finished(laid_out(study(), tmp_path_factory.mktemp('staged')/'whole'))


def test_whole_points_go_on_by_their_mean_and_so_do_controls(whole):
    results = pd.read_parquet(whole.out/'results.parquet')
    first = results[(results.target == 'tatoeba') & (results.control == 'intermediate') & (results.language == 'qab')]
    mean = first.groupby(['budget_flops', 'n_tasks']).score.mean()
    best = mean[mean == mean.groupby('budget_flops').transform('max')].index
    kept = {c.name for c in cells(whole.study) if c.control == 'none' or (c.budget, len(c.tasks)) in best}
    assert len(best) < 4 and len(kept) < 7
    assert scored(whole) == {'tatoeba': {c.name for c in cells(whole.study)}, 'xnli': kept}
    told = json.loads((whole.out/'stages.json').read_text())
    assert set(told['kept']) == kept and [p['score'] for p in told['points']] == pytest.approx(list(mean))
    assert not stale_cells(open_workspace(whole.out)) and not encoders(whole)


def test_it_costs_what_is_planned_once_that_is_decided(whole):
    plan, ledger = (pd.read_parquet(whole.out/f'{name}.parquet') for name in ('plan', 'ledger'))
    spent = ledger.groupby(['phase', 'cell']).executed_flops.sum()
    plan = plan.set_index('cell')
    for phase in ('intermediate', 'target'):
        planned = plan[phase][plan[phase] > 0]
        assert spent[phase].to_dict() == pytest.approx(planned.to_dict(), rel=0.1)


class Killed(Exception): pass


def test_a_run_stopped_between_and_within_the_stages_ends_with_the_same_tables(whole, tmp_path):
    space = laid_out(study(), tmp_path/'stopped')
    computed(space, cells(space.study)[:4])
    assert decide(space).kept is None
    space = laid_out(study(), tmp_path/'stopped')
    computed(space, cells(space.study)[4:])
    assert encoders(space) == 6 # none is thrown away before it is known who needs it
    collect(space.out)
    assert set(scored(space)) == {'tatoeba'}
    space = decide(laid_out(study(), tmp_path/'stopped'))
    stale = stale_cells(space)
    assert set(stale) == space.kept and set(stale.values()) == {GOES_ON}
    for name in stale: write_status(space.out, name, dict(state='done', seconds=1.0, parts=dict(target=dict(seconds=1.0, flops=9e9))))
    outlook = look(space, planned_work(space))
    assert outlook.count('waiting') == len(stale) # of whose work the first stage is no part any more
    assert f'; {2e9*len(stale):.3g} of ' in outlook_text(outlook)
    def kill(info):
        if info['phase'] == 'target' and info.get('step', 0) > 0: raise Killed
    trained = next(c for c in cells(space.study) if c.name in stale and c.tasks)
    with pytest.raises(Killed): run_cell(space, trained, kill)
    collect(space.out)
    assert set(scored(space)['tatoeba']) == {c.name for c in cells(space.study)} # as the first stage left them
    space = finished(laid_out(study(), tmp_path/'stopped'), [])
    assert space.kept == decide(whole).kept
    for name, table in tables(space).items():
        if name == 'stages': assert table == tables(whole)[name]
        else: pd.testing.assert_frame_equal(table, tables(whole)[name], check_exact=True)


def test_where_all_stay_the_scores_are_those_of_one_stage(tmp_path):
    few = dict(n_tasks=[0, 2], budgets=[2e9])
    found = []
    for stages in (dict(first=['tatoeba'], keep=0.9), None):
        space = finished(laid_out(study(stages=stages, **few), tmp_path/str(bool(stages))))
        found.append(tables(space)['results'] if stages else pd.read_parquet(space.out/'results.parquet'))
    keys = ['cell', 'target', 'language', 'metric']
    one, two = (table.set_index(keys).score.sort_index() for table in found)
    pd.testing.assert_series_equal(one, two, check_exact=True)
    assert set(one.index.get_level_values('target')) == {'tatoeba', 'xnli'}


def test_what_is_decided_is_taken_back_when_cells_lack_first_targets_and_full_cells_stay_finished(whole, tmp_path):
    more = laid_out(study(seeds=[0, 1]), whole.out)
    try:
        assert decide(more).kept is None and not (whole.out/'stages.json').exists()
        assert all(name.endswith('-r1') for name in stale_cells(more))
        alone = laid_out(study(stages=None), whole.out)
        dropped = {c.name for c in cells(alone.study)} - scored(whole)['xnli']
        assert stale_cells(alone) == dict.fromkeys(dropped, GOES_ON)
    finally:
        assert decide(laid_out(study(), whole.out)).kept == whole.kept


def test_status_and_report_say_what_was_not_run_and_what_choosing_does(whole, here):
    code, text, _ = here('status', whole.out)
    n = 7 - len(whole.kept)
    assert code == 0 and f'not run on xnli: {n} cell' in text and '7 done, 0 running, 0 failed, 0 waiting' in text
    assert 'not run on xnli' in ' '.join(here('status', whole.out, '--watch')[1].split()) # which ends, as nothing follows
    found = find(whole.out)
    said = [note for note in caveats(found) if note.startswith('Not run on xnli')]
    assert len(said) == 1 and 'too high by selection' in said[0] and 'was not shown to be worse on xnli' in said[0]
    assert set(found.panel.cells.cell) == whole.kept and not len(found.panel.left_out)
    assert {'xnli', 'tatoeba'} == set(found.panel.pairs.target)
    code, text, _ = here('report', whole.out)
    page = (whole.out/'report'/'index.html').read_text()
    assert code == 0 and 'too high by selection' in page and 'id="tab-stages"' in page and 'no scores in the results table' not in page


def in_process(space, names, cluster, limits, outcomes):
    "What `xtl run` does with cells, in this process."
    chosen = [cell for cell in cells(space.study) if cell.name in names]
    computed(space, chosen)
    outcomes += [Ended(cell.name, 'done', '') for cell in chosen]


def test_the_command_runs_both_stages_and_a_second_time_nothing(tmp_path, here, monkeypatch):
    given, out = tmp_path/'mine.yaml', tmp_path/'out'
    given.write_text(yaml.safe_dump(study(name='mine', budgets=[2e9], subset_count=1)))
    monkeypatch.setattr('xtl.cli.run._run_all', in_process)
    code, text, err = here('run', given, '--out', out)
    assert code == 0, err
    assert 'first stage: tatoeba in all cells' in text and 'not run on xnli: 1 cell of 1 point' in text
    assert '3 cells, 0 finished already' in text and '3 cells, 1 finished already' in text
    code, text, _ = here('run', given, '--out', out)
    assert code == 0 and '3 cells, 3 finished already' in text


def test_the_second_stage_waits_for_cells_that_failed(tmp_path, here, monkeypatch):
    def fail(space, names, cluster, limits, outcomes): outcomes += [Ended(n, 'failed', 'no luck') for n in names]
    given, out = tmp_path/'mine.yaml', tmp_path/'out'
    given.write_text(yaml.safe_dump(study(name='mine', budgets=[2e9], subset_count=1)))
    monkeypatch.setattr('xtl.cli.run._run_all', fail)
    code, _, err = here('run', given, '--out', out)
    assert code == 1 and 'the second stage waits' in err and not (out/'stages.json').exists()


@pytest.mark.parametrize('changes, words', [
    (dict(stages={'first': ['panx'], 'keep': 0.5}), "unknown target of this study in `design.stages` 'panx'"),
    (dict(stages={'first': ['tatoeba'], 'keep': 1}), '`design.stages.keep` must be below 1'),
    (dict(stages={'first': ['tatoeba'], 'keep': 0}), '`design.stages.keep` must be above 0'),
    (dict(stages={'first': ['tatoeba', 'xnli'], 'keep': 0.5}), 'leave some for later'),
    (dict(n_tasks=[0]), 'chooses among numbers of tasks'),
    (dict(stages={'first': ['tatoeba'], 'keep': 0.5, 'kept': 1}), "did you mean 'keep'?")])
def test_what_cannot_be_is_refused_in_a_line(tmp_path, here, changes, words):
    (tmp_path/'mine.yaml').write_text(yaml.safe_dump(study(**changes)))
    code, _, err = here('plan', tmp_path/'mine.yaml')
    assert code == 2 and words in err and err.count('\n') == 1


def test_a_first_stage_whose_training_serves_all_is_refused():
    with pytest.raises(UserError, match='nothing for later'):
        from xtl.study.stages import first_targets
        first_targets(study_from(study(targets=['xquad', 'mlqa', 'bucc'], stages={'first': ['xquad', 'bucc'], 'keep': 0.5}), 'a test'))


def test_a_plan_names_both_stages_and_what_would_be_cheaper(tmp_path, here):
    (tmp_path/'mine.yaml').write_text(yaml.safe_dump(study()))
    code, text, _ = here('plan', tmp_path/'mine.yaml')
    line = next(line for line in text.splitlines() if line.startswith('two stages: tatoeba in 7 cells'))
    assert code == 0 and 'then xnli in about 4 cells' in line and 'at most' in line
    (tmp_path/'mine.yaml').write_text(yaml.safe_dump(study(stages=None)))
    text = here('plan', tmp_path/'mine.yaml')[1]
    assert 'cheaper, each a protocol of its own' in text and '--set phase3.target_flops=1000000000.0' in text
    assert "--set 'design.stages={first: [tatoeba], keep: 0.5}'" in text
    changed = here('plan', tmp_path/'mine.yaml', '--set', 'design.stages={first: [tatoeba], keep: 0.5}')[1]
    expected = line.split('together about ')[1].split(',')[0]
    assert f' {expected} ' in text and f'together about {expected},' in changed
