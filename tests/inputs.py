"""Inputs that a user may get wrong, over all commands and kinds of files, and what is right: a table of `Input`s.

An input says which files there are, which words are typed, and what has to come of it: `code` 2 with one line that holds
`says`, or `code` 0 with output that holds `says`.
"""
from dataclasses import dataclass, field

import yaml

LIST_OF_TASKS = ('mnli', 'csqa')
LEAST = {
    'name': 'x', 'encoder': {'name': 'mini'}, 'data': {'source': 'mini', 'source_language': 'qaa'},
    'design': {'budgets': [1e9], 'n_tasks': [0, 1], 'intermediate': list(LIST_OF_TASKS), 'targets': ['tatoeba']},
    'phase3': {'target_flops': 1e9, 'recipes': {'all': {'max_length': 96, 'stride': 24}}}}


@dataclass(frozen=True)
class Input:
    "What a user does, and what has to come of it."
    kind: str
    words: tuple
    says: str = ''
    code: int = 2
    files: dict = field(default_factory=dict) # name -> text or bytes; None: a folder


def settings(kind, group, name, text, says, code=2):
    "A study file with one setting changed, its value as text."
    made = {k: dict(v) if isinstance(v, dict) else v for k, v in LEAST.items()}
    made.setdefault(group, {}).pop(name, None)
    lines = yaml.safe_dump({k: v for k, v in made.items() if k != group}, sort_keys=False)
    own = ''.join(f'  {k}: {yaml.safe_dump(v, default_flow_style=True).splitlines()[0]}\n' for k, v in made[group].items())
    return Input(kind, ('plan', 'my.yaml', '--yaml'), says, code, {'my.yaml': f'{lines}{group}:\n{own}  {name}: {text}\n'})


