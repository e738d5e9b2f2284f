#!/usr/bin/env bash
# Beside CI: the package as its users get it. Builds the wheel, installs it alone into a new environment outside the checkout,
# with the lowest, the newest or the tested versions, and there runs a tiny study and its report.
#   tests/versions.sh lowest|newest|tested [PYTHON]     'lowest' wants the lowest Python too, python3.11
# It takes some minutes and, with PyTorch's default wheels, 6.5 GB of disk; UV_TORCH_BACKEND=cpu takes those without CUDA.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${2:-python3}
case ${1:-} in
    lowest) how=(--resolution lowest-direct) ;;
    newest) how=(--resolution highest) ;;
    tested) how=(--constraint "$root/constraints.txt") ;;
    *) sed -n '2,5p' "$0" | cut -c3- >&2; exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet uv
mkdir "$work/source"
git -C "$root" ls-files -z | tar -C "$root" --null --files-from=- --create | tar -C "$work/source" --extract
"$work/tools/bin/pip" wheel --quiet --no-deps --wheel-dir "$work" "$work/source"

"$python" -m venv --without-pip "$work/env"
uv() { "$work/tools/bin/uv" pip "$@" --python "$work/env/bin/python"; }
"$python" - "$root/settings.ini" > "$work/direct.txt" <<'END' # 'lowest-direct' is about what is named, so all are named
import configparser, sys
config = configparser.ConfigParser(delimiters=['='])
config.read(sys.argv[1], encoding='utf-8')
print('\n'.join(config['DEFAULT']['requirements'].split()))
END
uv install --quiet "${how[@]}" --requirements "$work/direct.txt" "$work"/xtl-*.whl
uv check
uv list
"$python" --version

cp "$root/tests/studies.py" "$work"
cd "$work" # where no checkout is, neither the project nor what it was built from
rm -r source
export PATH="$work/env/bin:$PATH"
unset PYTHONPATH
python -c 'import yaml; from studies import TINY; print(yaml.safe_dump(TINY))' > tiny.yaml
xtl studies
xtl run tiny.yaml --out run
xtl report run --zip
python - <<'END'
import pandas as pd
rows = pd.read_parquet('run/results.parquet')
page = open('run/report/index.html').read()
assert len(rows) > 50 and rows.score.between(0, 100).all(), rows.score.describe()
assert 'xtl-answer' in page and page.count('<figure') > 3 and page.count('<table') > 8
print(f'{rows.cell.nunique()} cells, {len(rows)} scores, a report of {page.count("<figure")} figures and {page.count("<table")} tables')
END
