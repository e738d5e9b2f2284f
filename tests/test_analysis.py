"""The analysis against planted truth, against textbook formulas, and against tables as runs really leave them."""
import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from xtl.analysis.answers import against, best_number, curve, gains, most_gained, pareto_front, trade_off
from xtl.analysis.checks import collapsed_runs, without_collapsed
from xtl.analysis.contributions import contributions
from xtl.analysis.coverage import DESIGNS, coverage
from xtl.analysis.groups import GAP, weights_told
from xtl.analysis.headline import headline, headline_sentences
from xtl.analysis.intervals import contrast, fit_panel, levels, refit, scoped
from xtl.analysis.panel import score_panel, simulated_panel
from xtl.analysis.power import detectable, noise_of, power_text
from xtl.analysis.simulation import Design, Noise, World, simulate_scores, simulate_study
from xtl.study.designs import task_subsets
from xtl.tasks.paper import INTERMEDIATE

BASE = DESIGNS['xtreme-base']
GOOD = Design(subsets=12, seeds=2, control_seeds=6, full_seeds=6)


def rows_of(table, **where):
    for column, value in where.items(): table = table[table[column] == value]
    return table


def study(design=GOOD, kinds=('all', 'tier', 'gap'), **more):
    return fit_panel(simulated_panel(simulate_scores(design, **more)), kinds)


# -- intervals (a thousand simulations of every case are in tests/benchmarks/coverage.py)

WHAT = ['gains', 'gap', 'slopes', 'contributions']


@pytest.fixture(scope='module')
def null_studies():
    "Of each design: what 90 studies without any effect say."
    return {name: coverage(design, 90, seed=11) for name, design in DESIGNS.items()}


def near(n, low=0.93, high=0.97):
    "The limits, and what chance adds to them in n studies."
    chance = 2*np.sqrt(0.05*0.95/n)
    return low - chance, high + chance


def test_intervals_hold_planted_truth(null_studies):
    "Over all designs, which together are studies enough, within the limits themselves."
    together = pd.concat(null_studies.values())[WHAT].mean()
    assert together.between(0.93, 0.97).all(), together
    for table in null_studies.values(): assert table.reindex(columns=WHAT).mean().dropna().between(*near(90)).all()


def test_where_nothing_is_planted_nothing_is_claimed(null_studies):
    for name, table in null_studies.items(): assert table.claims.mean() <= 0.05 and table.most.mean() <= near(90, high=0.05)[1], name
    assert pd.concat(null_studies.values())[['claims', 'most']].mean().max() <= 0.05


@pytest.mark.parametrize('more', [
    dict(effect='compute'), dict(lost=0.03), dict(collapsed=0.01, collapsed_trunks=0.02)])
def test_intervals_hold_planted_truth_whatever_happens(more):
    assert coverage(BASE, 25, seed=11, **more)[WHAT].mean().between(*near(25)).all()


def test_a_gain_of_one_point_is_found_at_the_size_of_xtreme_base():
    assert coverage(BASE, 20, seed=12, effect='harm', size=-1.).found.mean() >= 0.8


def test_no_noise_no_interval():
    "Tasks differ by points; where seeds differ by nothing, nothing is unsure."
    for name in DESIGNS:
        table = coverage(DESIGNS[name], 1, Noise().scaled(0), seed=13)
        assert (table[['gains half', 'slopes half']] < 0.05).all(axis=None)


def test_a_star_task_lends_nothing_to_the_others():
    table = coverage(BASE, 40, seed=14, world=World(star=4.))
    errors = table.filter(like='error of ').drop(columns=f'error of {list(INTERMEDIATE)[-1]}') # the star is the last
    assert errors.shape[1] == 8 and abs(errors.mean().mean()) <= 0.05
    assert (abs(errors.mean()) <= 3.5*errors.std()/np.sqrt(len(errors))).all()
    low, high = near(40)
    assert low <= table.contributions.mean() <= high


def test_what_question_answering_gains_everywhere_is_no_difference_of_tiers():
    table = coverage(BASE, 60, seed=15, effect='qa', size=6.)
    assert abs(table['gap error'].mean()) < 0.1 and table['gap clear'].mean() <= 0.05


def test_interval_of_one_block_is_students(seeds=9):
    fit = study(Design((1e12,), (9,), full_seeds=seeds), noise=Noise(2.), seed=3)
    scores = fit.values[(fit.panel.cells.n_tasks == 9).to_numpy(), 0]
    half = student.ppf(0.975, seeds - 1)*np.std(scores, ddof=1)/np.sqrt(seeds)
    row = rows_of(levels(fit), kind='all', n_tasks=9).iloc[0]
    assert row.score == pytest.approx(np.mean(scores)) and (row.high - row.low)/2 == pytest.approx(half)


