// Usage: node check.js FOLDER [IMAGES]
//
// Opens FOLDER/page.html (a superuser's), FOLDER/own.html (the owner's) and FOLDER/none.html (of one who may see nothing) as a
// person would, by mouse and by keyboard. FOLDER/ids.json names the tasks. Leaves pictures in IMAGES when given.
// Prints "ok" or "FAIL" for each thing looked at.
'use strict';
const fs = require('fs');
const { launch } = require('./browser.js');

const [folder, images] = process.argv.slice(2);
const ids = JSON.parse(fs.readFileSync(folder + '/ids.json', 'utf8'));
const url = (name) => 'file://' + folder + '/' + name + '.html';
let passed = 0, failed = 0;
function check(what, good, found) {
  if (good) { passed++; console.log('ok ' + what); }
  else { failed++; console.log('FAIL ' + what + (found === undefined ? '' : ': ' + JSON.stringify(found))); }
}
const same = (what, found, wanted) => check(what, JSON.stringify(found) === JSON.stringify(wanted), { found, wanted });

// In the page:
const panel = () => [...document.querySelectorAll('[role=tabpanel]')].filter((p) => !p.hidden).map((p) => p.id).join();
const text = (selector) => [...document.querySelectorAll(selector)].map((e) => e.textContent);
const visibleText = () => document.querySelector('[role=tabpanel]:not([hidden])').innerText;
const focused = () => { const e = document.activeElement; return (e.getAttribute('role') || e.tagName.toLowerCase()) + ' ' + (e.getAttribute('aria-label') || e.textContent); };
// Every text, against what is really painted behind it: contrast as WCAG has it, under 4.5.
const faint = () => {
  const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number), faults = new Set();
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4)); return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = (e) => { for (let p = e; p; p = p.parentElement) { const c = parse(getComputedStyle(p).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  for (const e of document.querySelectorAll('main *, header *, [role=tablist] *, main text')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), svg = e instanceof SVGElement;
    if (svg && e.tagName !== 'text') continue;
    const a = light(parse(svg ? style.fill : style.color)), b = light(behind(svg ? e.ownerSVGElement.parentElement : e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faults.add(ratio.toFixed(2) + ' ' + e.textContent.slice(0, 30));
  }
  return [...faults];
};
// What a screen reader would have no name for.
const nameless = () => [...document.querySelectorAll('button, input, select, [role=button], [role=img], [role=region], svg')].filter((e) => !e.closest('[hidden]'))
  .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length))).map((e) => e.outerHTML.slice(0, 80));
const wide = () => document.documentElement.scrollWidth - document.documentElement.clientWidth;

async function picture(browser, name) {
  if (!images) return;
  const png = await browser.picture();
  fs.writeFileSync(images + '/dashboard-' + name + '.png', png);
  check('picture ' + name + ' is small enough', png.length <= 200000, png.length);
}

