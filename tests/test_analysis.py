"""The analysis against planted truth, against textbook formulas, and against tables as runs really leave them."""
import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_ind
from xtl.analysis.answers import best_number, contributions, gains, pareto_front, trade_off
from xtl.analysis.checks import collapsed_runs, mixed_model, without_collapsed
from xtl.analysis.intervals import bootstrap, contrast, levels
from xtl.analysis.panel import TIERS, score_panel, simulated_panel
from xtl.analysis.power import coverage, detectable_difference, noise_of
from xtl.analysis.simulation import Design, Noise, simulate_study

DESIGN = Design()

def rows_of(table, **where):
    for column, value in where.items(): table = table[table[column] == value]
    return table

# -- intervals

@pytest.mark.parametrize('effect, design, noise', [('none', DESIGN, Noise()), ('tier', DESIGN, Noise()), ('saturating', DESIGN, Noise(run=2.5, cooldown=0.1)), ('linear', Design(subsets=2, seeds=1), Noise())])
def test_intervals_cover_planted_truth(effect, design, noise):
    table = coverage(design, noise, effect, simulations=40, seed=11)
    assert 0.88 <= table.gains.mean() <= 0.995 # a thousand simulations are in tests/benchmarks/coverage.py
    if effect == 'none': assert (table.claims > 0).mean() <= 0.1

def test_interval_of_one_block_is_students(seeds=6):
    panel = simulated_panel(Design(seeds=seeds), Noise(run=2.), seed=3)
    boot = bootstrap(panel, resamples=20_000)
    cells = panel.cells[(panel.cells.n_tasks == 9) & (panel.cells.budget_flops == 4e12)]
    transfer = panel.pairs[panel.pairs.language != panel.source]
    scores = [transfer.assign(score=panel.scores[i, transfer.index]).groupby('target').score.mean().mean() for i in cells.index]
    half = student.ppf(0.975, seeds - 1) * np.std(scores, ddof=1) / np.sqrt(seeds)
    row = rows_of(levels(boot), kind='all', n_tasks=9, budget_flops=4e12).iloc[0]
    assert row.score == pytest.approx(np.mean(scores)) and (row.high - row.low) / 2 == pytest.approx(half, rel=0.03)

def test_noise_of_single_test_sets_is_counted_once():
    "With no other noise the scatter of the runs, that of the languages and their overlap all estimate the same variance, which is known here."
    design, parts, errors = Design(seeds=6), [], []
    for seed in range(30):
        panel = simulated_panel(design, Noise(run=0., cooldown=0., language=0., residual=1.), seed=seed)
        boot = bootstrap(panel, resamples=400, kinds=('all',))
        points, group = boot.points, boot.column('all', 'all')
        row = np.where(points.budget_flops == 4e12, (points.n_tasks == 9).astype(float) - (points.control == 'target-only'), 0.)
        others = panel.pairs[panel.pairs.language != panel.source]
        weights = 1/others.target.nunique()/others.groupby('target').language.transform('size')
        known = 2*(weights**2).sum()/design.seeds
        parts.append([row @ covariance[group] @ row/known for covariance in (boot.run_covariance, boot.language_covariance[0], boot.overlap)])
        errors.append(contrast(boot, row[None], np.array([group])).error[0, 0]**2/known)
    assert np.mean(parts, 0) == pytest.approx([1, 1, 1], abs=0.25)
    assert np.mean(errors) < 1.6 # twice as much if they were added; never less than the larger of the two

def test_gap_between_groups_of_few_languages_is_students():
    panel = simulated_panel(Design(seeds=2), Noise(run=0., cooldown=0., language=2., residual=0.01), seed=4)
    boot = bootstrap(panel, resamples=20_000, kinds=('tier',))
    column = panel.cells.budget_flops == 4e12
    with_tasks, alone = (panel.scores[(column & chosen).to_numpy()].mean(0) for chosen in (panel.cells.n_tasks == 9, panel.cells.control == 'target-only'))
    by_language = panel.pairs.assign(gain=with_tasks - alone).groupby(['tier', 'language']).gain.mean()
    textbook = ttest_ind(by_language['low'], by_language.drop(panel.source, level='language')['high']).confidence_interval()
    row = rows_of(gains(boot, 'target-only'), kind='gap', group='low − high', n_tasks=9, budget_flops=4e12).iloc[0]
    assert (row.low, row.high) == pytest.approx(tuple(textbook), abs=0.05)

def test_budgets_of_a_trunk_move_together():
    boot = bootstrap(simulated_panel(Design(seeds=6), Noise(run=3., cooldown=0.1), seed=5))
    points, group = boot.points, np.array([boot.column('all', 'all')])
    at = {b: np.eye(len(points))[(points.n_tasks == 9) & (points.budget_flops == b)][0] for b in DESIGN.budgets}
    level = contrast(boot, at[1e12][None], group, languages=False)
    growth = contrast(boot, (at[4e12] - at[1e12])[None], group, languages=False)
    assert growth.error[0, 0] < level.error[0, 0] / 5

def test_a_study_without_repeated_runs_has_no_intervals():
    results = simulate_study(Design(subsets=1, seeds=1))
    boot = bootstrap(score_panel(results, 'qaa'))
    table = gains(boot, 'target-only')
    assert table.gain.notna().all() and table.low.isna().all() and not best_number(boot).claimed.any()

def test_analysis_does_not_depend_on_the_order_of_rows():
    results = simulate_study(effect='linear', seed=2)
    tables = [gains(bootstrap(score_panel(r, 'qaa')), 'none') for r in (results, results.sample(frac=1, random_state=1))]
    pd.testing.assert_frame_equal(*tables)

