'use strict';
// Draws the page from the JSON in #data. Text gets in by textContent and attributes only, never as markup. ASCII only.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const now = Date.parse(data.generated_at);
  const STATES = ['pending', 'in_progress', 'complete', 'error', 'cancelled', 'resolved_manually', 'skipped'];
  const MARKS = { pending: '\u25CB', in_progress: '\u25B6', complete: '\u2713', error: '\u2715', cancelled: '\u2298', resolved_manually: '\u270E', skipped: '\u21B7' };

  // ---- building blocks ----

  const fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? '' : value);
    }
    node.append(...(children || []).filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
    return node;
  };
  const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes, ...children) => fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
  const words = (state) => String(state).replace(/_/g, ' ');
  const known = (state) => (STATES.includes(state) ? state : 'pending');
  const stateOf = (state, more) => el('span', { class: 'state c-' + known(state) }, el('i', { 'aria-hidden': 'true' }, MARKS[known(state)]), words(state), more || null);
  const clip = (text, length) => (text.length > length ? text.slice(0, length - 1) + '\u2026' : text);
  const count = (number) => Number(number).toLocaleString('en');
  const plural = (number, word) => count(number) + ' ' + word + (Number(number) === 1 ? '' : 's');
  const at = (text) => (text ? Date.parse(text) : NaN);  // NaN for none, and for infinity

  const span = (ms) => {
    if (!Number.isFinite(ms)) return '';
    if (ms < 1) return ms.toFixed(2) + ' ms';
    if (ms < 1000) return (ms < 10 ? ms.toFixed(1) : Math.round(ms)) + ' ms';
    const s = ms / 1000;
    if (s < 60) return (s < 10 ? s.toFixed(1) : Math.round(s)) + ' s';
    if (s < 3600) return Math.floor(s / 60) + ' min ' + Math.round(s % 60) + ' s';
    if (s < 86400) return Math.floor(s / 3600) + ' h ' + Math.floor((s % 3600) / 60) + ' min';
    return Math.floor(s / 86400) + ' d ' + Math.floor((s % 86400) / 3600) + ' h';
  };
  const two = (n) => String(n).padStart(2, '0');
  const clock = (ms) => { const d = new Date(ms); return two(d.getHours()) + ':' + two(d.getMinutes()) + ':' + two(d.getSeconds()); };
  const day = (ms) => { const d = new Date(ms); return d.getFullYear() + '-' + two(d.getMonth() + 1) + '-' + two(d.getDate()); };
  const when = (text) => {
    const ms = at(text);
    if (Number.isNaN(ms)) return el('span', { class: 'dim' }, text ? String(text) : '\u2013');
    return el('time', { datetime: text, title: day(ms) + ' ' + clock(ms) }, Math.abs(now - ms) < 1000 ? 'now' : ms <= now ? span(now - ms) + ' ago' : 'in ' + span(ms - now));
  };
  const workflow = (row) => row.namespace + '.' + row.name;

  // ---- tables: sorted by the buttons in their heads, filtered by a field ----

  // columns: {head, value: what it is sorted by, cell: what is shown, kind: class, first: 'ascending' or 'descending'}
  function table(title, columns, rows, options = {}) {
    let by = options.by || 0, direction = options.direction || 'descending', wanted = '';
    const body = el('tbody'), found = el('span', { class: 'dim', role: 'status' });
    const heads = columns.map((column, i) => el('th', { scope: 'col', class: column.kind || null },
      el('button', { type: 'button', onclick: () => {
        direction = by === i ? (direction === 'ascending' ? 'descending' : 'ascending') : column.kind === 'num' ? 'descending' : 'ascending';
        by = i;
        draw();
      } }, column.head)));
    const text = (row) => columns.map((column) => column.value(row)).join(' ').toLowerCase();
    const compare = (a, b) => {
      const x = columns[by].value(a), y = columns[by].value(b);
      const empty = (v) => v === null || v === undefined || Number.isNaN(v);
      if (empty(x) || empty(y)) return empty(x) - empty(y);  // nothing comes last, whatever the direction
      const order = typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y), 'en', { numeric: true });
      return direction === 'ascending' ? order : -order;
    };
    function draw() {
      heads.forEach((head, i) => {
        if (i === by) head.setAttribute('aria-sort', direction); else head.removeAttribute('aria-sort');
        head.firstChild.textContent = columns[i].head + (i === by ? (direction === 'ascending' ? ' \u25B4' : ' \u25BE') : '');
      });
      const shown = rows.filter((row) => text(row).includes(wanted)).sort(compare);
      body.replaceChildren(...shown.map((row) => el('tr', null, ...columns.map((column) => el('td', { class: column.kind || null }, column.cell ? column.cell(row) : column.value(row))))));
      found.textContent = wanted ? shown.length + ' of ' + rows.length : '';
    }
    draw();
    const head = el('div', { class: 'head' }, el('h2', null, title), options.note ? el('span', { class: 'dim' }, options.note) : null);
    if (options.filter && rows.length) head.append(el('span', { class: 'push' }, found, ' ',
      el('input', { type: 'search', placeholder: 'Filter', 'aria-label': 'Filter ' + title.toLowerCase(), oninput: (event) => { wanted = event.target.value.toLowerCase(); draw(); } })));
    if (options.link) head.append(options.link);
    return el('section', { class: 'card', 'aria-label': title }, head,
      rows.length ? el('div', { class: 'scroll' + (options.tall ? ' tall' : ''), tabindex: options.tall ? '0' : null, role: options.tall ? 'region' : null, 'aria-label': options.tall ? title : null },
        el('table', null, el('thead', null, el('tr', null, ...heads)), body)) : el('div', { class: 'empty' }, options.empty || 'Nothing.'));
  }

  const shownTasks = new Set(data.tasks.map((task) => task.task_id));
  const taskLink = (id, step) => (shownTasks.has(id) ? el('button', { type: 'button', class: 'link', 'aria-label': 'Task ' + id, onclick: () => openTask(id, step) }, id) : el('span', { title: 'tasker.dashboard_html(' + id + ') shows it' }, id));
  const timeColumn = (head, key) => ({ head, kind: 'num', value: (row) => at(row[key]), cell: (row) => when(row[key]) });

  const liveTable = () => table('Live tasks', [
    { head: 'Task', kind: 'num', value: (t) => t.task_id, cell: (t) => taskLink(t.task_id) },
    { head: 'Workflow', kind: 'name', value: workflow, cell: (t) => el('span', null, workflow(t), ' ', el('span', { class: 'dim' }, t.version)) },
    { head: 'State', value: (t) => t.state + (t.failing ? ' failing' : '') + (t.paused ? ' paused' : ''),
      cell: (t) => el('span', null, stateOf(t.state), t.failing ? el('span', { class: 'c-error' }, ', failing') : null, t.paused ? el('span', { class: 'dim' }, ', paused') : null) },
    { head: 'Done', kind: 'num', value: (t) => (t.steps ? t.done / t.steps : 0), cell: (t) => progress(t) },
    { head: 'Failed', kind: 'num', value: (t) => t.failed, cell: (t) => (t.failed ? el('span', { class: 'c-error' }, count(t.failed)) : '0') },
    { head: 'Priority', kind: 'num', value: (t) => t.priority },
    { head: 'Owner', kind: 'name', value: (t) => t.owner },
    timeColumn('Created', 'created_at'), timeColumn('Started', 'started_at'), timeColumn('Deadline', 'deadline_at'),
  ], data.live, { filter: true, tall: true, empty: 'No task is pending or in progress.', note: data.live.length >= 200 ? 'the newest 200' : null });
  const progress = (t) => {
    const bar = el('i');
    bar.style.width = (t.steps ? 100 * t.done / t.steps : 0) + '%';
    return el('span', null, el('span', { class: 'bar', 'aria-hidden': 'true' }, bar), t.done + ' / ' + t.steps);
  };

  const failureTable = (rows, options = {}) => table('Failures', [
    { head: 'Task', kind: 'num', value: (f) => f.task_id, cell: (f) => taskLink(f.task_id, f.step) },
    { head: 'Step', kind: 'name', value: (f) => workflow(f) + ' ' + f.step, cell: (f) => el('span', null, f.step, el('br'), el('span', { class: 'dim' }, workflow(f))) },
    { head: 'Reason', kind: 'wrap', value: (f) => f.message || '', cell: (f) => el('span', null, f.message || el('span', { class: 'dim' }, 'not for this role to see'), el('br'),
      el('span', { class: 'dim' }, [f.category && words(f.category), f.sqlstate].filter(Boolean).join(', '))) },
    { head: 'Standing', value: (f) => f.kind, cell: (f) => (f.kind === 'retrying' ? el('span', { class: 'c-in_progress' }, 'next attempt ', when(f.next_at)) :
      f.kind === 'open' ? el('span', { class: 'c-error' }, 'needs a decision') : el('span', { class: 'dim' }, words(f.kind))) },
    timeColumn('Failed', 'failed_at'),
    ...(options.brief ? [] : [
      { head: 'Attempts', kind: 'num', value: (f) => f.attempts, cell: (f) => f.attempts + ' / ' + f.max_attempts },
      { head: 'Holds up', kind: 'num', value: (f) => f.blocked, cell: (f) => (f.blocked ? plural(f.blocked, 'step') : '\u2013') }]),
  ], rows, { by: 4, empty: 'Nothing has failed for good, and nothing waits for another attempt.', ...options });

  const slowTable = (rows, options) => table('Slowest steps', [
    { head: 'Step', kind: 'name', value: (s) => workflow(s) + ' ' + s.step, cell: (s) => el('span', null, s.step, el('br'), el('span', { class: 'dim' }, workflow(s) + ' ' + s.version)) },
    { head: 'Mean', kind: 'num', value: (s) => s.mean_ms, cell: (s) => span(s.mean_ms) },
    { head: '95 of 100 within', kind: 'num', value: (s) => s.p95_ms, cell: (s) => span(s.p95_ms) },
    { head: 'Longest', kind: 'num', value: (s) => s.max_ms, cell: (s) => span(s.max_ms) },
    { head: 'Attempts', kind: 'num', value: (s) => s.attempts, cell: (s) => count(s.attempts) },
    { head: 'Failed', kind: 'num', value: (s) => s.failures, cell: (s) => (s.failures ? el('span', { class: 'c-error' }, count(s.failures)) : '0') },
  ], rows, { by: 1, empty: 'No step has been measured.', note: data.scope === 'all' ? 'the last 24 hours' : 'in your last 200 finished tasks', ...options });

  // ---- states over time ----

  const HOUR = 3600000;
  const ENDS = ['complete', 'resolved_manually', 'cancelled', 'error'];
  const hours = (() => {
    const last = Math.floor(now / HOUR) * HOUR, out = [];
    for (let h = last - 47 * HOUR; h <= last; h += HOUR) out.push({ hour: h, pending: 0, complete: 0, resolved_manually: 0, cancelled: 0, error: 0 });
    for (const row of data.hours) {
      const slot = out[Math.round((at(row.hour) - out[0].hour) / HOUR)];
      if (slot && row.state in slot) slot[row.state] += row.tasks;
    }
    return out;
  })();
  const nice = (top) => { const unit = 10 ** Math.floor(Math.log10(Math.max(top, 1))); return [1, 2, 5, 10].map((k) => k * unit).find((k) => k >= top); };

  function hoursChart(width) {
    const left = 44, right = 8, top = 8, bottom = 22, height = 190, inner = width - left - right, step = inner / hours.length;
    const ceiling = Math.max(4, nice(Math.max(...hours.map((h) => Math.max(h.pending, ENDS.reduce((sum, s) => sum + h[s], 0))))));
    const y = (v) => top + (height - top - bottom) * (1 - v / ceiling);
    const total = (s) => hours.reduce((sum, h) => sum + h[s], 0);
    const out = svg('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': 'Tasks by hour, the last 48 hours: ' + plural(total('pending'), 'task') + ' created; ' + ENDS.map((s) => count(total(s)) + ' ' + words(s)).join(', ') });
    for (let k = 0; k <= 4; k++) out.append(svg('line', { class: 'rule', x1: left, x2: width - right, y1: y(ceiling * k / 4), y2: y(ceiling * k / 4) }),
      svg('text', { class: 'small', x: left - 6, y: y(ceiling * k / 4) + 4, 'text-anchor': 'end' }, count(ceiling * k / 4)));
    const line = [];
    hours.forEach((h, i) => {
      const x = left + i * step, group = svg('g', null, svg('title', null, day(h.hour) + ' ' + clock(h.hour).slice(0, 5) + ': ' + count(h.pending) + ' created, ' + ENDS.map((s) => count(h[s]) + ' ' + words(s)).join(', ')),
        svg('rect', { x, y: top, width: step, height: height - top - bottom, fill: 'transparent' }));
      let sum = 0;
      for (const s of ENDS) if (h[s]) {
        group.append(svg('rect', { class: 'fill c-' + s, x: x + step * .12, width: step * .76, y: y(sum + h[s]), height: y(sum) - y(sum + h[s]) }));
        sum += h[s];
      }
      line.push((i ? 'L' : 'M') + (x + step / 2).toFixed(1) + ' ' + y(h.pending).toFixed(1));
      out.append(group);
      const hour = new Date(h.hour).getHours();
      if (hour % 6 === 0 && x > left + 20 && x < width - 40) out.append(svg('text', { class: 'small', x: x + step / 2, y: height - 6, 'text-anchor': 'middle' }, hour === 0 ? day(h.hour).slice(5) : two(hour) + ':00'));
    });
    out.append(svg('path', { class: 'created', d: line.join(' ') }));
    return out;
  }

  const legend = (states) => el('div', { class: 'legend' }, ...states.map((s) => stateOf(s)));
  const hoursCard = () => {
    const place = el('div', { class: 'body' });
    widths.push([place, (width) => place.replaceChildren(hoursChart(width))]);
    return el('section', { class: 'card', 'aria-label': 'States over time' },
      el('div', { class: 'head' }, el('h2', null, 'States over time'), el('span', { class: 'dim' }, data.scope === 'all' ? 'tasks by hour, 48 hours' : 'your newest tasks by hour, 48 hours'),
        el('div', { class: 'legend push' }, ...ENDS.map((s) => stateOf(s)), el('span', null, '\u2014 created'))), place);
  };

  // ---- one task: its graph, in layers from left to right ----

  const SPACE = 12, NODE = 34;

  // The order of least distance from the wishes: neighbours that would overlap move together.
  function settle(layer, wish) {
    let offset = 0;
    const blocks = [];
    layer.forEach((item, i) => {
      if (i) offset += (layer[i - 1].height + item.height) / 2 + SPACE;
      item.offset = offset;
      blocks.push({ sum: wish(item) - offset, items: [item] });
      for (let b; (b = blocks.length) > 1 && blocks[b - 2].sum / blocks[b - 2].items.length > blocks[b - 1].sum / blocks[b - 1].items.length;) {
        const last = blocks.pop();
        blocks[b - 2].sum += last.sum;
        blocks[b - 2].items.push(...last.items);
      }
    });
    for (const block of blocks) for (const item of block.items) item.y = block.sum / block.items.length + item.offset;
  }

  function layout(steps) {
    const byNo = new Map(), layers = [], edges = [];
    const add = (level, item) => { (layers[level] = layers[level] || []).push(item); return item; };
    for (const step of steps) byNo.set(step.no, add(step.level, { step, level: step.level, width: Math.min(230, 46 + 7 * Math.max(step.name.length, 11)), height: NODE, before: [], after: [] }));
    let bends = 0;
    for (const step of steps) for (const parent of step.parents) {
      const from = byNo.get(parent), to = byNo.get(step.no);
      if (!from) continue;
      const points = [from];
      // A long edge gets a place of its own in each layer that it crosses, while there are not too many.
      if (bends < 3000) for (let level = from.level + 1; level < to.level; level++, bends++) points.push(add(level, { level, width: 0, height: 6, before: [], after: [] }));
      points.push(to);
      for (let i = 1; i < points.length; i++) { points[i - 1].after.push(points[i]); points[i].before.push(points[i - 1]); }
      edges.push({ from, to, points });
    }
    for (let level = 0; level < layers.length; level++) layers[level] = layers[level] || [];
    const number = (layer) => layer.forEach((item, i) => { item.rank = i; });
    layers.forEach(number);
    const mean = (items, key, otherwise) => (items.length ? items.reduce((sum, item) => sum + item[key], 0) / items.length : otherwise);
    for (let sweep = 0; sweep < 12; sweep++) {
      const down = sweep % 2 === 0;
      for (const layer of down ? layers : [...layers].reverse()) {
        layer.forEach((item) => { item.wish = mean(down ? item.before : item.after, 'rank', item.rank); });
        layer.sort((a, b) => a.wish - b.wish || a.rank - b.rank);
        number(layer);
      }
    }
    for (const layer of layers) settle(layer, () => 0);
    for (let sweep = 0; sweep < 8; sweep++)
      for (const layer of sweep % 2 === 0 ? layers : [...layers].reverse()) settle(layer, (item) => mean(sweep % 2 === 0 ? item.before : item.after, 'y', mean(sweep % 2 === 0 ? item.after : item.before, 'y', item.y)));
    let low = Infinity, high = -Infinity, x = 10;
    for (const item of layers.flat()) { low = Math.min(low, item.y - item.height / 2); high = Math.max(high, item.y + item.height / 2); }
    for (const layer of layers) {
      const width = Math.max(0, ...layer.map((item) => item.width));
      for (const item of layer) { item.left = x; item.right = x + (item.step ? item.width : width); item.y += 10 - low; }
      const crossing = layer.reduce((sum, item) => sum + item.after.length, 0);
      x += width + Math.min(120, 40 + 2 * crossing);
    }
    return { layers, edges, byNo, width: Math.max(...layers.flat().map((item) => item.right), 10) + 10, height: Math.max(high - low, 0) + 20 };
  }

  function graph(task, choose) {
    const drawn = layout(task.steps), nodes = new Map(), lines = [];
    const out = svg('svg', { width: drawn.width, height: drawn.height, viewBox: `0 0 ${drawn.width} ${drawn.height}`, role: 'group', 'aria-label': 'Graph of ' + plural(task.steps.length, 'step') + '; arrow keys move along it' });
    for (const edge of drawn.edges) {
      let d = '';
      edge.points.forEach((point, i) => {
        if (i === 0) { d = `M${point.right} ${point.y.toFixed(1)}`; return; }
        const before = edge.points[i - 1], bend = (point.left - before.right) / 2;
        d += ` C${before.right + bend} ${before.y.toFixed(1)} ${point.left - bend} ${point.y.toFixed(1)} ${point.left} ${point.y.toFixed(1)}`;
        if (!point.step) d += ` L${point.right} ${point.y.toFixed(1)}`;
      });
      const path = svg('path', { class: 'edge', d });
      lines.push([edge, path]);
      out.append(path);
    }
    const move = (item, key) => {
      const layer = drawn.layers[item.level].filter((other) => other.step), i = layer.indexOf(item);
      const along = (side) => { let next = item; do next = next[side][0]; while (next && !next.step); return next; };
      return key === 'ArrowUp' ? layer[i - 1] : key === 'ArrowDown' ? layer[i + 1] : key === 'ArrowLeft' ? along('before') : key === 'ArrowRight' ? along('after') : null;
    };
    for (const item of drawn.layers.flat()) {
      if (!item.step) continue;
      const step = item.step, top = item.y - NODE / 2;
      const label = step.name + ', ' + words(step.state) + (step.attempts > 1 ? ', ' + plural(step.attempts, 'attempt') : '');
      const node = svg('g', { class: 'node c-' + known(step.state), role: 'button', tabindex: '-1', 'aria-label': label, 'aria-pressed': 'false',
        onclick: () => choose(step.no), onkeydown: (event) => {
          if (event.key === 'Enter' || event.key === ' ') choose(step.no);
          else {
            const next = move(item, event.key);
            if (!next) return;
            choose(next.step.no);
            nodes.get(next.step.no).focus();
          }
          event.preventDefault();
        } },
      svg('title', null, label),
      svg('rect', { class: 'box', x: item.left, y: top, width: item.width, height: NODE, rx: 4 }),
      svg('rect', { class: 'side', x: item.left, y: top, width: 5, height: NODE, rx: 2 }),
      svg('text', { x: item.left + 12, y: top + 14 }, clip(step.name, Math.floor((item.width - 20) / 6.6))),
      svg('text', { class: 'mark small', x: item.left + 12, y: top + 28 }, MARKS[known(step.state)] + ' ' + words(step.state) + (step.attempts > 1 ? ' \u00D7' + step.attempts : '')));
      nodes.set(step.no, node);
      out.append(node);
    }
    const first = drawn.layers.flat().find((item) => item.step);
    if (first) nodes.get(first.step.no).setAttribute('tabindex', '0');
    return { picture: out, mark: (no) => {
      for (const [key, node] of nodes) {
        node.classList.toggle('chosen', key === no);
        node.setAttribute('aria-pressed', String(key === no));
        node.setAttribute('tabindex', key === no ? '0' : '-1');
      }
      for (const [edge, path] of lines) path.classList.toggle('near', edge.from.step.no === no || edge.to.step.no === no);
      if (nodes.get(no)) nodes.get(no).scrollIntoView({ block: 'nearest', inline: 'nearest' });
    } };
  }

  // ---- one task: its attempts in time ----

  function timeline(task, width, chosen, choose) {
    const ROW = 20, left = Math.min(220, width * .3), right = 76, top = 22;
    const bars = task.attempts.map((a) => ({ ...a, begin: at(a.from), end: a.to ? at(a.to) : now })).filter((a) => Number.isFinite(a.begin));
    if (!bars.length) return el('div', { class: 'empty' }, 'No step has begun.');
    const begin = Math.min(...bars.map((b) => b.begin)), end = Math.max(...bars.map((b) => b.end), begin + 1), inner = width - left - right;
    const x = (ms) => left + inner * (ms - begin) / (end - begin);
    const names = new Map(task.steps.map((s) => [s.no, s.name]));
    const rows = [...new Set(bars.map((b) => b.no))], height = top + rows.length * ROW + 6;
    const out = svg('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': 'Timeline: ' + plural(bars.length, 'attempt') + ' of ' + plural(rows.length, 'step') + ' within ' + span(end - begin) });
    const unit = [1, 2, 5, 10].map((k) => k * 10 ** Math.floor(Math.log10((end - begin) / 5))).find((k) => (end - begin) / k <= 6) || end - begin;
    for (let t = 0; t <= end - begin; t += unit) out.append(svg('line', { class: 'rule', x1: x(begin + t), x2: x(begin + t), y1: top - 4, y2: height }), svg('text', { class: 'small', x: x(begin + t), y: 12, 'text-anchor': t ? 'middle' : 'start' }, t ? '+' + span(t) : clock(begin)));
    rows.forEach((no, i) => {
      const y = top + i * ROW, mine = bars.filter((b) => b.no === no), name = names.get(no) || 'step ' + no;
      if (no === chosen) out.append(svg('rect', { class: 'chosen-row', x: 0, y, width, height: ROW }));
      out.append(svg('text', { class: 'pick', x: 0, y: y + 14, onclick: () => choose(no) }, svg('title', null, name), clip(name, Math.floor(left / 7))));
      for (const b of mine) {
        const state = b.to ? known(b.state) : 'in_progress', shown = state === 'pending' ? 'cancelled' : state;
        const label = name + ', attempt ' + b.attempt + ': ' + (b.to ? words(b.state) + ' after ' + span(b.end - b.begin) : 'running for ' + span(b.end - b.begin));
        out.append(svg('rect', { class: 'fill pick c-' + shown, x: x(b.begin), y: y + 4, width: Math.max(2, x(b.end) - x(b.begin)), height: ROW - 8, rx: 2, role: 'img', 'aria-label': label, onclick: () => choose(no) }, svg('title', null, label)));
      }
      const last = mine[mine.length - 1];
      out.append(svg('text', { class: 'small', x: x(Math.max(...mine.map((b) => b.end))) + 5, y: y + 14 }, (last.to ? MARKS[known(last.state)] : MARKS.in_progress) + ' ' + span(last.end - last.begin)));
    });
    if (task.live) out.append(svg('line', { class: 'now', x1: x(end), x2: x(end), y1: top - 4, y2: height }));
    return out;
  }

  // ---- one task as a whole ----

  let current = null;
  const taskPlace = el('div');
  const picker = el('select', { id: 'task-picker', onchange: (event) => openTask(Number(event.target.value)) },
    ...data.tasks.map((task) => el('option', { value: task.task_id }, task.task_id + '  ' + workflow(task) + ', ' + words(task.state) + (task.failing && task.live ? ', failing' : ''))));
  const facts = (pairs) => el('dl', { class: 'facts' }, ...pairs.filter((pair) => pair[1] !== null && pair[1] !== undefined && pair[1] !== '').map(([name, value]) => el('div', null, el('dt', null, name), el('dd', null, value))));

  function drawTask(task, wantedStep) {
    widths = widths.filter((entry) => !taskPlace.contains(entry[0]));
    const detail = el('div', { class: 'body', role: 'status' }, el('span', { class: 'dim' }, 'Choose a step in the graph, the timeline or the table.'));
    const box = el('div', { class: 'scroll tall body', role: 'region', 'aria-label': 'Graph', tabindex: '-1' }), time = el('div', { class: 'scroll body' });
    let chosen = null, shownWidth = 0;
    const drawTime = (width) => { shownWidth = width; time.replaceChildren(timeline(task, width, chosen, choose)); };
    const drawing = graph(task, (no) => choose(no));
    function choose(no) {
      const step = task.steps.find((s) => s.no === no);
      if (!step) return;
      chosen = no;
      drawing.mark(no);
      if (shownWidth) drawTime(shownWidth);
      const names = (numbers) => numbers.map((n) => (task.steps.find((s) => s.no === n) || { name: 'step ' + n }).name).join(', ');
      const runs = task.attempts.filter((a) => a.no === no), last = runs[runs.length - 1];
      detail.replaceChildren(facts([['Step', el('b', null, step.name)], ['State', stateOf(step.state)], ['Type', step.type], ['Attempts', step.attempts + ' of ' + step.max_attempts],
        ['Last attempt took', last ? span((last.to ? at(last.to) : now) - at(last.from)) : null], ['Depends on', names(step.parents)],
        ['Needed by', names(task.steps.filter((s) => s.parents.includes(no)).map((s) => s.no))], ['Waits for', step.reason]]), step.error ? el('div', { class: 'notice' }, step.error) : '');
    }
    box.append(drawing.picture);
    const fitted = el('button', { type: 'button', 'aria-pressed': 'false', onclick: () => fitted.setAttribute('aria-pressed', String(box.classList.toggle('fit'))) }, 'Fit to width');
    const more = task.total_steps > task.steps.length ? ', the first ' + task.steps.length + ' of ' + task.total_steps : '';
    const used = STATES.filter((s) => task.steps.some((step) => step.state === s));
    taskPlace.replaceChildren(
      el('section', { class: 'card', 'aria-label': 'Task ' + task.task_id },
        el('div', { class: 'head' }, el('h2', null, 'Task ' + task.task_id + ' \u00B7 ' + workflow(task) + ' ' + task.version), stateOf(task.state, task.paused ? ', paused' : null)),
        el('div', { class: 'body' }, facts([['Owner', task.owner], ['Priority', task.priority], ['Created', when(task.created_at)], ['Started', task.started_at && when(task.started_at)],
          ['Finished', task.finished_at && when(task.finished_at)], ['Took', task.started_at && span((task.finished_at ? at(task.finished_at) : now) - at(task.started_at))],
          ['Due', task.deadline_at && when(task.deadline_at)], ['Steps done', task.steps.filter((s) => ['complete', 'skipped', 'resolved_manually'].includes(s.state)).length + ' of ' + task.total_steps],
          ['Correlation id', task.correlation_id], ['Initiator', task.initiator], ['Reason', task.reason], ['Tags', (task.tags || []).join(', ')]]),
        task.error ? el('div', { class: 'notice' }, task.error) : null)),
      el('section', { class: 'card', 'aria-label': 'Graph of the task' }, el('div', { class: 'head' }, el('h2', null, 'Graph'), el('span', { class: 'dim' }, plural(task.steps.length, 'step') + more), legend(used), el('span', { class: 'push' }, fitted)), box),
      el('section', { class: 'card', 'aria-label': 'The chosen step' }, el('div', { class: 'head' }, el('h2', null, 'Step')), detail),
      el('section', { class: 'card', 'aria-label': 'Timeline of the task' }, el('div', { class: 'head' }, el('h2', null, 'Timeline'), el('span', { class: 'dim' }, 'attempts, from beginning to end')), time),
      table('Steps', [
        { head: 'No', kind: 'num', value: (s) => s.no },
        { head: 'Step', kind: 'name', value: (s) => s.name, cell: (s) => el('button', { type: 'button', class: 'link', onclick: () => { choose(s.no); detail.scrollIntoView({ block: 'center' }); } }, s.name) },
        { head: 'State', value: (s) => s.state, cell: (s) => stateOf(s.state) },
        { head: 'Level', kind: 'num', value: (s) => s.level },
        { head: 'Attempts', kind: 'num', value: (s) => s.attempts, cell: (s) => s.attempts + ' / ' + s.max_attempts },
        { head: 'Took', kind: 'num', value: (s) => (s.finished_at ? at(s.finished_at) - at(s.started_at) : null), cell: (s) => span(s.finished_at ? at(s.finished_at) - at(s.started_at) : NaN) },
        { head: 'What holds it up', kind: 'wrap', value: (s) => s.error || s.reason || '' },
      ], task.steps, { by: 0, direction: 'ascending', filter: true, tall: true }));
    widths.push([time, drawTime]);
    measure();
    if (wantedStep) { const step = task.steps.find((s) => s.name === wantedStep); if (step) choose(step.no); }
  }

  function openTask(id, step) {
    const task = data.tasks.find((t) => t.task_id === id);
    if (!task) return;
    current = id;
    picker.value = String(id);
    show('task', true);
    drawTask(task, step);
    history.replaceState(null, '', '#task=' + id);
  }

  // ---- tabs, theme, sizes ----

  let widths = [];  // [place, function of its width]
  function measure() {
    for (const [place, draw] of widths) {
      const style = getComputedStyle(place), width = Math.floor(place.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
      if (width > 60) draw(Math.max(width, 320));
    }
  }
  const jump = (tab, text) => el('button', { type: 'button', class: 'link push', onclick: () => show(tab, true) }, text);
  const TABS = [
    { id: 'overview', name: 'Overview', draw: () => [
      data.health && data.health.status !== 'healthy' ? el('div', { class: 'notice card', role: 'alert' }, words(data.health.status) + ': ' + (data.health.reasons || []).join('; ')) : null,
      el('div', { class: 'tiles' }, ...STATES.filter((s) => s in data.counts || s !== 'skipped').map((s) => el('div', { class: 'tile' }, el('b', null, count(data.counts[s] || 0)), stateOf(s)))),
      hoursCard(),
      el('div', { class: 'grid' }, failureTable([...data.failures].slice(0, 6), { brief: true, link: jump('failures', 'all ' + data.failures.length) }), slowTable(data.slowest.slice(0, 8), { link: jump('steps', 'all ' + data.slowest.length) }))] },
    { id: 'live', name: 'Live tasks', count: data.live.length, draw: () => [liveTable()] },
    { id: 'failures', name: 'Failures', count: data.failures.length, draw: () => [failureTable(data.failures, { filter: true, tall: true })] },
    { id: 'steps', name: 'Slowest steps', draw: () => [slowTable(data.slowest, { filter: true, tall: true })] },
    { id: 'task', name: 'Task', draw: () => [data.tasks.length ? el('div', { class: 'card' }, el('div', { class: 'head' }, el('label', { for: 'task-picker' }, 'Task '), picker,
      el('span', { class: 'dim' }, 'failing, running, slow and new ones; tasker.dashboard_html(task_id) adds any other'))) : el('div', { class: 'card empty' }, 'There is no task to show.'), taskPlace] },
  ];
  function show(id, focus) {
    for (const tab of TABS) {
      const chosen = tab.id === id;
      tab.button.setAttribute('aria-selected', String(chosen));
      tab.button.setAttribute('tabindex', chosen ? '0' : '-1');
      tab.panel.hidden = !chosen;
    }
    if (focus) TABS.find((tab) => tab.id === id).button.focus();
    if (id === 'task' && current === null && data.tasks.length) { openTask(data.tasks[0].task_id); return; }
    history.replaceState(null, '', id === 'task' && current !== null ? '#task=' + current : '#' + id);
    measure();
  }
  const dark = () => (document.documentElement.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
  const theme = el('button', { type: 'button', onclick: () => {
    document.documentElement.dataset.theme = dark() ? 'light' : 'dark';
    try { localStorage.setItem('tasker-theme', document.documentElement.dataset.theme); } catch { /* not kept */ }
    theme.textContent = dark() ? 'Light' : 'Dark';
  } });
  try { const kept = localStorage.getItem('tasker-theme'); if (kept === 'dark' || kept === 'light') document.documentElement.dataset.theme = kept; } catch { /* as the system has it */ }
  theme.textContent = dark() ? 'Light' : 'Dark';

  for (const [i, tab] of TABS.entries()) {
    tab.button = el('button', { type: 'button', role: 'tab', id: 'tab-' + tab.id, 'aria-controls': 'panel-' + tab.id, onclick: () => show(tab.id), onkeydown: (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1 + TABS.length, Home: 0, End: TABS.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(TABS[to % TABS.length].id, true);
    } }, tab.name, tab.count === undefined ? null : el('span', { class: 'count' }, count(tab.count)));
    tab.panel = el('div', { role: 'tabpanel', id: 'panel-' + tab.id, 'aria-labelledby': 'tab-' + tab.id, hidden: true }, ...tab.draw());
  }
  const health = data.health ? stateOf(data.health.status === 'healthy' ? 'complete' : 'error') : null;
  if (health) health.lastChild.textContent = words(data.health.status);
  document.body.append(
    el('a', { class: 'skip', href: '#main', onclick: (event) => { event.preventDefault(); document.getElementById('main').focus(); } }, 'Skip to the content'),
    el('header', null, el('h1', null, 'tasker'), el('span', null, data.database), health,
      el('span', { class: 'dim' }, data.scope === 'all' ? 'everybody\u2019s tasks, as ' + data.role + ' sees them' : 'the tasks of ' + data.role),
      el('span', { class: 'dim push' }, 'as of ', el('time', { datetime: data.generated_at }, day(now) + ' ' + clock(now))), theme),
    el('div', { role: 'tablist', 'aria-label': 'Views' }, ...TABS.map((tab) => tab.button)),
    el('main', { id: 'main', tabindex: '-1' }, ...TABS.map((tab) => tab.panel)));

  const follow = () => {
    const hash = location.hash.slice(1), task = /^task=(\d+)$/.exec(hash);
    if (task && shownTasks.has(Number(task[1]))) openTask(Number(task[1]));
    else show(TABS.some((tab) => tab.id === hash) ? hash : 'overview');
  };
  follow();
  addEventListener('hashchange', follow);
  let pending = 0;
  addEventListener('resize', () => { cancelAnimationFrame(pending); pending = requestAnimationFrame(measure); });
})();
