"The main job on real input: an encoder pretrained on the mirror, a study of real tasks in real languages, its report."
import pandas as pd
import yaml


def test_a_small_study_on_real_data(hub, xtl, here, tmp_path):
    code, text, err = here('pretrain', '--data', hub, '--out', tmp_path/'encoder', '--steps', '20', '--width', '32', '--layers', '2', '--heads', '2', '--vocabulary', '2000', '--max-length', '64', '--documents', '8')
    assert code == 0 and 'in 40 languages' in text, err
    study = dict(
        name='real', encoder=dict(name=str(tmp_path/'encoder')),
        data=dict(source=str(hub), languages=['sw', 'zh', 'th', 'yo'], max_train=100, max_test=20),
        design=dict(intermediate=['squad2', 'mnli', 'hellaswag', 'cosmosqa'], budgets=[2e9], n_tasks=[0, 4], subset_count=1),
        phase2=dict(learning_rate=1e-3, score_intermediate=True),
        phase3=dict(target_flops=1e9, recipes={'all': {'max_length': 64, 'batch_size': 8, 'stride': 16, 'learning_rate': 1e-3}}))
    (tmp_path/'real.yaml').write_text(yaml.safe_dump(study))
    code, text, err = xtl('run', tmp_path/'real.yaml', '--out', tmp_path/'out', '--workers', '2', timeout=900)
    assert code == 0, err
    assert 'answers realigned' in text
    table = pd.read_parquet(tmp_path/'out'/'results.parquet')
    held = table.groupby('target').language.agg(set).to_dict()
    assert held == {'xnli': {'en', 'sw', 'zh', 'th'}, 'pawsx': {'en', 'zh'}, 'udpos': {'en', 'zh', 'th', 'yo'}, 'panx': {'en', 'sw', 'zh', 'yo'}, 'xquad': {'en', 'zh', 'th'},
                    'mlqa': {'en', 'zh'}, 'tydiqa': {'en', 'sw'}, 'tatoeba': {'sw', 'zh', 'th'}, 'bucc': {'zh'}}
    assert set(table.cell) == {'none-r0', 'target-only-b2e9-r0', 'k4-s0-b2e9-r0'} and table.score.between(0, 100).all()
    learned = pd.read_parquet(tmp_path/'out'/'intermediate.parquet')
    assert set(learned.task) == {'squad2', 'mnli', 'hellaswag', 'cosmosqa'} and {'HasAns_f1', 'NoAns_f1'} <= set(learned.metric) and learned.score.between(0, 100).all()
    cell = tmp_path/'out'/'cells'/'k4-s0-b2e9-r0'
    code, text, err = here('score', cell/'predictions', tmp_path/'out'/'gold', '--json', tmp_path/'scores.json')
    assert code == 0, err
    scored = pd.DataFrame(yaml.safe_load((tmp_path/'scores.json').read_text())['languages']).set_index(['target', 'language', 'metric']).score
    assert scored.sort_index().to_dict() == table[table.cell == cell.name].set_index(['target', 'language', 'metric']).score.sort_index().to_dict()
    code, text, err = here('report', tmp_path/'out')
    assert code == 0 and 'small' in (tmp_path/'out'/'report'/'index.html').read_text(), err