WRONG = { # Kind of value -> what is none of it, as YAML
    'positive': ['-1', '0', 'much', 'true', '[1]', '{a: 1}', '.nan', '.inf', '1e300', '9'*400, '""'],
    'not negative': ['-1', 'much', 'true', '[1]', '.nan', '1e300'],
    'share': ['-0.1', '1', '2', 'half', 'true', '[0.1]', '.nan'],
    'count': ['0', '-1', '1.5', 'few', 'true', '[1]', '9'*400, '1e400', '.nan'],
    'whole': ['-1', '1.5', 'few', 'true', '[1]', '.inf'],
    'yes': ['yes', '1', '0', '"true"', 'no', '[true]'],
    'choice': ['wrong', '3', 'true', '[]', '""', '{a: b}'],
    'text': ['3', '""', '[]', 'true', '"a\\nb"', '"\\e[31m"', '{a: b}', '" a"'],
    'list of positive': ['1e9', 'much', '{}', '[[1]]', '[-1]', '[1e9, 1e9]', '[null]', '[true]', '[1e9, "1000000000"]', '[1e308]', 'true'],
    'list of whole': ['1', 'x', '{}', '[[1]]', '[-1]', '[0, 0]', '[1.5]', '[null]', '[]', '[true]', '[0, "0"]'],
    'list of intermediate': ['mnli', '3', '[mnly]', '[mnli, mnli]', '[xnli]', '[3]', '[null]', '{mnli: 1}'],
    'list of targets': ['xnli', '3', '[xnil]', '[xnli, xnli]', '[mnli]', '[]', '[null]', 'true'],
    'list of languages': ['qab', '3', '[qab, qab]', '[zz]', '[en]', '[]', '[null]', '[1]'],
    'text languages': ['target', '3', '[qab, qab]', '[zz]', '[]', '{a: b}', 'true', '[null]'],
    'places': ['3', '[]', '{a: b}', '[data, data]', '[3]', 'true', '"a\\nb"'],
    'exponent': ['-0.1', '1.5', 'much', 'true', '[1]', '.nan'],
    'part': ['0', '1', '-0.1', 'much', 'true', '[0.1]', '.nan'],
    'language': ['zz', 'en', '3', '""', '[qaa]', 'true'],
    'subsets': ['nestled', '3', '[]', '[mnli]', '[[]]', '[[mnly]]', '[[mnli, mnli]]', '[[mnli], [mnli]]', '[[3]]', 'true',
                '[[mnli, csqa]]', '{a: [mnli]}'],
    'kept': ['trunk', '[trunks]', '[trunk, trunk]', '[null]', '3', '{}', '[[trunk]]'],
    'controls': ['none', '[nothing]', '[none, none]', '[null]', '3', '{}', '[[none]]'],
    'mapping': ['3', 'x', '[]', 'true', '[{a: b}]'],
    'expected': ['3', '[]', '{mnly: []}', '{xnli: []}', '{mnli: tatoeba}', '{mnli: [tatoba]}', '{mnli: 3}', '{mnli: null}', '{mnli: [tatoeba, tatoeba]}',
                 '{3: []}', '[mnli]'],
}
NOT_NULL, MAYBE_NULL = 'null is wrong, too', 'null is right, too'
FIELDS = { # Setting -> kind of value, and whether null is one
    'encoder.name': ('text', NOT_NULL), 'encoder.freeze_embeddings': ('yes', NOT_NULL),
    'data.source': ('text', NOT_NULL), 'data.source_language': ('language', NOT_NULL),
    'data.languages': ('list of languages', MAYBE_NULL), 'data.max_train': ('count', MAYBE_NULL),
    'data.max_test': ('count', MAYBE_NULL), 'data.revisions': ('mapping', NOT_NULL), 'data.sources': ('mapping', NOT_NULL),
    'design.intermediate': ('list of intermediate', NOT_NULL), 'design.targets': ('list of targets', NOT_NULL),
    'design.n_tasks': ('list of whole', NOT_NULL), 'design.budgets': ('list of positive', NOT_NULL),
    'design.budget_unit': ('choice', NOT_NULL), 'design.budget_scope': ('choice', NOT_NULL),
    'design.subsets': ('subsets', NOT_NULL), 'design.subset_count': ('count', NOT_NULL),
    'design.subset_seed': ('whole', NOT_NULL), 'design.controls': ('controls', NOT_NULL),
    'design.seeds': ('list of whole', NOT_NULL), 'design.control_seeds': ('whole', NOT_NULL),
    'design.full_seeds': ('whole', NOT_NULL), 'design.controls_expected': ('expected', NOT_NULL), 'mixture.sampling': ('choice', NOT_NULL), 'mixture.cap': ('count', NOT_NULL),
    'mixture.temperature': ('positive', NOT_NULL), 'mixture.distill': ('not negative', NOT_NULL), 'phase2.schedule': ('choice', NOT_NULL),
    'phase2.cooldown': ('share', NOT_NULL), 'phase2.warmup': ('share', NOT_NULL), 'phase2.learning_rate': ('positive', NOT_NULL),
    'mlm.share': ('share', NOT_NULL), 'mlm.languages': ('text languages', NOT_NULL), 'mlm.text': ('places', NOT_NULL), 'mlm.exponent': ('exponent', NOT_NULL),
    'mlm.mask_share': ('part', NOT_NULL), 'mlm.whole_words': ('yes', NOT_NULL), 'mlm.batch_size': ('count', NOT_NULL), 'mlm.max_length': ('count', NOT_NULL),
    'phase2.weight_decay': ('not negative', NOT_NULL), 'phase2.max_grad_norm': ('not negative', NOT_NULL),
    'phase2.score_intermediate': ('yes', NOT_NULL), 'phase3.recipe': ('choice', NOT_NULL), 'phase3.recipes': ('mapping', NOT_NULL),
    'phase3.target_flops': ('positive', MAYBE_NULL), 'retrieval.layer': ('whole', MAYBE_NULL),
    'retrieval.pooling': ('choice', NOT_NULL), 'retrieval.special_tokens': ('yes', NOT_NULL),
    'retrieval.tatoeba_similarity': ('choice', NOT_NULL), 'device.precision': ('choice', NOT_NULL),
    'device.micro_batch_tokens': ('count', NOT_NULL), 'device.packing': ('yes', NOT_NULL), 'device.compile': ('yes', NOT_NULL),
    'device.keep': ('kept', NOT_NULL), 'device.processes': ('count', NOT_NULL), 'device.checkpoint_seconds': ('positive', NOT_NULL)}