# -- what is averaged

def test_a_cell_without_some_scores_is_left_out_and_named():
    results = simulate_study(seed=3)
    lost = results.cell.unique()[12]
    panel = score_panel(results[~((results.cell == lost) & (results.target == 'mlqa'))], 'qaa')
    assert list(panel.left_out.cell) == [lost] and lost not in set(panel.cells.cell)
    assert gains(bootstrap(panel), 'none').gain.notna().all()

def test_a_target_that_few_cells_have_is_not_averaged():
    results = simulate_study(seed=3)
    few = results.cell.unique()[:5]
    panel = score_panel(results[(results.target != 'bucc') | results.cell.isin(few)], 'qaa')
    assert 'bucc' not in set(panel.pairs.target) and not len(panel.left_out)

def test_target_only_takes_retrieval_from_the_untouched_encoder():
    results = simulate_study(seed=3)
    lacking = results[~((results.control == 'target-only') & results.target.isin(['bucc', 'tatoeba']))]
    panel = score_panel(lacking, 'qaa')
    column = (panel.pairs.target == 'tatoeba') & (panel.pairs.language == 'qab')
    none, alone = (panel.scores[(panel.cells.control == c).to_numpy()][:, column.to_numpy()] for c in ('none', 'target-only'))
    assert not len(panel.left_out) and np.allclose(alone, none.mean())

def test_question_answering_counts_the_mean_of_f1_and_exact_match():
    results = simulate_study(seed=3)
    cell = results.cell.iloc[0]
    rows = rows_of(results, cell=cell, target='xquad', language='qab').set_index('metric').score
    panel = score_panel(results, 'qaa')
    column = ((panel.pairs.target == 'xquad') & (panel.pairs.language == 'qab')).to_numpy()
    assert panel.scores[(panel.cells.cell == cell).to_numpy()][0, column][0] == pytest.approx((rows.f1 + rows.exact_match) / 2)

# -- answers

def test_a_planted_interaction_with_tier_is_found():
    boot = bootstrap(simulated_panel(Design(subsets=6, seeds=2), effect='tier', size=9., seed=1))
    best = rows_of(best_number(boot), group='low', best=True)
    assert (best.n_tasks == 9).all() and best.claimed.all()
    slopes = trade_off(boot).set_index(['group', 'quantity'])
    assert slopes.loc[('low − high', 'per task'), 'low'] > 0 and slopes.loc[('low', 'per task'), 'value'] == pytest.approx(1., abs=0.25)

def test_a_planted_task_is_recognised():
    results = simulate_study(Design(numbers=(1, 3), subsets=9, seeds=2), noise=Noise(run=0.5), seed=4)
    results['score'] += 4. * results.tasks.str.split('+').map(lambda t: 'csqa' in t)
    table = rows_of(contributions(score_panel(results, 'qaa')), kind='all').set_index('task')
    assert table.contribution.idxmax() == 'csqa' and table.p_holm['csqa'] < 0.001 and table.low['csqa'] <= 4. <= table.high['csqa']

def test_mixed_model_agrees_with_the_bootstrap():
    panel = simulated_panel(effect='tier', seed=6)
    both = mixed_model(panel).merge(trade_off(bootstrap(panel)), on=['group', 'quantity'])
    assert len(both) == 9 and (both.value_x - both.value_y).abs().max() < 0.1

def test_no_point_of_the_front_is_beaten_by_a_cheaper_one():
    front = rows_of(pareto_front(bootstrap(simulated_panel(effect='linear', seed=7))), group='low', on_front=True)
    assert front.sort_values('budget_flops').score.is_monotonic_increasing and front.probability.between(0, 1).all()

def test_collapsed_runs_are_found_counted_and_can_be_left_out():
    results = simulate_study(collapsed=0.1, seed=8)
    truly = rows_of(results, target='xnli', language='qaa', metric='accuracy')
    truly = set(truly.cell[np.isclose(truly.score, 100 / 3)])
    assert truly and set(collapsed_runs(score_panel(results, 'qaa')).cell) == truly
    assert set(without_collapsed(results, 'qaa').left_out.cell) == truly

def test_a_score_at_the_limit_but_for_rounding_has_not_collapsed():
    results = simulate_study(seed=8)
    source = (results.target == 'pawsx') & (results.language == 'qaa')
    results.loc[source, 'score'] = 65. # the limit is 57.5
    at = results.index[source][0]
    fallen = []
    for score in (57.5 - 1e-14, 57.4):
        results.loc[at, 'score'] = score
        fallen.append(list(collapsed_runs(score_panel(results, 'qaa')).cell))
    assert fallen == [[], [results.cell[at]]]

def test_a_target_that_was_never_learned_has_not_collapsed():
    results = simulate_study(seed=8)
    results.loc[results.target == 'xnli', 'score'] = 33. + np.random.default_rng(0).normal(0, 1, (results.target == 'xnli').sum())
    assert not len(collapsed_runs(score_panel(results, 'qaa')))

# -- planning

def test_more_runs_detect_smaller_differences():
    small, large = (detectable_difference(Design(subsets=n, seeds=r), simulations=20).set_index('group').difference for n, r in ((2, 1), (6, 3)))
    assert (large[list(TIERS)] < small[list(TIERS)]).all() and (large > 0).all()

def test_noise_of_a_pilot_without_repeats_falls_back_on_the_defaults():
    pilot = score_panel(simulate_study(Design(subsets=1, seeds=1)), 'qaa')
    assert noise_of(pilot).run == Noise().run and noise_of(pilot).residual == Noise().residual
