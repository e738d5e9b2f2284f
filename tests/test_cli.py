"The command line as a user meets it: what it prints, what it answers to mistakes, what it leaves behind."
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from xtl.training.cost import batch_cost
from xtl.transfer.layout import open_workspace

TINY = dict(name='tiny', encoder='mini', data='mini', source_language='qaa', sources={'ccg': {'repository': 'pmb/ccg_supertags', 'config': 'en'}}, intermediate=['mnli', 'csqa'],
            targets=['xnli', 'xquad', 'panx', 'tatoeba', 'bucc'], languages=['qab', 'qcc'], budgets=[4e9, 8e9], n_tasks=[0, 2], subsets=1, learning_rate=5e-4, target_flops=4e9,
            recipes={'all': {'learning_rate': 5e-4, 'max_length': 96, 'batch_size': 16, 'stride': 24}})


def write(path, **changes):
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def test_every_command_and_option_is_documented(xtl):
    for command in ('studies', 'plan', 'run', 'status', 'export', 'report', 'score', 'store', 'pretrain', 'tasks', 'languages'):
        code, text, _ = xtl(command, '--help')
        assert code == 0 and 'Usage: xtl' in text
        options = [line for line in text.splitlines() if line.strip().startswith('--')]
        assert all(len(line.split()) > 2 or text.splitlines()[text.splitlines().index(line) + 1].startswith('     ') for line in options), options


def test_the_registries_are_printed(xtl):
    assert all(name in xtl('tasks')[1] for name in ('anli', 'csqa', 'xnli', 'tatoeba'))
    assert all(name in xtl('languages')[1] for name in ('Swahili', 'Yoruba', 'Bisolo'))
    assert all(name in xtl('studies')[1] for name in ('mini', 'xtreme-base', 'xtreme-large'))


def test_a_printed_study_is_the_same_study(xtl, tmp_path):
    code, text, _ = xtl('plan', 'mini', '--yaml')
    assert code == 0
    (tmp_path/'mine.yaml').write_text(text)
    assert xtl('plan', tmp_path/'mine.yaml')[1] == xtl('plan', 'mini')[1]


def test_the_presets_hold_what_the_paper_had(xtl):
    code, text, _ = xtl('plan', 'xtreme-large', '--yaml')
    study = yaml.safe_load(text)
    assert code == 0 and study['encoder'] == 'FacebookAI/xlm-roberta-large' and len(study['intermediate']) == 9 and len(study['targets']) == 9
    code, text, _ = xtl('plan', 'xtreme-large', '--device', 'H100')
    assert code == 0 and 'hours' in text.splitlines()[-1] and 'TiB for the trunks' in text.splitlines()[-2]


def test_a_plan_refuses_rows_too_long_for_the_encoder_as_a_run_does(xtl, tmp_path):
    code, _, err = xtl('plan', write(tmp_path/'long.yaml', recipes={'all': {'max_length': 128, 'stride': 24}}))
    assert code == 2 and err.count('\n') == 1 and 'this encoder reads at most 96' in err


MISTAKES = [
    (['plan', 'mimi'], "did you mean 'mini'?"),
    (['plan', 'nowhere.yaml'], "no study file 'nowhere.yaml'"),
    (['plan', 'mini', '--intermediate', 'sqaud'], "did you mean 'squad'?"),
    (['plan', 'mini', '--targets', 'xnil'], "did you mean 'xnli'?"),
    (['plan', 'mini', '--languages', 'qax'], 'qax'),
    (['plan', 'mini', '--budget', '-1'], '--budget must be a number above zero'),
    (['plan', 'mini', '--budget', '0'], '--budget must be a number above zero'),
    (['plan', 'mini', '--budget', 'much'], '--budget must be a number above zero'),
    (['plan', 'mini', '--n-tasks', '10'], 'n_tasks has 10, but the study has 9 intermediate tasks'),
    (['plan', 'mini', '--n-tasks', '1.5'], '--n-tasks must be a whole number'),
    (['plan', 'mini', '--seeds', '-3'], '--seeds must be a whole number'),
    (['run', 'mini', '--data', '/nowhere'], 'embedded world'),
    (['run', 'xtreme-base', '--data', '/nowhere', '--encoder', 'mini'], "no data mirror at '/nowhere'"),
    (['run', 'mini', '--encoder', './nowhere'], "no encoder at './nowhere'"),
    (['status', 'nowhere'], "no study in"),
    (['report', 'nowhere'], "no study in 'nowhere'"),
    (['store', 'nowhere'], "no store in 'nowhere'"),
    (['score', 'nowhere', 'nowhere'], 'nowhere is not a folder'),
]