def test_budgets_of_a_trunk_move_together():
    fit = study(noise=Noise(trunk=3., cooldown=0.1, phase_3=0, run_language=0, test=0), seed=5)
    at = {b: fit.layout.weights[[rows_of(fit.points, n_tasks=9, budget_flops=b).index[0]]] for b in GOOD.budgets}
    level, growth = contrast(fit, at[1e12], [0]), contrast(fit, at[4e12] - at[1e12], [0])
    assert growth.error[0, 0] < level.error[0, 0]/5


def test_a_study_without_repeated_runs_has_no_intervals():
    fit = fit_panel(score_panel(simulate_study(Design(subsets=1, seeds=1)), 'qaa'))
    table = gains(fit, 'target-only')
    assert not fit.repeated and table.gain.notna().all() and table.low.isna().all()
    assert not best_number(fit).claimed.any()
    assert 'no interval: too few runs' in ' '.join(headline_sentences(headline(fit.panel)))


def test_analysis_does_not_depend_on_the_order_of_rows():
    results = simulate_study(effect='linear', seed=2)
    shuffled = results.sample(frac=1, random_state=1)
    tables = [gains(fit_panel(score_panel(r, 'qaa')), 'none') for r in (results, shuffled)]
    pd.testing.assert_frame_equal(*tables)


def test_a_lost_cell_widens_and_does_not_move():
    made = simulate_scores(GOOD, Noise().scaled(0), effect='compute', seed=6)
    whole = simulated_panel(made)
    lost = (whole.cells.n_tasks == 3) & (whole.cells['subset'] == 2) & (whole.cells.budget_flops == 4e12)
    few = replace(whole, cells=whole.cells[~lost].reset_index(drop=True), scores=whole.scores[~lost])
    values = [trade_off(fit_panel(p, ('all',))).set_index('quantity').value for p in (whole, few)]
    naive = [p.scores[(p.cells.n_tasks == 3) & (p.cells.budget_flops == 4e12)].mean() for p in (whole, few)]
    assert abs(values[0]['per task'] - values[1]['per task']) < 0.02 < abs(naive[0] - naive[1])


def test_intervals_say_what_they_are_about():
    table = gains(study(kinds=None), 'target-only')
    assert set(table.languages[table.group == GAP]) == {'like them'} and set(table.languages[table.group == 'low']) == {'these'}
    nested = gains(study(Design(design='nested', seeds=3)), 'target-only')
    assert set(nested.subsets[nested.n_tasks < 9]) == {'these'} and set(nested.subsets[nested.n_tasks == 9]) == {'all'}


# -- what is averaged

def test_a_cell_without_some_scores_is_left_out_and_named():
    results = simulate_study(seed=3)
    lost = results.cell.unique()[12]
    panel = score_panel(results[~((results.cell == lost) & (results.target == 'mlqa'))], 'qaa')
    assert list(panel.left_out.cell) == [lost] and lost not in set(panel.cells.cell)
    assert gains(fit_panel(panel), 'none').gain.notna().all()


def test_a_target_that_few_cells_have_is_not_averaged():
    results = simulate_study(seed=3)
    few = results.cell.unique()[:5]
    panel = score_panel(results[(results.target != 'bucc') | results.cell.isin(few)], 'qaa')
    assert 'bucc' not in set(panel.pairs.target) and not len(panel.left_out)


def test_target_only_takes_retrieval_from_the_untouched_encoder_and_gains_nothing_by_it():
    results = simulate_study(seed=3)
    lacking = results[~((results.control == 'target-only') & results.target.isin(['bucc', 'tatoeba']))]
    panel = score_panel(lacking, 'qaa')
    column = ((panel.pairs.target == 'tatoeba') & (panel.pairs.language == 'qab')).to_numpy()
    none, alone = (panel.scores[(panel.cells.control == c).to_numpy()][:, column] for c in ('none', 'target-only'))
    assert not len(panel.left_out) and np.allclose(alone, none.mean())
    assert not set(gains(fit_panel(panel), 'target-only').group) & {'tatoeba', 'bucc', 'retrieval', 'xtreme'}


def test_question_answering_counts_the_mean_of_f1_and_exact_match():
    results = simulate_study(seed=3)
    cell = results.cell.iloc[0]
    rows = rows_of(results, cell=cell, target='xquad', language='qab').set_index('metric').score
    panel = score_panel(results, 'qaa')
    column = ((panel.pairs.target == 'xquad') & (panel.pairs.language == 'qab')).to_numpy()
    assert panel.scores[(panel.cells.cell == cell).to_numpy()][0, column][0] == pytest.approx((rows.f1 + rows.exact_match)/2)


