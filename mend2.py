import sys, re, json; sys.path.insert(0,'/work/proto')
from ed import edit
DEMO = """tiny = read_study('mini').but(
    name='tiny', data=dict(languages=('qab', 'qbc')), phase2=dict(score_intermediate=True), phase3=dict(target_flops=1e10),
    design=dict(intermediate=('mnli', 'squad', 'csqa'), targets=('xnli', 'panx', 'tatoeba'), budgets=(1e10, 2e10),
                n_tasks=(0, 1, 2), subset_count=1))
"""
for n in ('10_workspace','20_phase2','30_phase3','40_cell','50_results'):
    p=f'nbs/transfer/{n}.ipynb'; nb=json.load(open(p))
    for c in nb['cells']:
        s=''.join(c['source'])
        if "tiny = replace(read_study('mini')" in s:
            s=re.sub(r"tiny = replace\(read_study\('mini'\).*?target_flops=1e10\)\n", DEMO, s, flags=re.S); c['source']=s.splitlines(keepends=True)
    json.dump(nb,open(p,'w'),indent=1,ensure_ascii=False); open(p,'a').write('\n')
edit('nbs/transfer/20_phase2.ipynb', ("separate_space = replace(space, out=Path(tempfile.mkdtemp()), study=replace(tiny, budgets=(2e10,), warmup=tiny.warmup/2))",
"""alone = tiny.but(design=dict(budgets=(2e10,)), phase2=dict(warmup=tiny.phase2.warmup/2))
separate_space = replace(space, out=Path(tempfile.mkdtemp()), study=alone)"""))
edit('nbs/transfer/50_results.ipynb', ("replace(tiny, recipe='xtreme')", "tiny.but(phase3=dict(recipe='xtreme'))"))
for n in ('10_workspace','30_phase3','40_cell'):
    s=open(f'nbs/transfer/{n}.ipynb').read()
    nb=json.loads(s); body=''.join(''.join(c['source']) for c in nb['cells'] if c['cell_type']=='code').replace('from dataclasses import replace','')
    if not re.search(r'(?<![._\w])replace\(', body): edit(f'nbs/transfer/{n}.ipynb', ('from dataclasses import replace\n',''))
edit('nbs/execution/50_run.ipynb', ("tiny = replace(read_study('mini'), name='tiny', intermediate=('mnli', 'csqa'), targets=('xnli', 'tatoeba'), languages=('qab', 'qcc'), budgets=(5e9,), n_tasks=(0, 2), subsets=1, target_flops=5e9)\n",
"""tiny = read_study('mini').but(
    name='tiny', data=dict(languages=('qab', 'qcc')), phase3=dict(target_flops=5e9),
    design=dict(intermediate=('mnli', 'csqa'), targets=('xnli', 'tatoeba'), budgets=(5e9,), n_tasks=(0, 2), subset_count=1))
"""))
edit('nbs/execution/50_run.ipynb', ('from dataclasses import replace\n',''))
edit('nbs/experiments/cell.ipynb', ('space.study.source_language','space.study.data.source_language'))
edit('nbs/experiments/schedules.ipynb', ("chosen = replace(read_study(study), name=schedule, schedule=schedule, n_tasks=tuple(n_tasks), seeds=tuple(seeds), subsets=1, controls=())",
"""design = dict(n_tasks=n_tasks, seeds=seeds, subset_count=1, controls=())
    chosen = read_study(study).but(name=schedule, phase2=dict(schedule=schedule), design=design)"""))
def tedit(path, *pairs):
    s=open(path).read()
    for a,b in pairs:
        if a not in s: print('NOT FOUND',path,a[:80])
        s=s.replace(a,b)
    open(path,'w').write(s)