@pytest.mark.parametrize('words, message', MISTAKES, ids=[' '.join(w) for w, _ in MISTAKES])
def test_a_mistake_is_answered_by_one_line_and_exit_code_2(xtl, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = xtl(*words)
    assert code == 2, (code, out, err)
    assert len(err.strip().splitlines()) == 1 and err.startswith('xtl: ') and message in err, err
    left = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert not [p for p in left if p.name in ('study.yaml', 'workspace.json', 'results.parquet') or p.suffix == '.part'], left


@pytest.mark.parametrize('changes, message', [
    (dict(bugdets=[1]), "unknown setting"),
    (dict(budgets=[-1]), 'budgets must be a number above zero'),
    (dict(budgets=1e9), 'must be a list'),
    (dict(intermediate=['mnly']), "did you mean 'mnli'?"),
    (dict(recipes={'xnli': {'learning_rte': 1}}), "did you mean 'learning_rate'?"),
    (dict(recipe='jint'), "did you mean 'jiant'?"),
    (dict(design=[['mnli', 'squad']]), "intermediate task in `design`"),
    (dict(languages=['zz']), "language 'zz'"),
    (dict(cooldown=2), 'cooldown must be a share'),
    (dict(max_test=0), 'max_test must be a whole number of at least 1'),
    (dict(processes=0), 'processes must be a whole number of at least 1'),
    (dict(precision='fp16'), "did you mean 'bf16'?"),
])
def test_a_wrong_setting_is_named(xtl, tmp_path, changes, message):
    code, _, err = xtl('plan', write(tmp_path/'mine.yaml', **changes))
    assert code == 2 and len(err.strip().splitlines()) == 1 and message in err, err


def test_text_that_is_no_yaml_is_refused(xtl, tmp_path):
    (tmp_path/'mine.yaml').write_text('name: [1,')
    code, _, err = xtl('plan', tmp_path/'mine.yaml')
    assert code == 2 and 'is no YAML' in err and len(err.strip().splitlines()) == 1


def test_without_a_network_the_hub_is_refused_in_one_line(xtl, tmp_path):
    code, _, err = xtl('run', 'xtreme-base', '--encoder', 'mini', '--intermediate', 'mnli', '--n-tasks', '1', '--targets', 'pawsx', '--out', tmp_path/'out',
                       HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path/'hf'))
    assert code == 2 and len(err.strip().splitlines()) == 1 and '--data DIR' in err, err
    assert not (tmp_path/'out'/'study.yaml').exists()


