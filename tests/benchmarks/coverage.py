"""Do 95% intervals hold the truth 95 times in 100? Simulates and analyses whole studies with planted effects and prints a table.

    python tests/benchmarks/coverage.py [SIMULATIONS] [CASE ...]

A thousand simulations of every case, the default, take about 45 minutes on one core.
"""
import sys

from xtl.analysis.power import coverage
from xtl.analysis.simulation import Design, Noise

SEED = 100 # Other studies than those on which the intervals were made
SMALL = Design(subsets=2, seeds=1)
CASES = {
    'no effect': dict(effect='none'),
    'linear in k': dict(effect='linear'),
    'saturating in k': dict(effect='saturating'),
    'interaction with tier': dict(effect='tier'),
    'interaction with compute': dict(effect='compute'),
    'correlated trunks': dict(effect='linear', noise=Noise(run=2.5, cooldown=0.1)),
    'collapsed runs, left out': dict(effect='linear', collapsed=0.02),
    'two subsets, one seed': dict(effect='linear', design=SMALL),
    'two subsets, one seed, no effect': dict(effect='none', design=SMALL),
}

def main(simulations: int, names: list[str]) -> bool:
    "Prints the table of these cases, or of all; whether each is within its limits."
    good = True
    print(f'{"planted":34s} {"gains":>7s} {"low − high":>11s} {"claims a best k":>16s}   ({simulations} simulations)')
    for number, (name, case) in enumerate(CASES.items()):
        if names and name not in names: continue
        table = coverage(**{'design': Design(), 'noise': Noise(), 'simulations': simulations, 'seed': SEED + number} | case)
        gains, gap, claims = table.gains.mean(), table.gap.mean(), (table.claims > 0).mean()
        good &= 0.93 <= gains <= 0.97 and 0.93 <= gap <= 0.97 and (case['effect'] != 'none' or claims <= 0.05)
        print(f'{name:34s} {gains:7.1%} {gap:11.1%} {claims:16.1%}', flush=True)
    return good

if __name__ == '__main__': sys.exit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:]) else 1)