def wrong_values():
    "Every setting with every value that is none of its kind."
    found = []
    for dotted, (kind, null) in FIELDS.items():
        group, name = dotted.split('.')
        values = WRONG[kind] + ['null']*(null == NOT_NULL)
        if dotted == 'device.precision': values = [v for v in values if v != 'no']
        found += [settings('wrong value', group, name, v, name) for v in values]
    return found


def wrong_names():
    "Every setting with a letter too few, in the file and with --set; every group likewise; settings of another group."
    found = []
    for dotted in FIELDS:
        group, name = dotted.split('.')
        slip = name[:-2] + name[-1]
        found.append(settings('unknown name', group, slip, '1', f"'{slip}': did you mean"))
        found.append(Input('unknown name', ('plan', 'mini', '--yaml', '--set', f'{group}.{slip}=1'), f"'{slip}': did you mean"))
    for group in {d.split('.')[0] for d in FIELDS}:
        slip = group[:-2] + group[-1]
        study = yaml.safe_dump(LEAST | {slip: {}})
        found.append(Input('unknown name', ('plan', 'my.yaml', '--yaml'), f"'{slip}': did you mean", files={'my.yaml': study}))
        found.append(Input('unknown name', ('plan', 'mini', '--yaml', '--set', f'{slip}.x=1'), f"'{slip}': did you mean"))
        for value in ('3', '[]', 'x', 'null', 'true'):
            study = yaml.safe_dump({k: v for k, v in LEAST.items() if k != group}) + f'{group}: {value}\n'
            found.append(Input('wrong group', ('plan', 'my.yaml', '--yaml'), group, files={'my.yaml': study}))
    for setting in ('budgets', 'source_language', 'learning_rate', 'recipe', 'precision'): # as studies were once
        study = yaml.safe_dump(LEAST | {setting: 1})
        found.append(Input('unknown name', ('plan', 'my.yaml', '--yaml'), f"'{setting}'", files={'my.yaml': study}))
    return sorted(found, key=lambda i: (i.words, str(i.files)))


WITHOUT_EFFECT = [
    ('mixture', 'cap', '5', 'capped'), ('mlm', 'exponent', '1', 'mlm.share'), ('mlm', 'whole_words', 'true', 'mlm.share'), ('mixture', 'temperature', '3', 'temperature'), ('phase2', 'schedule', 'linear\n  cooldown: 0.3', 'trunk'),
    ('design', 'subsets', 'all\n  subset_count: 2', 'balanced'), ('design', 'subsets', '[[mnli]]\n  subset_count: 2', 'balanced'),
    ('design', 'subsets', 'all\n  subset_seed: 1', 'nested'), ('design', 'n_tasks', '[0]\n  controls: [none]', 'budget'),
    ('design', 'n_tasks', '[0]\n  budget_unit: epochs', 'intermediate'), ('design', 'controls', '[target-only]\n  controls_expected: {mnli: []}', 'none'),
    ('retrieval', 'pooling', 'cls\n  special_tokens: false', 'mean'), ('encoder', 'revision', 'main', 'Hub'),
    ('data', 'revisions', '{google/xtreme: main}', 'hub'),
    ('phase3', 'recipes', '{mnli: {learning_rate: 1e-3}}', 'phase2'), ('phase3', 'recipes', '{mnli: {epochs: 3}}', 'epochs'),
    ('phase3', 'recipes', '{squad: {weight_decay: 0.1}}', 'phase2'), ('phase3', 'recipes', '{choice: {learning_rate: 1e-3}}', 'phase2'),
    ('phase3', 'recipes', '{tatoeba: {learning_rate: 1e-3}}', 'learning_rate'), ('phase3', 'recipes', '{xnli: {stride: 8}}', 'stride'),
    ('phase3', 'recipes', '{retrieval: {warmup: 0.5}}', 'warmup')]

