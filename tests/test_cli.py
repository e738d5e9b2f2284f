"The command line as a user meets it: what it prints, what it answers to mistakes, what it leaves behind."
import json
import os
import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from studies import ROWS, tiny
from xtl.training.cost import batch_cost
from xtl.transfer.layout import open_workspace

def write(path, **changes):
    path.write_text(yaml.safe_dump(tiny(**changes)))
    return path


def test_every_command_and_option_is_documented(here):
    for command in ('studies', 'plan', 'run', 'status', 'export', 'report', 'score', 'store', 'pretrain', 'tasks', 'languages', 'pin', 'fetch'):
        code, text, _ = here(command, '--help')
        assert code == 0 and text.startswith('Usage: ') and f' {command} ' in text.splitlines()[0]
        options = [line for line in text.splitlines() if line.strip().startswith('--')]
        assert all(len(line.split()) > 2 or text.splitlines()[text.splitlines().index(line) + 1].startswith('     ') for line in options), options


def test_the_registries_are_printed(here):
    for command, names in (('tasks', ('anli', 'csqa', 'xnli', 'tatoeba')), ('languages', ('Swahili', 'Yoruba', 'Bisolo')),
                           ('studies', ('mini', 'xtreme-base', 'xtreme-large'))):
        said = here(command)[1]
        assert all(name in said for name in names), command


def test_a_printed_study_is_the_same_study(here, tmp_path):
    code, text, _ = here('plan', 'mini', '--yaml')
    assert code == 0
    (tmp_path/'mine.yaml').write_text(text)
    assert here('plan', tmp_path/'mine.yaml')[1] == here('plan', 'mini')[1]


def test_the_presets_hold_what_the_paper_had(here):
    code, text, _ = here('plan', 'xtreme-large', '--yaml')
    study = yaml.safe_load(text)
    assert code == 0 and study['encoder']['name'] == 'FacebookAI/xlm-roberta-large' and len(study['design']['intermediate']) == len(study['design']['targets']) == 9
    code, text, _ = here('plan', 'xtreme-large', '--device', 'H100')
    told, cheaper = text.rsplit('\n\n', 1)
    *_, trained, disk, memory, hours = told.splitlines()
    assert code == 0 and 'xquad+mlqa' in trained and "GiB for trunks' states" in disk and memory.startswith('memory: at most') and 'hours' in hours
    ways = [*re.finditer(r'(?m)^(\S.*?)  +(\S+) +(\d+)% +(\S+) +(--set .*)$', cheaper)]
    assert len(ways) == 2 + bool(find_spec('peft')) and all(0 < int(way[3]) < 100 for way in ways)
    for way in ways: # what an option is said to cost is what the plan with it says
        text = here('plan', 'xtreme-large', *shlex.split(way[5]))[1]
        assert f'together {way[2]} FLOPs' in text or f'together about {way[2]}, at most' in text, way[1]


def test_a_plan_refuses_rows_too_long_for_the_encoder_as_a_run_does(here, tmp_path):
    code, _, err = here('plan', write(tmp_path/'long.yaml', phase3=dict(recipes={'all': {'max_length': 128, 'stride': 24}})))
    assert code == 2 and err.count('\n') == 1 and 'this encoder reads at most 96' in err


MISTAKES = [ # Where commands look at more than words and settings, see test_inputs for those
    (['run', 'mini', '--data', '/nowhere'], 'embedded world'),
    (['run', 'xtreme-base', '--data', '/nowhere', '--encoder', 'mini'], "no data mirror at '/nowhere'"),
    (['run', 'mini', '--encoder', './nowhere'], "no encoder at './nowhere'"),
    (['status', 'nowhere'], "no study in 'nowhere'"),
    (['report', 'nowhere'], "no study in 'nowhere'"),
    (['report', 'a', 'b', '--zip'], '--site and --zip are about one study'),
    (['store', 'nowhere'], "no store in 'nowhere'"),
    (['score', 'nowhere', 'nowhere'], 'nowhere is not a folder'),
    (['plan'], "Missing argument 'STUDY'"),
]