tedit('tests/test_evaluation.py',
("replace(read_study('mini'), data=str(write_world(tmp_path_factory.mktemp('world')/'world')))", "read_study('mini').but(data=dict(source=str(write_world(tmp_path_factory.mktemp('world')/'world'))))"),
("replace(base, retrieval_layer=9)", "base.but(retrieval=dict(layer=9))"),
("def bucc_study(base, folder, **changes): return replace(base, **dict(targets=('bucc',), languages=('qab',), sources={'bucc': {'folder': str(folder)}}) | ONLY_RETRIEVAL | changes)",
 "def bucc_study(base, folder, **changes):\n    data = dict(languages=('qab',), sources={'bucc': {'folder': str(folder)}}) | changes\n    return base.but(data=data, design=dict(targets=('bucc',)) | ONLY_RETRIEVAL)"),
("replace(base, targets=('tatoeba',), languages=('qba',), **ONLY_RETRIEVAL)", "base.but(data=dict(languages=('qba',)), design=dict(targets=('tatoeba',)) | ONLY_RETRIEVAL)"),
("replace(space, study=replace(plain, **changes))", "replace(space, study=plain.but(**changes))"),
("replace(base, targets=('xnli', 'tatoeba'), languages=('qab', 'qcc'), intermediate=('csqa',), n_tasks=(0, 1), budgets=(1e9,), target_flops=1e9, subsets=1)",
 "base.but(data=dict(languages=('qab', 'qcc')), phase3=dict(target_flops=1e9),\n                     design=dict(targets=('xnli', 'tatoeba'), intermediate=('csqa',), n_tasks=(0, 1), budgets=(1e9,), subset_count=1))"),
("replace(base, targets=('tatoeba',), languages=('qab', 'qba', 'qcc'), **ONLY_RETRIEVAL)", "base.but(data=dict(languages=('qab', 'qba', 'qcc')), design=dict(targets=('tatoeba',)) | ONLY_RETRIEVAL)"),
("replace(base, targets=('tatoeba',), languages=('qab',), n_tasks=(9,), budgets=(4e9,), subsets=1, controls=(), max_train=200, max_test=40, score_intermediate=True)",
 "base.but(data=dict(languages=('qab',), max_train=200, max_test=40), phase2=dict(score_intermediate=True),\n                     design=dict(targets=('tatoeba',), n_tasks=(9,), budgets=(4e9,), subset_count=1, controls=()))"),
("nine.study.intermediate,", "nine.study.design.intermediate,"),
("replace(base, targets=('tatoeba',), languages=('qab',), intermediate=('csqa',), n_tasks=(1,), budgets=(1e9,), subsets=1, controls=())",
 "base.but(data=dict(languages=('qab',)),\n                     design=dict(targets=('tatoeba',), intermediate=('csqa',), n_tasks=(1,), budgets=(1e9,), subset_count=1, controls=()))"),
)
tedit('tests/benchmarks/overhead.py', ("replace(read_study('mini'), name='overhead', targets=('tatoeba',), languages=('qab',), n_tasks=(0,), controls=('none',))",
 "read_study('mini').but(name='overhead', data=dict(languages=('qab',)),\n                                   design=dict(targets=('tatoeba',), n_tasks=(0,), controls=('none',), budgets=()))"))
tedit('tests/benchmarks/threads.py', ("replace(read_study('mini'), intermediate=('mnli', 'squad'), n_tasks=(2,), targets=('tatoeba',), languages=('qab',), controls=())",
 "read_study('mini').but(\n            data=dict(languages=('qab',)), design=dict(intermediate=('mnli', 'squad'), n_tasks=(2,), targets=('tatoeba',), controls=()))"))
tedit('tests/test_report.py', ("f'name: simulated\\nsource_language: {results.language.iloc[0]}\\n'", "f'{{name: simulated, data: {{source_language: {results.language.iloc[0]}}}}}'"),
("'source_language: qaa\\nmax_train: 2000\\nmax_test: null\\n'", "'data: {source_language: qaa, max_train: 2000, max_test: null}'"),
("f'source_language: {source}\\n'", "f'data: {{source_language: {source}}}'"))
tedit('tests/test_faults.py', ("('learning_rate', 'schedule', 'sampling', 'budget_scope', 'precision', 'encoder_fingerprint', 'data', 'code',", "('phase2_learning_rate', 'phase2_schedule', 'mixture_sampling', 'design_budget_scope', 'device_precision', 'encoder_fingerprint', 'data_source', 'code',"))
