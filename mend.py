import sys; sys.path.insert(0,'/work/proto')
from ed import edit
edit('nbs/study/30_designs.ipynb',
("""    found = []
    for seed in study.seeds:
        if 'none' in study.controls: found.append(Cell('none', 0.0, (), 0, seed))
        for budget in study.budgets:
            if 'target-only' in study.controls and 0 in study.n_tasks: found.append(Cell('target-only', budget, (), 0, seed))
            for k in study.n_tasks:
                if k: found += [Cell('intermediate', budget, s, i, seed) for i, s in enumerate(task_subsets(study.intermediate, k, study.design, study.subsets, study.subset_seed))]
""","""    found, d = [], study.design
    def subsets(k): return task_subsets(d.intermediate, k, d.subsets, d.subset_count, d.subset_seed)
    for seed in d.seeds:
        if 'none' in d.controls: found.append(Cell('none', 0.0, (), 0, seed))
        for budget in d.budgets:
            if 'target-only' in d.controls and 0 in d.n_tasks: found.append(Cell('target-only', budget, (), 0, seed))
            for k in filter(None, d.n_tasks): found += [Cell('intermediate', budget, s, i, seed) for i, s in enumerate(subsets(k))]
"""))
T='nbs/transfer/10_workspace.ipynb'
edit(T,
("recipe(TASKS[name], self.study.recipe, self.study.recipes)", "recipe(TASKS[name], self.study.phase3.recipe, self.study.phase3.recipes)"),
("    return DataSettings(study.data, study.source_language, study.revisions, study.sources, study.max_train, study.max_test)",
 "    d = study.data\n    return DataSettings(d.source, d.source_language, d.revisions, d.sources, d.max_train, d.max_test)"),
("for t in study.intermediate if t in used)", "for t in study.design.intermediate if t in used)"),
("        if study.target_flops is not None: return study.target_flops\n        return recipe(TARGETS[name], study.recipe, study.recipes).epochs*epoch_cost(shape, prepared.load(name, 'train', study.source_language))\n    return {t: cost(t) for t in study.targets}",
 "        if study.phase3.target_flops is not None: return study.phase3.target_flops\n        epochs = recipe(TARGETS[name], study.phase3.recipe, study.phase3.recipes).epochs\n        return epochs*epoch_cost(shape, prepared.load(name, 'train', study.data.source_language))\n    return {t: cost(t) for t in study.design.targets}"),
("    tokenizer, identity = load_tokenizer(study.encoder, study.encoder_revision), encoder_identity(study.encoder, study.encoder_revision)\n    encoder = load_encoder(study.encoder, identity['revision'] or None)\n    if study.packing:",
 "    name, revision = study.encoder.name, study.encoder.revision\n    tokenizer, identity = load_tokenizer(name, revision), encoder_identity(name, revision)\n    encoder = load_encoder(name, identity['revision'] or None)\n    if study.device.packing:"),
("chosen_layer(study.retrieval_layer,", "chosen_layer(study.retrieval.layer,"),
("    recipes = {n: recipe(t, study.recipe, study.recipes) for n, t in TASKS.items()}", "    recipes = {n: recipe(t, study.phase3.recipe, study.phase3.recipes) for n, t in TASKS.items()}"),
("    prepared = prepare(needed_splits(used_tasks(study), study.targets, settings, study.languages, study.score_intermediate), Preparation(settings, Store(out/'store'), tokenizer, identity['fingerprint']),\n                       recipes, study.languages, progress)",
 "    languages = study.data.languages\n    splits = needed_splits(used_tasks(study), study.design.targets, settings, languages, study.phase2.score_intermediate)\n    preparation = Preparation(settings, Store(out/'store'), tokenizer, identity['fingerprint'])\n    prepared = prepare(splits, preparation, recipes, languages, progress)"),
("    study = in_flops(study, {t: epoch_cost(shape, prepared.load(t, 'train', study.source_language)) for t in used_tasks(study)})",
 "    source = study.data.source_language\n    study = in_flops(study, {t: epoch_cost(shape, prepared.load(t, 'train', source)) for t in used_tasks(study)})"),
("    for target in study.targets:", "    for target in study.design.targets:"),
)
edit('nbs/transfer/20_phase2.ipynb',
("        s = self.space.study\n        return TrainSettings(int(fingerprint(['intermediate', self.seed])[:8], 16), precision=s.precision, piece_tokens=s.piece_tokens, freeze_embeddings=s.freeze_embeddings, packing=s.packing, compile=s.compile)",
 """        s = self.space.study
        return TrainSettings(
            int(fingerprint(['intermediate', self.seed])[:8], 16), s.phase2.weight_decay, s.phase2.max_grad_norm,
            s.device.precision, s.device.micro_batch_tokens, s.encoder.freeze_embeddings, s.device.packing, s.device.compile)"""),
("        s = self.space.study\n        return Schedule(s.learning_rate,", "        s = self.space.study.phase2\n        return Schedule(s.learning_rate,"),
("self.space.study.source_language", "self.space.study.data.source_language"),
("        s, sizes = self.space.study, {t:", "        s, sizes = self.space.study.mixture, {t:"),
("{t: Path(rows[f'{t}/train/{s.source_language}']).name for t in self.tasks}", "{t: Path(rows[f'{t}/train/{s.data.source_language}']).name for t in self.tasks}"),
("sampling=[s.sampling, s.cap, s.temperature], settings=", "sampling=[s.mixture.sampling, s.mixture.cap, s.mixture.temperature], settings="),
("processes=s.processes", "processes=s.device.processes"),
("space.study.checkpoint_seconds", "space.study.device.checkpoint_seconds"),
("load_encoder(run.space.study.encoder,", "load_encoder(run.space.study.encoder.name,"),
("/test/{study.source_language}'", "/test/{study.data.source_language}'"),
("precision=study.precision, code", "precision=study.device.precision, code"),
("mixed_precision=study.precision", "mixed_precision=study.device.precision"),
("labels=splits[t].labels), study.precision)", "labels=splits[t].labels), study.device.precision)"),
("load_encoder(space.study.encoder,", "load_encoder(space.study.encoder.name,"),
)
edit('nbs/transfer/30_phase3.ipynb',
("space.study.source_language", "space.study.data.source_language"),
("    settings = TrainSettings(int(fingerprint(['target', target, seed])[:8], 16), how.weight_decay, how.max_grad_norm, space.study.precision, space.study.piece_tokens, space.study.freeze_embeddings, space.study.packing, space.study.compile)",
 """    device, frozen = space.study.device, space.study.encoder.freeze_embeddings
    settings = TrainSettings(
        int(fingerprint(['target', target, seed])[:8], 16), how.weight_decay, how.max_grad_norm, device.precision,
        device.micro_batch_tokens, frozen, device.packing, device.compile)"""),
("    study, prepared = space.study, space.prepared\n    rows =", "    study, prepared, device = space.study, space.prepared, space.study.device\n    rows ="),
("precision=study.precision, piece_tokens=study.piece_tokens, freeze_embeddings=study.freeze_embeddings, packing=study.packing, compile=study.compile, processes=study.processes, retrieval=",
 "precision=device.precision, piece_tokens=device.micro_batch_tokens, freeze_embeddings=study.encoder.freeze_embeddings,\n                  packing=device.packing, compile=device.compile, processes=device.processes, retrieval="),
("prepared.load(target, 'test', c), study.precision)", "prepared.load(target, 'test', c), device.precision)"),
("    return RetrievalSettings(study.retrieval_layer, study.retrieval_pooling, study.retrieval_special_tokens, study.tatoeba_similarity)",
 "    r = study.retrieval\n    return RetrievalSettings(r.layer, r.pooling, r.special_tokens, r.tatoeba_similarity)"),
("mixed_precision=study.precision", "mixed_precision=study.device.precision"),
("retrieval_settings(study), study.precision,", "retrieval_settings(study), study.device.precision,"),
)
edit('nbs/transfer/40_cell.ipynb',
("space.study.processes", "space.study.device.processes"),
("in space.study.targets:", "in space.study.design.targets:"),
("space.study.score_intermediate", "space.study.phase2.score_intermediate"),
("encoder=space.study.encoder)", "encoder=space.study.encoder.name)"),
("_ELSEWHERE = ('name', 'encoder', 'encoder_revision', 'languages', 'budget_unit', 'design', 'subsets', 'subset_seed', 'target_flops', 'score_intermediate', 'checkpoint_seconds') # Settings with columns of their own, and those that no score depends on\n\n", ""),
("    \"The settings behind a score, by the names they have in `study.yaml` (`target_` for those of the target's recipe), and the versions of code, data and packages.\"",
 "    \"The settings behind a score, by group and name as in `study.yaml` (`target_` for the target's recipe), and the versions of code, data and packages.\""),
("    plain = {k: v for k, v in vars(study).items() if k not in _ELSEWHERE and not isinstance(v, (tuple, list, dict))}\n", ""),
("rows_fingerprint=fingerprint(rows), **plain,", "rows_fingerprint=fingerprint(rows), **study.columns(),"),
("astype({'max_train': 'Int64', 'max_test': 'Int64', 'retrieval_layer': 'Int64', 'target_epochs': float})", "astype({'data_max_train': 'Int64', 'data_max_test': 'Int64', 'retrieval_layer': 'Int64', 'target_epochs': float})"),
)
edit('nbs/transfer/50_results.ipynb',
("_DESIGN = ('name', 'budgets', 'n_tasks', 'design', 'subsets', 'subset_seed', 'controls', 'seeds', 'intermediate', 'languages', 'checkpoint_seconds', 'max_train', 'max_test', 'revisions', 'sources', 'data')\n", ""),
("(*cell.tasks, *space.study.targets)}\n    settings = {k: v for k, v in asdict(space.study).items() if k not in _DESIGN}\n",
 "(*cell.tasks, *space.study.design.targets)}\n    phases = {t: phase_budgets(space.study, cell, cost) for t, cost in space.target_costs.items()}\n"),
("settings=fingerprint(settings), rows=", "settings=fingerprint(space.study.settings_key()), phases=fingerprint(phases), rows="),
("import plan_rows", "import phase_budgets, plan_rows"),
)
edit('nbs/execution/20_job.ipynb', ("space.study.processes", "space.study.device.processes"))
edit('nbs/analysis/20_tables.ipynb',
("self.settings.get('source_language', 'en')", "self.settings.get('data', {}).get('source_language', 'en')"),
("settings.get('source_language', 'en'))", "settings.get('data', {}).get('source_language', 'en'))"))
edit('nbs/analysis/70_power.ipynb',
("study.n_tasks", "study.design.n_tasks"), ("study.controls", "study.design.controls"),
("study.languages", "study.data.languages"), ("study.source_language", "study.data.source_language"),
("task_subsets(study.intermediate, k, study.design, study.subsets, study.subset_seed)", "task_subsets(study.design.intermediate, k, study.design.subsets, study.design.subset_count, study.design.subset_seed)"),
("Design(study.budgets,", "Design(study.design.budgets,"), ("len(study.seeds)", "len(study.design.seeds)"),
("study.targets, study.intermediate)", "study.design.targets, study.design.intermediate)"))
edit('nbs/report/10_findings.ipynb', ("outcome.settings.get('encoder', '')", "outcome.settings.get('encoder', {}).get('name', '')"),
("outcome.settings.get('encoder', 'unknown')", "outcome.settings.get('encoder', {}).get('name', 'unknown')"))
edit('nbs/report/80_method.ipynb', ("outcome.settings.get('budget_scope')", "outcome.settings.get('design', {}).get('budget_scope')"))
edit('nbs/report/50_words.ipynb', ("lacking, settings = [], outcome.missing[outcome.missing.split == 'test'], outcome.settings", "lacking, settings = [], outcome.missing[outcome.missing.split == 'test'], outcome.settings.get('data', {})"))
for n in ('60_tables','10_findings','30_figures','50_words','90_page','70_claims'):
    edit(f'nbs/report/{n}.ipynb', ("write_text('source_language: qaa\\nname: simulated\\n')", "write_text('{name: simulated, data: {source_language: qaa}}')"))