@pytest.mark.parametrize('words, message', MISTAKES, ids=[' '.join(w) for w, _ in MISTAKES])
def test_a_mistake_is_answered_by_one_line_and_exit_code_2(here, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = here(*words)
    assert code == 2, (code, out, err)
    assert len(err.strip().splitlines()) == 1 and err.startswith('xtl: ') and message in err, err
    left = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert not [p for p in left if p.name in ('study.yaml', 'workspace.json', 'results.parquet') or p.suffix == '.part'], left


def test_every_setting_is_reached_from_the_command_line(here, tmp_path):
    words = ['plan', write(tmp_path/'mine.yaml'), '--yaml', '--set', 'phase2.max_grad_norm=0', '--set', 'design.budgets=[3e9]', '--set', 'name=other']
    study = yaml.safe_load(here(*words)[1])
    assert study['phase2']['max_grad_norm'] == 0 and study['design']['budgets'] == [3e9] and study['name'] == 'other'
    code, _, err = here(*words, '--budget', '1e9')
    assert code == 2 and err == 'xtl: --budget and --set give design.budgets twice\n'


def test_what_nobody_foresaw_leaves_its_traceback_in_a_file(monkeypatch, tmp_path):
    from xtl.cli import main
    def broken(name): raise ZeroDivisionError('by\nnothing')
    monkeypatch.setattr('xtl.study.presets.read_study', broken)
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    code, line = main.answer(['plan', 'mini'])
    log, = tmp_path.glob('xtl-error-*.log')
    printed = main.printed_line(line)
    assert code == 1 and '\n' not in printed and str(log) in printed and 'ZeroDivisionError' in printed
    assert 'in broken' in log.read_text()


def test_a_table_goes_into_a_device_and_through_a_link(tmp_path):
    from xtl.cli.main import answer
    pd.DataFrame(dict(a=[1])).to_parquet(tmp_path/'results.parquet')
    (tmp_path/'real.csv').write_text('')
    (tmp_path/'link.csv').symlink_to('real.csv')
    assert answer(['export', str(tmp_path), '--csv', '/dev/null'])[0] == 0 and not Path('/dev/null').is_file()
    assert answer(['export', str(tmp_path), '--csv', str(tmp_path/'link.csv')])[0] == 0
    assert (tmp_path/'link.csv').is_symlink() and (tmp_path/'real.csv').read_text() == 'a\n1\n'
    assert answer(['export', str(tmp_path), '--csv', str(tmp_path)]) == (2, f"xtl: '{tmp_path}' is a folder: name a file")


def test_the_whole_store_goes_by_a_word_of_its_own(tmp_path):
    from xtl.cli.main import answer
    (tmp_path/'store'/'trunk'/'a').mkdir(parents=True)
    (tmp_path/'store'/'trunk'/'a'/'about.json').write_text('{"inputs": {}}')
    for word in (',', '', 'trunks', 'trunk,'):
        assert answer(['store', str(tmp_path), '--prune', word])[0] == 2 and (tmp_path/'store'/'trunk'/'a').is_dir()
    assert answer(['store', str(tmp_path), '--prune', 'all'])[0] == 0 and not (tmp_path/'store'/'trunk'/'a').exists()


def test_help_comes_at_once(xtl):
    before = sum(os.times()[2:4]) # seconds of a processor that ended processes took, whatever else runs
    code, text, _ = xtl('--help')
    assert code == 0 and text.startswith('Usage: xtl ')
    assert sum(os.times()[2:4]) - before < 2


def test_without_a_network_the_hub_is_refused_in_one_line(xtl, tmp_path):
    code, _, err = xtl('run', 'xtreme-base', '--encoder', 'mini', '--intermediate', 'mnli', '--n-tasks', '1', '--targets', 'pawsx', '--out', tmp_path/'out',
                       '--set', 'phase3.recipes={all: {max_length: 96, stride: 32}}', HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path/'hf'))
    assert code == 2 and len(err.strip().splitlines()) == 1 and '--data DIR' in err, err
    assert not (tmp_path/'out'/'study.yaml').exists()