def test_ccgbank_is_refused_with_where_to_get_it(xtl, tmp_path):
    code, _, err = xtl('run', write(tmp_path/'mine.yaml', intermediate=['ccg'], n_tasks=[1], sources={}), '--out', tmp_path/'out')
    assert code == 2 and 'LDC2005T13' in err and 'pmb/ccg_supertags' in err


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "A small study that has run."
    import subprocess, sys
    folder = tmp_path_factory.mktemp('study')
    done = subprocess.run([str(Path(sys.executable).parent/'xtl'), 'run', str(write(folder/'tiny.yaml')), '--out', str(folder/'out'), '--workers', '2'], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


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


def test_epochs_are_budgets_too(xtl, tmp_path):
    code, text, err = xtl('plan', write(tmp_path/'epochs.yaml', budgets=[0.1], budget_unit='epochs', controls=[], targets=['tatoeba']))
    assert code == 0, err
    budget = float(text.splitlines()[1].split()[2])
    code, text, _ = xtl('plan', write(tmp_path/'twice.yaml', budgets=[0.2], budget_unit='epochs', controls=[], targets=['tatoeba']))
    assert float(text.splitlines()[1].split()[2]) == pytest.approx(2*budget, rel=0.01) and budget > 1e9
    code, text, err = xtl('run', write(tmp_path/'few.yaml', budgets=[0.02], budget_unit='epochs', controls=[], targets=['tatoeba']), '--out', tmp_path/'out')
    assert code == 0, err
    table = pd.read_parquet(tmp_path/'out'/'results.parquet')
    assert table.cell.nunique() == 1 and table.budget_flops.iloc[0] == pytest.approx(budget/5, rel=0.01)
    assert xtl('plan', write(tmp_path/'wrong.yaml', budget_unit='epoch'))[2].strip().endswith("did you mean 'epochs'?")


def test_a_run_keeps_executed_notebooks_predictions_and_settings(finished):
    out = finished[0]/'out'
    for cell in pd.read_parquet(out/'results.parquet').cell.unique():
        notebook = json.loads((out/'cells'/cell/'cell.ipynb').read_text())
        outputs = [o for c in notebook['cells'] for o in c.get('outputs', [])]
        assert not [o for o in outputs if o['output_type'] == 'error' or o.get('name') == 'stderr']
        assert sum('image/png' in o.get('data', {}) for o in outputs) == 2 # losses, and retrieval by layer
        assert (out/'cells'/cell/'predictions'/'xnli'/'test-qab.tsv').exists() and (out/'cells'/cell/'predictions'/'xquad'/'test-qab.json').exists()
    assert yaml.safe_load((out/'study.yaml').read_text())['budgets'] == [4e9, 8e9]
    assert 'torch' in json.loads((out/'versions.json').read_text()) and all(r['fingerprint'] for r in json.loads((out/'data.json').read_text()))
    assert not list(out.rglob('*.part')) and not list((out/'running').glob('*'))


def test_predictions_scored_from_their_files_give_the_table(finished, xtl):
    out = finished[0]/'out'
    table = pd.read_parquet(out/'results.parquet')
    cell = table[table.control == 'intermediate'].cell.iloc[0]
    code, text, err = xtl('score', out/'cells'/cell/'predictions', out/'gold', '--json', finished[0]/'scores.json')
    assert code == 0, err
    scored = pd.DataFrame(json.loads((finished[0]/'scores.json').read_text())['languages']).set_index(['target', 'language', 'metric']).score
    assert scored.sort_index().to_dict() == table[table.cell == cell].set_index(['target', 'language', 'metric']).score.sort_index().to_dict()


def test_finished_cells_are_skipped_and_changed_ones_run_again(finished, xtl):
    folder, _ = finished
    before = (folder/'out'/'results.parquet').read_bytes()
    code, text, _ = xtl('run', folder/'tiny.yaml', '--out', folder/'out')
    assert code == 0 and '5 cells, 5 finished already' in text
    assert (folder/'out'/'results.parquet').read_bytes() == before
    code, text, _ = xtl('run', write(folder/'more.yaml', n_tasks=[0, 1, 2], budgets=[4e9]), '--out', folder/'out', '--budget', '4e9')
    assert code == 0 and 'k1-s0-b4e09-r0: done' in text and 'none-r0' not in text.split('finished already')[1]


def test_a_budget_that_is_added_leaves_the_finished_cells(finished, xtl):
    folder, _ = finished
    code, text, err = xtl('run', write(folder/'longer.yaml', budgets=[4e9, 8e9, 9e9], n_tasks=[2], controls=[]), '--out', folder/'out')
    assert code == 0 and '3 cells, 2 finished already' in text, err


def test_status_and_store_say_what_is_there(finished, xtl):
    code, text, _ = xtl('status', finished[0]/'out')
    assert code == 0 and '0 running, 0 failed, 0 waiting' in text
    code, text, _ = xtl('store', finished[0]/'out')
    assert code == 0 and all(kind in text for kind in ('rows', 'trunk', 'intermediate', 'target', 'world'))
    code, text, _ = xtl('store', finished[0]/'out', '--prune', 'trunks')
    assert code == 2


def test_a_cell_whose_loss_is_no_number_fails_alone_with_its_step(xtl, tmp_path):
    broken = write(tmp_path/'broken.yaml', controls=['none'], intermediate=['mnli'], n_tasks=[0, 1], budgets=[4e9], targets=['tatoeba'], learning_rate=1e30, recipes={'all': {'max_length': 96, 'batch_size': 16, 'max_grad_norm': 0.0}})
    code, text, err = xtl('run', broken, '--out', tmp_path/'out', '--workers', '1')
    assert code == 1 and 'none-r0: done' in text
    assert 'the loss became' in err and 'step' in err and 'Traceback' not in err
    assert (tmp_path/'out'/'cells'/'k1-s0-b4e09-r0'/'cell.ipynb').exists()
    assert set(pd.read_parquet(tmp_path/'out'/'results.parquet').cell) == {'none-r0'}