def test_low_resource_languages_weigh_alike_and_are_compared_within_targets():
    panel = simulated_panel(simulate_scores(BASE))
    low = weights_told(panel, 'tier', 'low').groupby('language').weight.sum()
    assert low.max() == pytest.approx(low.min()) and 'sw' in low
    gap = weights_told(panel, 'gap', GAP).groupby('target').weight.agg(['sum', 'size'])
    assert gap['sum'].abs().max() < 1e-12 and 'mlqa' not in gap.index # no low-resource language is in it


# -- answers

def test_a_planted_interaction_with_tier_is_found():
    "Six points, of which 9 against 5 tasks is some 2.5 times what this design detects for low-resource languages."
    table = detectable(BASE)
    size = table.difference[(table.of == '9 against 5') & (table.group == 'low')].item()
    assert 6*4/9 > 2*size
    fit = study(BASE, effect='tier', size=6., seed=1)
    best = rows_of(best_number(fit), group='low', best=True)
    assert (best.n_tasks == 9).all() and best.claimed.all()
    slopes = trade_off(fit).set_index(['group', 'quantity'])
    assert slopes.loc[(GAP, 'per task'), 'low'] > 0 and slopes.loc[('low', 'per task'), 'value'] == pytest.approx(6/9, abs=0.25)


def test_a_planted_task_is_recognised():
    results = simulate_study(Design(numbers=(1, 3), subsets=12, seeds=2), noise=Noise(0.5), world=World(task=0.2), seed=4)
    results['score'] += 4.*results.tasks.str.split('+').map(lambda t: 'csqa' in t)
    table = rows_of(contributions(fit_panel(score_panel(results, 'qaa'))), kind='all').set_index('task')
    assert table.contribution.idxmax() == 'csqa' and table.p_holm['csqa'] < 0.001
    assert table.contribution['csqa'] == pytest.approx(4*8/9, abs=0.7) and abs(table.contribution.sum()) < 1e-9


def test_aliases_are_one_row():
    table = rows_of(contributions(study(Design(subsets=2, seeds=2))), kind='all')
    assert len(table) < 9 and table.task.str.contains(' [+−] ', regex=True).any()


def test_a_curve_that_saturates_is_followed_from_zero_on():
    fit = study(replace(BASE, seeds=2), effect='saturating', seed=2)
    table = rows_of(curve(fit, ('all',), steps=10), budget_flops=max(BASE.budgets))
    assert abs(table.gain.iloc[0]) < 1e-9 and table.gain.is_monotonic_increasing and (table.high - table.low).iloc[1:].min() > 0
    assert (table.gain - 6*(1 - np.exp(-table.n_tasks/2))).abs().max() < 1


def test_no_point_of_the_front_is_beaten_by_a_cheaper_one():
    front = rows_of(pareto_front(study(effect='linear', seed=7)), group='low')
    assert front[front.on_front].sort_values('budget_flops').score.is_monotonic_increasing
    assert front.beaten.any() and not (front.beaten & front.on_front).any()


def test_collapsed_runs_are_found_counted_and_can_be_left_out():
    results = simulate_study(collapsed=0.1, seed=8)
    truly = rows_of(results, target='xnli', language='qaa', metric='accuracy')
    truly = set(truly.cell[np.isclose(truly.score, 100/3)])
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


def test_the_scatter_of_a_small_test_set_is_no_collapse():
    "A target 9 points above chance, of 120 test rows: half of the way to chance is one standard deviation; a fall to chance from far above is seen."
    results = simulate_study(seed=8)
    source = results.index[(results.target == 'pawsx') & (results.language == 'qaa')]
    results.loc[source, 'score'] = 100*np.random.default_rng(0).binomial(120, 0.59, len(source))/120
    assert (results.score[source] < 54.5).any() and not len(collapsed_runs(score_panel(results, 'qaa')))
    results.loc[source, 'score'] = 100*np.random.default_rng(0).binomial(120, 0.85, len(source))/120
    results.loc[source[3], 'score'] = 50.
    assert list(collapsed_runs(score_panel(results, 'qaa')).cell) == [results.cell[source[3]]]


def test_a_target_that_was_never_learned_has_not_collapsed():
    results = simulate_study(seed=8)
    chance = 33. + np.random.default_rng(0).normal(0, 1, (results.target == 'xnli').sum())
    results.loc[results.target == 'xnli', 'score'] = chance
    assert not len(collapsed_runs(score_panel(results, 'qaa')))