def test_ccgbank_is_refused_with_where_to_get_it(here, tmp_path):
    code, _, err = here('run', write(tmp_path/'mine.yaml', design=dict(intermediate=['ccg'], n_tasks=[1]), data=dict(sources={})), '--out', tmp_path/'out')
    assert code == 2 and 'LDC2005T13' in err and 'pmb/ccg_supertags' in err


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "A small study that has run."
    import subprocess, sys
    folder = tmp_path_factory.mktemp('study')
    done = subprocess.run([str(Path(sys.executable).parent/'xtl'), 'run', str(write(folder/'tiny.yaml')), '--out', str(folder/'out'), '--workers', '2'], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_run_tells_the_time_left_by_its_workers(finished):
    "Also at the moment when one of them has just ended a cell and has yet to begin the next."
    told = re.findall(r'left for (\d+) cells?, (\d+) at a time', finished[1])
    assert [(int(left), int(at_once)) for left, at_once in told] == [(left, min(left, 2)) for left in range(len(told), 0, -1)] and told, finished[1]


def test_a_run_leaves_a_tidy_table(finished):
    folder, _ = finished
    table = pd.read_parquet(folder/'out'/'results.parquet')
    wanted = 'study cell control budget_flops n_tasks tasks subset seed encoder target language tier metric score flops_intermediate flops_target seconds'.split()
    assert set(wanted) <= set(table.columns)
    assert not table.duplicated(['cell', 'target', 'language', 'metric']).any()
    assert sorted(table.control.unique()) == ['intermediate', 'none', 'target-only'] and table.score.between(0, 100).all()
    assert set(table[table.target == 'xquad'].language) == {'qaa', 'qab', 'qcc'} and set(table[table.target == 'bucc'].language) == {'qab', 'qcc'}


def test_every_run_stops_within_a_batch_of_its_budget(finished):
    table = pd.read_parquet(finished[0]/'out'/'results.parquet').query('control == "intermediate"')
    space = open_workspace(finished[0]/'out')
    longest = space.prepared.load('csqa', 'train', 'qaa').lengths.max()
    batch = batch_cost(space.shape, 'choice', 1, np.full(16*5, longest)).executed_flops # the costliest: five options an example
    assert (table.flops_intermediate >= table.budget_flops).all() and (table.flops_intermediate < table.budget_flops + batch).all()
    control = pd.read_parquet(finished[0]/'out'/'results.parquet').query('control == "target-only" and target == "xnli"')
    assert (control.flops_target >= control.budget_flops + 4e9).all() and (control.flops_intermediate == 0).all()


def test_a_run_costs_what_was_planned_and_shared_trunks_once(finished):
    out = finished[0]/'out'
    plan = pd.read_parquet(out/'plan.parquet').set_index('cell')
    spent = pd.read_parquet(out/'ledger.parquet').groupby(['cell', 'phase']).executed_flops.sum().unstack(fill_value=0.0)
    np.testing.assert_allclose(spent[['intermediate', 'target']], plan.loc[spent.index, ['intermediate', 'target']], rtol=0.1)
    segments = pd.read_parquet(out/'segments.parquet').query('phase == "intermediate"')
    assert segments.groupby('cell').executed_flops.sum().to_dict() == pytest.approx(spent.intermediate[spent.intermediate > 0].to_dict())
    once = segments.drop_duplicates('segment').executed_flops.sum()
    assert once == pytest.approx(plan.to_do_intermediate.sum(), rel=0.1) and once < 0.75*spent.intermediate.sum()


EPOCHS = dict(budget_unit='epochs', controls=[], targets=['tatoeba'])


def test_epochs_are_budgets_too(xtl, here, tmp_path):
    code, text, err = here('plan', write(tmp_path/'epochs.yaml', design=EPOCHS | dict(budgets=[0.1])))
    assert code == 0, err
    budget = float(text.splitlines()[1].split()[2])
    code, text, _ = here('plan', write(tmp_path/'twice.yaml', design=EPOCHS | dict(budgets=[0.2])))
    assert float(text.splitlines()[1].split()[2]) == pytest.approx(2*budget, rel=0.01) and budget > 1e9
    code, text, err = xtl('run', write(tmp_path/'few.yaml', design=EPOCHS | dict(budgets=[0.02])), '--out', tmp_path/'out')
    assert code == 0, err
    table = pd.read_parquet(tmp_path/'out'/'results.parquet')
    assert table.cell.nunique() == 1 and table.budget_flops.iloc[0] == pytest.approx(budget/5, rel=0.01)


def test_a_run_keeps_executed_notebooks_predictions_and_settings(finished):
    out = finished[0]/'out'
    for cell in pd.read_parquet(out/'results.parquet').cell.unique():
        notebook = json.loads((out/'cells'/cell/'cell.ipynb').read_text())
        outputs = [o for c in notebook['cells'] for o in c.get('outputs', [])]
        assert not [o for o in outputs if o['output_type'] == 'error' or o.get('name') == 'stderr']
        assert sum('image/png' in o.get('data', {}) for o in outputs) == 2 # losses, and retrieval by layer
        assert (out/'cells'/cell/'predictions'/'xnli'/'test-qab.tsv').exists() and (out/'cells'/cell/'predictions'/'xquad'/'test-qab.json').exists()
    assert yaml.safe_load((out/'study.yaml').read_text())['design']['budgets'] == [4e9, 8e9]
    assert 'torch' in json.loads((out/'versions.json').read_text()) and all(r['fingerprint'] for r in json.loads((out/'data.json').read_text()))
    assert not list(out.rglob('*.part')) and not list((out/'running').glob('*'))


def test_predictions_scored_from_their_files_give_the_table(finished, here):
    out = finished[0]/'out'
    table = pd.read_parquet(out/'results.parquet')
    cell = table[table.control == 'intermediate'].cell.iloc[0]
    code, text, err = here('score', out/'cells'/cell/'predictions', out/'gold', '--json', finished[0]/'scores.json')
    assert code == 0, err
    scored = pd.DataFrame(json.loads((finished[0]/'scores.json').read_text())['languages']).set_index(['target', 'language', 'metric']).score
    assert scored.sort_index().to_dict() == table[table.cell == cell].set_index(['target', 'language', 'metric']).score.sort_index().to_dict()


def test_a_table_is_exported_as_csv(finished, here, tmp_path):
    out = finished[0]/'out'
    code, text, err = here('export', out, '--csv', tmp_path/'results.csv')
    table, read = pd.read_parquet(out/'results.parquet'), pd.read_csv(tmp_path/'results.csv')
    assert code == 0 and list(read.columns) == list(table.columns), err
    assert read.score.tolist() == table.score.tolist() and read.flops_target.tolist() == table.flops_target.tolist()
    for column in ('phase2_learning_rate', 'phase2_schedule', 'mixture_sampling', 'design_budget_scope', 'device_precision', 'encoder_fingerprint', 'data_source',
                   'code', 'version_torch', 'version_transformers', 'target_learning_rate'):
        assert table[column].notna().all(), column
    code, _, err = here('export', out, '--csv', tmp_path/'x.csv', '--table', 'result')
    assert code == 2 and "did you mean 'results'?" in err
    assert here('export', tmp_path/'nowhere', '--csv', tmp_path/'x.csv')[0] == 2


def test_cells_of_an_older_version_of_the_program_stay_in_the_tables_and_are_told(finished, here, tmp_path):
    "A run would do them again, reading them must not."
    from xtl.core.seals import seal
    from xtl.report.findings import find
    from xtl.report.words import caveats
    out = tmp_path/'out'
    shutil.copytree(finished[0]/'out', out)
    before, cell = pd.read_parquet(out/'results.parquet'), out/'cells'/'none-r0'
    (cell/'done.json').write_text(json.dumps(json.loads((cell/'done.json').read_text()) | {'code': 'older'}))
    pd.read_parquet(cell/'results.parquet').assign(code='older').to_parquet(cell/'results.parquet')
    seal(cell)
    (out/'results.parquet').unlink()
    assert here('export', out, '--csv', tmp_path/'results.csv')[0] == 0
    table = pd.read_parquet(out/'results.parquet')
    assert sorted(table.score) == sorted(before.score) and table.code.nunique() == 2
    assert [s for s in caveats(find(out)) if s.startswith('2 versions of the program')]


def test_finished_cells_are_skipped_and_changed_ones_run_again(finished, xtl):
    folder, _ = finished
    before = (folder/'out'/'results.parquet').read_bytes()
    code, text, _ = xtl('run', folder/'tiny.yaml', '--out', folder/'out')
    assert code == 0 and '5 cells, 5 finished already' in text
    assert (folder/'out'/'results.parquet').read_bytes() == before
    code, text, _ = xtl('run', write(folder/'more.yaml', design=dict(n_tasks=[0, 1, 2], budgets=[4e9])), '--out', folder/'out', '--budget', '4e9')
    assert code == 0 and 'k1-s0-b4e9-r0: done' in text and 'none-r0' not in text.split('finished already')[1]


def test_a_budget_that_is_added_leaves_the_finished_cells(finished, xtl):
    folder, _ = finished
    code, text, err = xtl('run', write(folder/'longer.yaml', design=dict(budgets=[4e9, 8e9, 9e9], n_tasks=[2], controls=[])), '--out', folder/'out')
    assert code == 0 and '3 cells, 2 finished already' in text, err


def test_status_and_store_say_what_is_there(finished, here):
    code, text, _ = here('status', finished[0]/'out')
    assert code == 0 and '0 running, 0 failed, 0 waiting' in text
    code, text, _ = here('store', finished[0]/'out')
    assert code == 0 and all(kind in text for kind in ('rows', 'target')) and 'trunk' not in text and not list((finished[0]/'out').glob('store/*/.*.part'))
    code, text, _ = here('store', finished[0]/'out', '--prune', 'trunks')
    assert code == 2


def test_a_cell_whose_loss_is_no_number_fails_alone_with_its_step(xtl, tmp_path):
    broken = write(
        tmp_path/'broken.yaml', phase2=dict(learning_rate=1e30, max_grad_norm=0), phase3=dict(recipes={'all': ROWS}),
        design=dict(controls=['none'], intermediate=['mnli'], n_tasks=[0, 1], budgets=[4e9], targets=['tatoeba']))
    code, text, err = xtl('run', broken, '--out', tmp_path/'out', '--workers', '1')
    assert code == 1 and 'none-r0: done' in text
    assert 'the loss became' in err and 'step' in err and 'Traceback' not in err
    assert (tmp_path/'out'/'cells'/'k1-s0-b4e9-r0'/'cell.ipynb').exists()
    assert set(pd.read_parquet(tmp_path/'out'/'results.parquet').cell) == {'none-r0'}


def test_the_speed_of_this_machine_is_measured_in_the_precision_of_the_study(xtl):
    code, out, err = xtl('plan', 'mini', '--device', 'here', '--set', 'device.precision=bf16')
    assert code == 0 and ' FLOP/s, as measured on ' in out, err