WRONG_PARTS = [
    ('data', 'sources', '{xnil: {repository: a/b}}', 'xnli'), ('data', 'sources', '{xnli: {repo: a/b}}', 'repository'),
    ('data', 'sources', '{xnli: {}}', 'names no place'), ('data', 'sources', '{xnli: 3}', 'sources'),
    ('data', 'sources', '{xnli: {folder: /x}}', 'ccg and bucc'), ('data', 'sources', '{ccg: {folder: /x, config: en}}', 'leave one out'),
    ('data', 'sources', '{ccg: {folder: 3}}', 'sources'), ('data', 'sources', '{ccg: {repository: null}}', 'sources'),
    ('data', 'sources', '{ccg: {folder: ./nowhere}}', 'nowhere'), ('data', 'source', './nowhere', 'nowhere'),
    ('data', 'source_language', 'en', 'languages of `data.source: mini`'),
    ('phase3', 'recipes', '{xnil: {epochs: 3}}', 'xnli'), ('phase3', 'recipes', '{xnli: {epoch: 3}}', 'epochs'),
    ('phase3', 'recipes', '{xnli: 3}', 'recipes'), ('phase3', 'recipes', '{xnli: null}', 'recipes'),
    ('phase3', 'recipes', '{all: {learning_rate: 0}}', 'learning_rate'), ('phase3', 'recipes', '{all: {learning_rate: 1e300}}', 'learning_rate'),
    ('phase3', 'recipes', '{all: {max_length: 7}}', 'max_length'), ('phase3', 'recipes', '{all: {warmup: 1}}', 'warmup'),
    ('phase3', 'recipes', '{all: {batch_size: 1.5}}', 'batch_size'), ('phase3', 'recipes', '{all: {max_grad_norm: x}}', 'max_grad_norm'),
    ('phase3', 'recipes', '{all: {batch_size: .nan}}', 'batch_size'), ('phase3', 'recipes', '{all: {epochs: true}}', 'epochs'),
    ('design', 'n_tasks', '[0, 3]', 'n_tasks'), ('design', 'budgets', '[]', 'budgets'), ('design', 'subsets', '[[mnli, csqa]]', 'n_tasks'),
    ('design', 'intermediate', '[]', 'n_tasks'), ('design', 'subsets', '[[squad]]', 'intermediate')]

NAMES = ['3', 'null', '""', '[]', '../../x', '/etc/x', '..', '.hidden', 'a/b', '"a\\nb"', '"\\e[31mred"', '" a "', 'a\\b', 'x'*201, 'true', '"a\\0b"']

TEXTS = { # What a study file may be instead
    'cut': 'name: [1,', 'tab': 'name:\tx\n\tencoder: y', 'list': '- 1\n- 2\n', 'number': '3', 'empty': '', 'text': 'hello', 'null': 'null',
    'key twice': 'name: x\nencoder: {name: mini}\nname: y\n', 'setting twice': 'name: x\nencoder:\n  name: mini\n  name: mini\n',
    'deep twice': 'name: x\nencoder: {name: mini}\nphase3: {recipes: {all: {epochs: 1, epochs: 2}}}\n',
    'itself': 'name: &a [*a]\n', 'bomb': 'a: &a [1,1]\nb: &b [*a,*a]\nc: [*b,*b]\n', 'merge': 'a: &a {x: 1}\nb: {<<: *a}\n',
    'python': 'name: !!python/object/apply:os.system [true]\n', 'tag': 'name: !mine x\n', 'deep': '['*5000, 'list key': '? [a]\n: 1\n',
    'two documents': 'name: x\n---\nname: y\n', 'control': 'name: \x07\n', 'number key': '1: 2\n', 'set key': 'encoder: {1: 2}\nname: x\n',
    'no name': 'encoder: {name: mini}\n', 'no encoder': 'name: x\n', 'no encoder name': 'name: x\nencoder: {}\n',
    'utf-16': 'name: x\n'.encode('utf-16'), 'latin-1': 'name: \xe9t\xe9\n'.encode('latin-1'), 'zeros': b'\0'*100, 'zip': b'PK\x03\x04' + bytes(range(256)), 'folder': None}