async function byMouse(browser) {
  await browser.look(1280, 860, 'light');
  await browser.open(url('page'));
  same('it opens on the overview', await browser.ask(panel), 'panel-overview');
  same('five views', await browser.ask(text, '[role=tab]').then((t) => t.map((s) => s.replace(/\d+$/, ''))), ['Overview', 'Live tasks', 'Failures', 'Slowest steps', 'Task']);
  check('the chart shows two days', await browser.ask(() => document.querySelectorAll('#panel-overview svg g').length) === 48);
  check('the chart has bars of each outcome', await browser.ask(() => ['complete', 'cancelled', 'error'].every((s) => document.querySelector('#panel-overview svg rect.c-' + s))));
  same('nothing faint in light', await browser.ask(faint), []);
  await picture(browser, 'overview-light');

  await browser.click('#tab-live');
  same('a click opens the live tasks', await browser.ask(panel), 'panel-live');
  const before = await browser.ask(text, '#panel-live tbody tr td:first-child');
  await browser.click('#panel-live thead button');
  const after = await browser.ask(text, '#panel-live tbody tr td:first-child');
  check('six tasks are live', before.length === 6, before);
  same('a click on a head sorts', after, [...before].sort((a, b) => a - b));
  same('the head says so', await browser.ask(() => document.querySelector('#panel-live thead th').getAttribute('aria-sort')), 'ascending');
  await browser.ask(() => { const f = document.querySelector('#panel-live input[type=search]'); f.value = 'refund'; f.dispatchEvent(new Event('input')); });
  same('the filter leaves four', (await browser.ask(text, '#panel-live tbody tr')).length, 4);

  await browser.click('#tab-failures');
  const failures = await browser.ask(text, '#panel-failures tbody tr');
  same('three failures', failures.length, 3);
  check('with their reasons', failures.some((f) => f.includes('card 4242 was reported stolen')) && failures.some((f) => f.includes('stocktaking') && f.includes('next attempt')), failures);
  check('hostile text is shown as it is', failures.some((f) => f.includes('</script><img src=x onerror=alert(1)><script>alert(2)</script> & <!--')), failures);
  await picture(browser, 'failures-light');

  await browser.click('#tab-steps');
  check('the slowest steps are there', (await browser.ask(text, '#panel-steps tbody tr')).length >= 10);
  await browser.click('#panel-steps tbody tr');

  await browser.click('#tab-failures');
  await browser.click(`#panel-failures button[aria-label="Task ${ids.hostile}"]`);
  same('a failure leads to its task', await browser.ask(panel), 'panel-task');
  same('and to its step', await browser.ask(text, '.node.chosen text'), ['reserve_stock', '\u2715 error']);
  check('its message is beside it', (await browser.ask(text, '[aria-label="The chosen step"] .notice')).join().includes('onerror=alert(1)'));
  const facts = await browser.ask(visibleText);
  for (const hostile of ['<b onclick=alert(3)>', '"><svg onload=alert(4)>', '<i>tag</i>', 'javascript:alert(5)//]]>']) check('shown as text: ' + hostile, facts.includes(hostile));
  same('ten steps are drawn', await browser.ask(() => document.querySelectorAll('.node').length), 10);
  same('fourteen edges', await browser.ask(() => document.querySelectorAll('path.edge').length), 14);
  check('every node has its state in words', (await browser.ask(text, '.node .mark')).every((m) => /complete|error|pending|in progress/.test(m)));
  same('no nodes overlap', await browser.ask(overlaps), 0);
  await browser.click('[aria-label="Timeline of the task"] rect.pick');
  same('a bar of the timeline chooses its step', await browser.ask(text, '.node.chosen text:nth-of-type(1)'), ['validate']);
  same('nothing faint on the task', await browser.ask(faint), []);
  await browser.click('header button');
  same('the button turns it dark', await browser.ask(() => getComputedStyle(document.body).backgroundColor), 'rgb(18, 22, 27)');
  same('nothing faint in dark', await browser.ask(faint), []);
  same('everything has a name', await browser.ask(nameless), []);
  await browser.click('header button');

  await browser.ask((id) => { const p = document.getElementById('task-picker'); p.value = id; p.dispatchEvent(new Event('change')); }, ids.large);
  same('the large one is drawn whole', await browser.ask(() => document.querySelectorAll('.node').length), 60);
  same('without overlaps', await browser.ask(overlaps), 0);
  await browser.click('[aria-label="Graph of the task"] .head button');
  check('and fits the width', await browser.ask(() => { const s = document.querySelector('.fit svg'); return s.getBoundingClientRect().width <= s.parentElement.clientWidth; }));
}
const overlaps = () => {
  const boxes = [...document.querySelectorAll('.node rect.box')].map((r) => r.getBBox());
  return boxes.filter((a, i) => boxes.some((b, j) => j > i && a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height)).length;
};

async function byKeyboard(browser) {
  await browser.look(1280, 860, 'dark');
  await browser.ask(() => localStorage.clear());
  await browser.open(url('none'));
  await browser.open(url('page'));
  same('it is dark where the system is', await browser.ask(() => getComputedStyle(document.body).backgroundColor), 'rgb(18, 22, 27)');
  await picture(browser, 'overview-dark');
  await browser.press('Tab');
  same('first comes the way past the head', await browser.ask(focused), 'a Skip to the content');
  await browser.press('Tab');
  await browser.press('Tab');
  same('then the tabs', await browser.ask(focused), 'tab Overview');
  check('focus can be seen', await browser.ask(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle === 'solid' && parseFloat(s.outlineWidth) >= 2; }));
  await browser.press('ArrowRight');
  same('an arrow opens the next', await browser.ask(panel), 'panel-live');
  await browser.press('Tab');
  same('the filter', await browser.ask(focused), 'input Filter live tasks');
  await browser.press('Tab');
  await browser.press('Tab');
  await browser.press('Enter');
  same('Enter sorts', await browser.ask(() => document.querySelector('#panel-live thead th').getAttribute('aria-sort')), 'ascending');
  await browser.ask(() => document.getElementById('tab-live').focus());
  await browser.press('End');
  same('End opens the last tab', await browser.ask(panel), 'panel-task');
  for (let i = 0; i < 12 && !(await browser.ask(focused)).startsWith('button validate,'); i++) await browser.press('Tab');
  same('Tab reaches the graph', await browser.ask(focused).then((f) => f.slice(0, 15)), 'button validate');
  await browser.press('Enter');
  same('Enter chooses a step', await browser.ask(text, '.node.chosen text:nth-of-type(1)'), ['validate']);
  await browser.press('ArrowRight');
  const next = await browser.ask(text, '.node.chosen text:nth-of-type(1)');
  check('an arrow goes to a child', ['check_fraud', 'reserve_stock', 'quote_shipping'].includes(next[0]), next);
  await browser.press('ArrowLeft');
  same('and back', await browser.ask(text, '.node.chosen text:nth-of-type(1)'), ['validate']);
  const address = await browser.ask('location.hash');
  check('the address names the task', /^#task=\d+$/.test(address), address);
  await browser.open(null);
  same('and brings it back', await browser.ask(panel), 'panel-task');
}

