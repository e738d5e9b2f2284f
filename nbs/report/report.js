// What the tables and the contents of a report do in a browser: sort, filter, hide columns, copy, keep the first columns.
(() => {
  const element = (kind, properties, ...children) => {
    const made = Object.assign(document.createElement(kind), properties);
    made.append(...children);
    return made;
  };
  const text = cell => cell.textContent.trim();
  const heads = table => [...table.tHead.rows[0].cells];
  const rows = table => [...table.tBodies[0].rows];

  // -- Sorting: empty cells last, numbers as numbers
  const value = cell => cell.dataset.sort ?? text(cell);
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  const sort = head => {
    const table = head.closest('table'), at = head.cellIndex, down = head.getAttribute('aria-sort') === 'ascending';
    for (const other of heads(table)) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    table.tBodies[0].append(...rows(table).sort((r, s) => {
      const [a, b] = [value(r.cells[at]), value(s.cells[at])];
      if (a === '' || b === '') return (a === '') - (b === '');
      return (down ? -1 : 1) * compare(a, b);
    }));
  };

  // -- Filters: a list for each column that Python marked
  const filters = table => heads(table).filter(head => 'filter' in head.dataset).map(head => {
    const seen = new Map(rows(table).map(row => [text(row.cells[head.cellIndex]), value(row.cells[head.cellIndex])]));
    const names = [...seen.keys()];
    if (head.dataset.filter === 'number') names.sort((a, b) => compare(seen.get(a), seen.get(b)));
    const list = element('select', {}, element('option', { value: '\0', textContent: 'all' }));
    for (const name of names) list.append(element('option', { value: name, textContent: name || '–' }));
    list.value = head.dataset.chosen ?? '\0';
    list.onchange = () => {
      const wanted = [...list.closest('.xtl-tools').querySelectorAll('select')].map(other => [other.at, other.value]);
      for (const row of rows(table)) row.hidden = wanted.some(([at, name]) => name !== '\0' && text(row.cells[at]) !== name);
      embolden(table);
      settle(table);
    };
    list.at = head.cellIndex;
    return names.length > 1 ? element('label', {}, text(head), list) : '';
  });

  // -- Bold is the best of what is seen, to one decimal as it is read
  const embolden = table => {
    const shown = rows(table).filter(row => !row.hidden);
    for (const head of heads(table).filter(head => 'best' in head.dataset)) {
      const read = row => Number(value(row.cells[head.cellIndex]) || NaN).toFixed(1);
      const top = Math.max(...shown.map(read).filter(number => number !== 'NaN'));
      for (const row of rows(table)) row.cells[head.cellIndex].classList.toggle('xtl-best', !row.hidden && Number(read(row)) === top);
    }
  };

  // -- Columns on and off
  const columns = (table, fixed) => {
    const boxes = heads(table).slice(fixed).map(head => {
      const box = element('input', { type: 'checkbox', checked: true });
      box.onchange = () => {
        for (const row of table.rows) row.cells[head.cellIndex].hidden = !box.checked;
        settle(table);
      };
      return element('label', {}, box, text(head));
    });
    return boxes.length > 2 ? element('details', {}, element('summary', { textContent: 'Columns' }), element('div', {}, ...boxes)) : '';
  };

  // -- What is seen, as Markdown and LaTeX
  const seen = table => [...table.rows].filter(row => !row.hidden).map(row => [...row.cells].filter(cell => !cell.hidden));
  const markdown = table => {
    const write = cell => text(cell).replaceAll('|', '\\|');
    const lines = seen(table).map(row => `| ${row.map(cell => cell.matches('.xtl-best') ? `**${write(cell)}**` : write(cell)).join(' | ')} |`);
    const rule = seen(table)[1]?.map(cell => cell.matches('.xtl-number') ? '---:' : '---') ?? [];
    return [lines[0], `| ${rule.join(' | ')} |`, ...lines.slice(1)].join('\n') + '\n';
  };
  const signs = { '\\': '\\textbackslash{}', '~': '\\textasciitilde{}', '^': '\\textasciicircum{}', '±': '$\\pm$', '−': '$-$', '×': '$\\times$', '–': '--' };
  const escape = words => words.replace(/[\\~^±−×–&%$#_{}]/g, sign => signs[sign] ?? `\\${sign}`);
  const latex = table => {
    const all = seen(table), shape = (all[1] ?? all[0]).map(cell => cell.matches('.xtl-number') ? 'r' : 'l').join('');
    const write = cell => cell.matches('.xtl-best') ? `\\textbf{${escape(text(cell))}}` : escape(text(cell));
    const lines = all.map(row => `${row.map(write).join(' & ')} \\\\`);
    return [`\\begin{tabular}{${shape}}`, '\\toprule', lines[0], '\\midrule', ...lines.slice(1), '\\bottomrule', '\\end{tabular}'].join('\n') + '\n';
  };
  const copy = (name, write, table) => {
    const button = element('button', { type: 'button', textContent: name });
    button.onclick = async () => {
      const words = write(table);
      try { await navigator.clipboard.writeText(words); }
      catch { // A page from a disk may not reach the clipboard the new way
        const area = element('textarea', { value: words });
        button.after(area);
        area.select();
        document.execCommand('copy');
        area.remove();
      }
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = name; }, 1500);
    };
    return button;
  };

  // -- The first columns stay while they leave room for others; what is wider than the page says so
  const settle = table => {
    const frame = table.closest('.xtl-scroll'), wide = frame.scrollWidth > frame.clientWidth + 1;
    let left = 0, last = -1;
    for (const row of table.rows) for (const cell of row.cells) cell.classList.remove('xtl-fixed', 'xtl-edge');
    for (const head of heads(table).slice(0, Number(table.closest('.xtl-table').dataset.fixed))) {
      if (!wide || left + head.offsetWidth > 0.45*frame.clientWidth) break;
      for (const row of table.rows) {
        row.cells[head.cellIndex].classList.add('xtl-fixed');
        row.cells[head.cellIndex].style.left = `${left}px`;
      }
      left += head.offsetWidth;
      last = head.cellIndex;
    }
    if (last >= 0) for (const row of table.rows) row.cells[last].classList.add('xtl-edge');
    hint(frame);
  };
  const hint = frame => {
    const wide = frame.scrollWidth > frame.clientWidth + 1, note = frame.previousElementSibling;
    if (note?.matches('.xtl-hint')) note.hidden = !wide;
    frame.classList.toggle('xtl-more', frame.scrollLeft + frame.clientWidth < frame.scrollWidth - 1);
  };

  // -- The contents follow the reader
  const follow = () => {
    const links = [...document.querySelectorAll('.xtl-page nav > ul > li > a')];
    const parts = links.map(link => document.getElementById(link.hash.slice(1)));
    const mark = () => {
      const at = Math.max(0, parts.findLastIndex(part => part.getBoundingClientRect().top < innerHeight/3));
      links.forEach((link, i) => link.parentElement.classList.toggle('xtl-current', i === at));
    };
    if (!links.length) return;
    addEventListener('scroll', mark, { passive: true });
    mark();
  };

  const start = () => {
    for (const frame of document.querySelectorAll('.xtl-scroll')) {
      frame.before(element('p', { className: 'xtl-hint', textContent: 'Wider than the page: scroll sideways \u2192', hidden: true }));
      frame.addEventListener('scroll', () => hint(frame), { passive: true });
      hint(frame);
    }
    for (const block of document.querySelectorAll('.xtl-table')) {
      const table = block.querySelector('table'), fixed = Number(block.dataset.fixed);
      const tools = [...filters(table), columns(table, fixed), copy('Copy as Markdown', markdown, table), copy('Copy as LaTeX', latex, table)];
      block.querySelector('.xtl-tools').prepend(...tools.filter(Boolean));
      settle(table);
    }
    addEventListener('load', () => { // images have their width only now
      for (const frame of document.querySelectorAll('.xtl-scroll')) hint(frame);
    });
    addEventListener('resize', () => {
      for (const frame of document.querySelectorAll('.xtl-scroll')) hint(frame);
      for (const table of document.querySelectorAll('.xtl-table table')) settle(table);
    });
    document.addEventListener('click', event => {
      const head = event.target.closest('.xtl-table thead th');
      if (head && event.target.closest('button')) sort(head);
      for (const open of document.querySelectorAll('.xtl-tools details[open]')) if (!open.contains(event.target)) open.open = false;
    });
    follow();
  };
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', start);
  else start();
})();