def wrong_files():
    "Files that are no study, and studies under other wrong names."
    found = [Input(f'study file: {k}', ('plan', 'my.yaml', '--yaml'), 'my.yaml', files={'my.yaml': v}) for k, v in TEXTS.items()]
    for name in NAMES:
        study = 'encoder: {name: mini}\ndata: {source: mini, source_language: qaa}\ndesign: {budgets: [1e9]}\n'
        found.append(Input('name of a study', ('plan', 'my.yaml', '--yaml'), 'name', files={'my.yaml': f'name: {name}\n{study}'}))
        found.append(Input('name of a study', ('run', 'my.yaml'), 'name', files={'my.yaml': f'name: {name}\n{study}'}))
    for word in ('mimi', 'nowhere.yaml', './nowhere', '', '.', '\x1b[2J', 'x'*300, 'mini.yaml', 'MINI'):
        for command in (('plan', word, '--yaml'), ('run', word)): found.append(Input('no such study', command, ''))
    return found


SETS = ['', '=', 'x', 'design', 'design.', '.seeds=1', 'design.seeds', 'design.seeds=', 'design.seeds=[1', 'design=3', 'design={}', 'name.x=1', 'name=', 'name=../x',
        'name="a\\nb"', 'design.seeds=[1, 1]', 'design.seeds=1', 'desing.seeds=[1]', 'design.sedes=[1]', 'phase2.learning_rate=fast', 'phase2.learning_rate=*a',
        'phase2.learning_rate={a: 1, a: 2}', 'device.precision=fp8', 'phase3.recipes={xnil: {}}', 'mixture.cap=5', 'encoder.revision=main', 'encoder.name=',
        'data.source=hub', 'data.source_language=en', 'design.budgets=[]', 'phase3.recipes.all=3', 'budgets=[1e9]', 'design.n_tasks=[99]']

OPTIONS = {
    '--budget': ['-1', '0', 'much', '', ',', '1e9,', '1e9,,2e9', '1e9,1e9', 'nan', 'inf', '1e300', 'true'],
    '--n-tasks': ['-1', '1.5', '10', 'x', '', ',', '1,1', 'nan', '1,'], '--seeds': ['-1', '1.5', 'x', '', '0,0', '0,,1', 'nan'],
    '--intermediate': ['sqaud', '', ',', 'mnli,mnli', 'xnli', 'mnli,'], '--targets': ['xnil', '', ',', 'xnli,xnli', 'mnli'],
    '--languages': ['zz', '', ',', 'qab,qab', 'en'], '--encoder': ['', '\x1b[2J'], '--data': ['/nowhere', 'hub', ''],
    '--ccgbank': ['./nowhere', '']}

USES = [ # Words, and what the line says
    (('plan',), 'STUDY'), (('run',), 'STUDY'), (('plan', 'mini', 'mini'), ''), (('plan', 'mini', '--devise', 'H100'), 'devise'),
    (('plan', 'mini', '--device', 'H10'), 'H100'), (('plan', 'mini', '--device', ''), 'device'), (('plan', 'mini', '--yaml=3'), 'yaml'),
    (('plan', 'mini', '--set'), 'set'), (('run', 'mini', '--workers', '0'), 'workers'), (('run', 'mini', '--workers', 'x'), 'workers'),
    (('run', 'mini', '--workers', '1.5'), 'workers'), (('run', 'mini', '--threads', '0'), 'threads'), (('run', 'mini', '--threads', '-1'), 'threads'),
    (('run', 'mini', '--cell-limit', '0'), 'cell-limit'), (('run', 'mini', '--cell-limit', 'x'), 'cell-limit'),
    (('run', 'mini', '--hang-limit', '0'), 'hang-limit'), (('run', 'mini', '--scheduler', 'tcp://x:1', '--workers', '2'), '--workers'),
    (('run', 'mini', '--scheduler', 'tcp://x:1', '--slurm', 'x.yaml'), '--slurm'), (('run', 'mini', '--slurm', 'nowhere.yaml'), 'nowhere.yaml'),
    (('status',), 'OUT'), (('report',), 'OUT'), (('export', 'x'), 'csv'), (('export',), 'OUT'), (('store',), 'OUT'), (('score', 'x'), 'GOLD'), (('score',), ''),
    (('pretrain', '--out', 'x', '--data', 'mini'), 'embedded world'), (('pretrain', '--out', 'x', '--data', '/nowhere'), 'nowhere'),
    (('pretrain', '--out', '', '--data', '/nowhere'), '--out'), (('pretrain', '--data', '/nowhere'), 'out'), (('pretrain', '--out', 'x', '--data', '/nowhere', '--steps', '0'), 'steps'),
    (('pretrain', '--out', 'x', '--data', '/nowhere', '--width', '7'), 'width'), (('pretrain', '--out', 'x', '--data', '/nowhere', '--width', '10'), 'heads'),
    (('pretrain', '--out', 'x', '--data', '/nowhere', '--heads', '0'), 'heads'), (('pretrain', '--out', 'x', '--data', '/nowhere', '--layers', 'x'), 'layers'),
    (('pretrain', '--out', 'x', '--data', '/nowhere', '--vocabulary', '10'), 'vocabulary'), (('pretrain', '--out', 'x', '--data', '/nowhere', '--seed', '-1'), 'seed'),
    (('pretrain', '--out', 'x', '--data', '/nowhere', '--max-length', '2'), 'max-length'), (('pretrain', '--out', 'x', '--data', '/nowhere', '--documents', '0'), 'documents'),
    (('pretrain', '--out', 'x'), 'no text'), (('pretrain', '--out', 'x', '--text', 'nowhere'), 'nowhere'), (('pretrain', '--out', 'x', '--pack', 'sib200'), '--data'),
    (('pretrain', '--out', 'x', '--data', '/nowhere', '--pack', 'sib20'), 'sib200'),
    (('tasks', 'x'), ''), (('languages', '--all'), 'all'), (('studies', 'x'), ''), (('paln', 'mini'), 'paln'), (('--version-of',), 'version-of'), (('\x1b[2J',), '')]