# -- planted outcomes, as sentences

SHOWN = re.compile(r'([+−]\d+\.\d+) \((−?\d+\.\d+) to (−?\d+\.\d+)\)')
OPEN = ('No number of tasks is clearly best', 'no gain over', 'do not clearly differ', 'does not clearly change')


def read(sentences):
    "Holds that a reader finds the sentences short, and each in keeping with its own interval; the intervals by sentence."
    assert len(sentences) <= 6 and max(map(len, sentences)) < 300 and all(not s[0].islower() and s.endswith('.') for s in sentences)
    found = {}
    for sentence in sentences:
        if 'set aside' in sentence or not (shown := SHOWN.search(sentence)): continue
        value, low, high = (float(v.replace('−', '-')) for v in shown.groups())
        assert low <= value <= high, sentence
        if 'not numbers of them' in sentence: continue # says nothing of what it shows
        if any(words in sentence for words in OPEN): assert low <= 0 <= high, sentence
        else: assert low > 0 or high < 0, sentence
        found[sentence] = value, low, high
    text = ' '.join(sentences)
    assert not ('no gain over' in text and re.search('tasks bring (grows|shrinks)', text))
    assert not ('tasks cost points' in text and re.search(r'^\d tasks? (is|are) best', text))
    assert sentences[-1].startswith('The 95% intervals are about languages like those that were scored')
    return found


def said(design=BASE, trunk='', **more):
    "Headline and its sentences of a simulated study, read; a trunk's scores may collapse."
    made = simulate_scores(design, **more)
    scores = made.scores*np.where(made.cells.trunk == trunk, 0.4, 1.)[:, None] if trunk else made.scores
    head = headline(simulated_panel(made, scores))
    sentences = headline_sentences(head)
    read(sentences)
    return head, sentences


def test_a_clear_winner_is_named():
    for seed in (1, 2, 3):
        head, (number, gain, *_, about) = said(effect='peak', size=5., seed=seed)
        assert number.startswith('3 tasks are best for low-resource languages') and head.best.claimed
        assert gain.startswith('Over the same compute') and 'tasks bring' in gain and gain.endswith('with 3 tasks.')
        assert head.most.gain.low < 5 < head.most.gain.high and about.endswith('numbers of tasks in general.')


def test_no_effect_names_nothing():
    for seed in (0, 2, 3, 4):
        head, (number, gain, tier, compute, _) = said(seed=seed)
        assert not head.best.claimed and number.startswith('No number of tasks is clearly best')
        assert not head.most.gain.clear and 'no gain over' in gain and not head.harmful and 'Target by target' not in gain
        assert 'do not clearly differ' in tier and 'does not clearly change' in compute


def test_harm_is_called_harm():
    for seed in (2, 3):
        head, (number, gain, *_) = said(effect='harm', size=3., seed=seed)
        assert number.startswith('The targets alone are best for low-resource languages') and 'tasks cost points' in gain
        assert set(head.harmful) == {1, 2, 3, 5, 9} and head.most.gain.low < -3 < head.most.gain.high


def test_what_only_low_resource_languages_gain_is_said():
    for seed in (3, 4):
        head, (number, _, tier, *_) = said(effect='tier', size=6., seed=seed)
        assert tier.startswith('Low-resource languages gain more') and head.gap.gain.low < 6 < head.gap.gain.high
        assert number.startswith('9 tasks are best for low-resource languages')


def test_a_gain_that_grows_with_compute_is_said():
    head, sentences = said(effect='compute', size=6., seed=4)
    assert 'what tasks bring grows' in sentences[3] and head.growth.low > 0
    doublings = np.log2(BASE.budgets[-1]/BASE.budgets[0])
    assert head.most.gain.low < 6*doublings/2 < head.most.gain.high # as planted, with nine tasks at the largest compute
    assert 'does not clearly change' in said(effect='linear', seed=4)[1][3]


def test_a_balance_that_moves_without_a_gain_is_not_called_a_gain():
    head, _ = said(effect='compute', size=6., seed=4)
    lost = replace(head, most=replace(head.most, gain=replace(head.most.gain, value=0.2, low=-1.)), here=None)
    assert 'the balance moves towards tasks' in headline_sentences(lost)[3]
    shrinks = replace(head, growth=replace(head.growth, value=-1.4, low=-1.5, high=-1.3))
    assert 'what tasks bring shrinks: −1.4' in headline_sentences(shrinks)[3]


