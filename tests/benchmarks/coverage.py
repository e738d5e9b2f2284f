"""Do 95% intervals hold the truth 95 times in 100? Simulates and analyses whole studies with planted effects and prints a table.

    python tests/benchmarks/coverage.py [SIMULATIONS] [CASE ...]

A thousand simulations of every case, the default, take about half an hour on one core. Exit code 1 where a limit is missed.
"""
import sys
from dataclasses import replace

from xtl.analysis.coverage import DESIGNS, coverage
from xtl.analysis.simulation import Noise, World
from xtl.tasks.paper import INTERMEDIATE

SEED = 500  # Other studies than those on which the intervals were made
BASE = DESIGNS['xtreme-base']
WITHIN = (0.93, 0.97)
HOLD = dict.fromkeys(('gains', 'gap', 'slopes', 'contributions'), WITHIN)
NULL = {'claims': (0, 0.05), 'most': (0, 0.05)}
MORE = dict(effect='harm', size=-1.)  # One point more with tasks than without, however many
CASES = {  # name: design, arguments of `coverage`, limits of means
    'mini': (DESIGNS['mini'], {}, HOLD | NULL),
    'xtreme-base': (BASE, {}, HOLD | NULL),
    'all': (DESIGNS['all'], {}, HOLD | NULL),
    'nested': (DESIGNS['nested'], {}, HOLD | NULL),
    'one point more': (BASE, MORE, HOLD | {'found': (0.8, 1)}),
    'one point, noisy control': (BASE, MORE | dict(noise=Noise(control=0.7)), HOLD | {'found': (0.8, 1)}),
    'growing with compute': (BASE, dict(effect='compute'), HOLD),
    'only low-resource': (BASE, dict(effect='tier'), HOLD),
    'star task': (BASE, dict(world=World(star=4.)), HOLD | {'others': (0, 0.05)}),
    'question answering': (BASE, dict(effect='qa'), HOLD | {'gap error': (-0.1, 0.1), 'gap clear': (0, 0.05)}),
    'pairs of tasks': (replace(BASE, subsets=18, seeds=2), dict(world=World(task_pair=1.)), HOLD),
    'cells lost': (BASE, dict(lost=0.03), HOLD),
    'collapsed, set aside': (BASE, dict(collapsed=0.01, collapsed_trunks=0.02), HOLD),
    'no noise': (BASE, dict(noise=Noise().scaled(0)), {'gains half': (0, 0.05), 'slopes half': (0, 0.05)}),
}
SHOWN = ('gains', 'gap', 'slopes', 'contributions', 'found', 'claims', 'most', 'others', 'gap error', 'gap clear', 'gains half')


def outside(means, limits):
    "Of the limited quantities that were seen, those outside their limits."
    return [name for name, (low, high) in limits.items() if name in means and not low <= round(means[name], 3) <= high]


def main(simulations, names):
    "Prints the table of these cases, or of all; whether each is within its limits."
    missed = []
    print(f'{"planted":26s}' + ''.join(f'{name:>14s}' for name in SHOWN) + f'   ({simulations} simulations; * outside its limits)')
    for number, (name, (design, more, limits)) in enumerate(CASES.items()):
        if names and name not in names: continue
        means = coverage(design, simulations, seed=SEED + number, **more).mean().dropna()
        errors = means.filter(like='error of ').drop(f'error of {list(INTERMEDIATE)[-1]}', errors='ignore').abs() # of all but the star
        if len(errors): means['others'] = errors.max()
        out = outside(means, limits)
        missed += [(name, o) for o in out]
        cell = {s: f'{means[s]:.3f}{"*" if s in out else " "}' if s in means else '–' for s in SHOWN}
        print(f'{name:26s}' + ''.join(f'{cell[s]:>14s}' for s in SHOWN), flush=True)
    return not missed


if __name__ == '__main__': sys.exit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:]) else 1)