async function pictures(browser) {
  await browser.look(1280, 860, 'dark');
  for (const [name, id, height] of [['task-dark', ids.stumbled, 920], ['large-dark', ids.large, 900]]) {
    await browser.look(1280, height, 'dark');
    await browser.open(url('none'));
    await browser.open(url('page') + '#task=' + id);
    await browser.ask(() => document.querySelector('.node').dispatchEvent(new MouseEvent('click')));
    await browser.ask(() => scrollTo(0, 0));
    await picture(browser, name);
  }
  await browser.look(1280, 920, 'light');
  await browser.open(url('none'));
  await browser.open(url('page') + '#task=' + ids.failed);
  await browser.ask(() => document.querySelector('.node.c-error').dispatchEvent(new MouseEvent('click')));
  await browser.ask(() => scrollTo(0, 0));
  await picture(browser, 'task-light');
  await browser.look(390, 800, 'light');
  for (const tab of ['overview', 'live', 'failures', 'steps', 'task']) {
    await browser.click('#tab-' + tab);
    same('a narrow screen is enough for ' + tab, await browser.ask(wide), 0);
  }
}

async function ofOthers(browser) {
  await browser.look(1280, 860, 'light');
  await browser.open(url('own'));
  check('the owner sees his tasks', (await browser.ask(text, '#panel-live tbody tr')).length === 6);
  check('and his slowest steps', (await browser.ask(text, '#panel-steps tbody tr')).length >= 10);
  check('and is told that they are his', (await browser.ask(text, 'header')).join().includes('the tasks of dash_owner'));
  await browser.open(url('none'));
  const source = fs.readFileSync(folder + '/none.html', 'utf8');
  check('who may see nothing is given nothing', !/shop|genome|dash_owner|4242/.test(source.replace(/^[\s\S]*id="data">|<\/script>[\s\S]*$/g, '')));
  check('and a page that says so', (await browser.ask(visibleText)).includes('Nothing has failed'));
  await browser.click('#tab-task');
  check('without a task to show', (await browser.ask(visibleText)).includes('There is no task to show.'));
}

async function through() {
  const browser = await launch(folder);
  try {
    for (const part of [byMouse, byKeyboard, pictures, ofOthers]) await part(browser);
    same('nothing but text, tables and pictures is in the page', await browser.ask(() => document.querySelectorAll('img, iframe, object, embed, [onclick], [onload], [onerror], script[src], link').length), 0);
    // Would a script that got in run? It must not.
    await browser.ask(() => { const s = document.createElement('script'); s.textContent = 'window.intruder = true'; document.body.append(s); const i = document.createElement('img'); i.src = 'http://intruder.example/x'; document.body.append(i); });
    check('the policy lets no other script run', await browser.ask('window.intruder === undefined'));
    const refusals = browser.faults.filter((f) => /^log: .*Content Security Policy/.test(f));
    check('and says so', refusals.length >= 2, browser.faults);
    same('no error, no message, no dialog', browser.faults.filter((f) => !refusals.includes(f)), []);
    same('nothing was asked of the network', browser.requests.filter((r) => !r.startsWith('file://' + folder + '/') && !r.startsWith('http://intruder.example/')), []);
  } finally {
    await browser.close();
  }
}

through().then(() => {
  console.log('dashboard: ' + passed + ' passed, ' + failed + ' failed');
  process.exitCode = failed ? 1 : 0;
}, (error) => {
  console.log('FAIL ' + error.stack);
  console.log('dashboard: ' + passed + ' passed, ' + (failed + 1) + ' failed');
  process.exitCode = 1;
});