def wrong_words():
    "Options and arguments that are wrong."
    found = [Input('--set', ('plan', 'mini', '--yaml', '--set', s), '') for s in SETS]
    found.append(Input('--set', ('plan', 'mini', '--yaml', '--set', 'design.seeds=[1]', '--set', 'design.seeds=[2]'), 'twice'))
    found.append(Input('--set', ('plan', 'mini', '--yaml', '--seeds', '1', '--set', 'design.seeds=[2]'), 'twice'))
    for option, values in OPTIONS.items():
        for value in values:
            if (option, value) == ('--encoder', '\x1b[2J'): found.append(Input('option', ('plan', 'mini', '--yaml', option, value), ''))
            else: found += [Input('option', (command, 'mini', option, value), '') for command in ('plan', 'run')]
    return found + [Input('use', words, says) for words, says in USES]


OUTS = ['', ' ', 'a\nb', '\x1b[31m', 'file', 'file/out', '/dev/null', '/proc/x', '/dev/null/x']
STUDY = 'name: x\nencoder: {name: mini}\ndata: {source: mini, source_language: qaa}\ndesign: {budgets: [1e9]}\n'
JSONS = {'empty': '', 'list': '[]', 'null': 'null', 'number': '3', 'cut': '{"folders": {"a', 'other': '{"a": 1}', 'binary': b'\x80\x81\xff', 'zeros': b'\0'*50}
PARQUETS = {'empty': b'', 'text': b'hello', 'cut': b'PAR1' + b'\0'*40, 'zeros': b'\0'*64}


def wrong_folders():
    "Folders that are no study, or a damaged one, for every command that reads one."
    readers = {'status': (), 'report': (), 'export': ('--csv', 'x.csv'), 'store': ()}
    found = [Input('--out', ('run', 'mini', '--out', out), '', files={'file': 'x'}) for out in OUTS]
    for command, rest in readers.items():
        for where in ('nowhere', 'file', 'empty', '', '\x1b[2J', '/dev/null'):
            found.append(Input('no study', (command, where, *rest), '', files={'file': 'x', 'empty': None}))
    for text in ('name: [', '', '3', '[]', b'\x80\xff'):
        files = {'out/study.yaml': text, 'out/workspace.json': '{}', 'out/results.parquet': b''}
        found += [Input('damaged settings', (c, 'out'), 'study.yaml', files=files) for c in ('status', 'report')]
    for text in JSONS.values():
        files = {'out/study.yaml': STUDY, 'out/workspace.json': text, 'out/data.json': '[]'}
        found.append(Input('damaged workspace', ('status', 'out'), '', files=files))
    for data in PARQUETS.values():
        files = {'out/study.yaml': STUDY, 'out/results.parquet': data}
        found += [Input('damaged table', (c, 'out', *readers[c]), 'results.parquet', files=files) for c in ('report', 'export')]
    for prune in (',', '', ' ', 'trunk,', 'trunks', 'all,trunk', 'ALL', '*', '.', '../x'):
        found.append(Input('--prune', ('store', 'out', '--prune', prune), '', files={'out/store/trunk/a/x': 'x'}))
    return found