def test_a_collapsed_trunk_is_set_aside_and_the_answer_stays():
    plain, _ = said(effect='linear', seed=5)
    head, sentences = said(effect='linear', seed=5, trunk='k9-s0-r1')
    assert len(head.collapsed) == len(BASE.budgets) and sentences[-2].startswith('4 cells are set aside')
    assert head.most.n_tasks == plain.most.n_tasks and abs(head.most.gain.value - plain.most.gain.value) < 0.5
    width = lambda e: e.high - e.low
    assert width(head.most.gain) < 1.5*width(plain.most.gain)
    assert head.kept.most.n_tasks != 9 and 'with them, 5 tasks would score highest' in sentences[-2] # nine would seem to bring little


def test_a_gain_on_one_target_is_put_down_to_that_target():
    for seed in (1, 6):
        head, (_, gain, *_) = said(effect='one target', size=8., seed=seed)
        assert [t.name for t in head.targets] == ['tydiqa'] and head.targets[0].gain.low < 8 < head.targets[0].gain.high
        assert gain.startswith('On average over targets, no gain') and 'clear on 1 of 7: tydiqa +' in gain


def test_a_nested_design_says_nothing_of_numbers():
    for seed in range(4):
        head, (number, gain, *_, about) = said(DESIGNS['nested'], seed=seed)
        assert not head.best.general and not head.best.claimed and number.startswith('This design compares sets of tasks, not numbers')
        assert head.told == (9,) and 'k = 9 alone can be spoken of' in gain # all nine tasks are the one subset that is no choice
        assert about.endswith('the task sets that were run.')
    assert not best_number(study(DESIGNS['nested'], effect='linear', size=30., seed=1)).claimed.any()


# -- designs and planning

def test_balanced_designs_are_pairwise_balanced():
    tasks = GOOD.tasks
    for k, count, times in ((3, 12, 1), (6, 12, 5), (4, 18, 3), (5, 18, 5), (2, 36, 1)):
        subsets = task_subsets(tasks, k, 'balanced', count, 0)
        pairs = pd.Series([p for s in subsets for p in combinations(s, 2)]).value_counts()
        assert len(set(subsets)) == count and len(pairs) == 36 and set(pairs) == {times}
    assert task_subsets(tasks, 3, 'balanced', 12, 0) != task_subsets(tasks, 3, 'balanced', 12, 1)


def test_more_runs_detect_smaller_differences():
    tables = [detectable(Design(subsets=n, seeds=r)) for n, r in ((3, 2), (9, 4))]
    small, large = (t[(t.what != 'task') & (t.group != GAP)].set_index(['what', 'of', 'group']).difference for t in tables)
    assert (large < small).all() and (large > 0).all()


def test_what_power_calls_detectable_is_found():
    "Of differences as large as detectable at 80%, some 80%; of 1.3 times those, nearly all."
    table = detectable(GOOD)
    size = table[(table.what == 'number') & (table.of == '3 against 1') & (table.group == 'all')].difference.item()
    fit, found = study(kinds=('all',)), {1.: [], 1.3: []}
    rows, what = against(fit, 'target-only')
    row = np.diff(rows[(what.budget_flops == max(GOOD.budgets)).to_numpy()][:2], axis=0) # k = 1, then 3
    for seed in range(100):
        made = simulate_scores(GOOD, seed=seed)
        for factor in found:
            planted = made.scores + factor*size*(made.cells.n_tasks == 3).to_numpy()[:, None]
            again = refit(fit, simulated_panel(made, planted).scores)
            found[factor].append(scoped(again, row, [0]).result.p[0, 0] < 0.05)
    assert 0.7 < np.mean(found[1.]) < 0.9 < np.mean(found[1.3])


def test_power_names_aliases_and_what_cannot_be_told():
    text = power_text(Design(subsets=2, seeds=1))
    assert 'cannot be told apart: ' in text and ' + ' in text and '–' in text # no seed is repeated
    assert power_text(GOOD).count('none') == 1


def test_noise_of_a_pilot_without_repeats_falls_back_on_the_defaults():
    pilot = score_panel(simulate_study(Design(subsets=1, seeds=1)), 'qaa')
    assert noise_of(pilot) == Noise()


def test_the_most_that_tasks_bring_allows_for_the_choice():
    fit = study(seed=9)
    number, most = most_gained(fit, 'all')
    row = rows_of(gains(fit, 'target-only', languages='like them'), kind='all', n_tasks=number, budget_flops=4e12).iloc[0]
    assert most.value == pytest.approx(row.gain) and most.low < row.low and most.high > row.high