TSV = 'entailment\nneutral\n'
SCORES = [ # Predictions and gold that are wrong, as files
    {}, {'gold/xnli/test-en.tsv': TSV}, {'predictions/xnli/test-en.tsv': TSV}, {'predictions': 'x', 'gold/xnli/test-en.tsv': TSV},
    {'predictions/xnli/test-en.tsv': 'entailment\n', 'gold/xnli/test-en.tsv': TSV}, {'predictions/xnli/test-en.tsv': '', 'gold/xnli/test-en.tsv': TSV},
    {'predictions/xnli/test-en.tsv': 'yes\nno\n', 'gold/xnli/test-en.tsv': TSV}, {'predictions/xquad/test-en.json': '{', 'gold/xquad/test-en.json': '{}'},
    {'predictions/xquad/test-en.json': '', 'gold/xquad/test-en.json': '{}'}, {'predictions/xquad/test-en.json': '{}', 'gold/xquad/test-en.json': ''}]


def wrong_scores():
    "Predictions or gold that cannot be scored."
    return [Input('score', ('score', 'predictions', 'gold'), '', files={'other': 'x'} | files) for files in SCORES]


RIGHT = [ # Setting, as YAML, and what the study then says
    ('phase2', 'warmup', '6e-2', 'warmup: 0.06'), ('phase2', 'cooldown', '"0.2"', 'cooldown: 0.2'), ('data', 'max_train', '200.0', 'max_train: 200 '),
    ('data', 'max_test', '1.0e+2', 'max_test: 100 '), ('data', 'max_test', 'null', 'max_test: null'), ('data', 'languages', 'null', 'languages: null'),
    ('device', 'precision', 'no', "precision: 'no'"), ('device', 'precision', 'bf16', 'precision: bf16'), ('design', 'budgets', '[2e16, 1e16]', 'budgets: [1.0e+16, 2.0e+16]'),
    ('design', 'seeds', '[2, "0"]', 'seeds: [0, 2]'), ('design', 'n_tasks', '[1.0, 0]', 'n_tasks: [0, 1]'), ('design', 'controls', '[]', 'controls: []'),
    ('phase2', 'max_grad_norm', '0', 'max_grad_norm: 0.0'), ('phase2', 'weight_decay', '0.1', 'weight_decay: 0.1'), ('mixture', 'sampling', 'capped\n  cap: 5', 'cap: 5 '),
    ('mixture', 'sampling', 'temperature\n  temperature: 3', 'temperature: 3.0'), ('phase3', 'recipes', '{all: {learning_rate: 2e-5}}', 'learning_rate: 2.0e-05'),
    ('phase3', 'recipes', '{mnli: {batch_size: 8}}', 'batch_size: 8'), ('phase3', 'recipes', '{squad: {stride: 8, max_length: 32}}', 'stride: 8'),
    ('phase3', 'target_flops', 'null', 'target_flops: null'), ('design', 'subsets', '[[csqa], [mnli]]', 'subsets: [[csqa], [mnli]]'),
    ('design', 'subsets', 'all', 'subsets: all'), ('retrieval', 'layer', '1', 'layer: 1 '), ('encoder', 'freeze_embeddings', 'true', 'freeze_embeddings: true')]


def right_ones():
    "What has to be accepted, and what it then is."
    return [settings('accepted', group, name, text, says, 0) for group, name, text, says in RIGHT]


def all_inputs():
    "The whole table."
    parts = [settings('without effect', g, n, t, s) for g, n, t, s in WITHOUT_EFFECT]
    parts += [settings('wrong part', g, n, t, s) for g, n, t, s in WRONG_PARTS]
    return [*wrong_values(), *wrong_names(), *parts, *wrong_files(), *wrong_words(), *wrong_folders(), *wrong_scores(), *right_ones()]
