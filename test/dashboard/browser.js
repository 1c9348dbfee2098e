// Headless Chromium on a pipe: the DevTools protocol without any package. What went wrong inside is gathered in `faults`.
'use strict';
const { spawn } = require('child_process');

async function launch(folder) {
  // --no-sandbox: in containers and as root Chromium has none to enter; the page is our own.
  const child = spawn('chromium', ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--remote-debugging-pipe', '--no-first-run', '--disable-background-networking',
    '--user-data-dir=' + folder + '/profile', 'about:blank'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
  const [, , , input, output] = child.stdio;
  const waiting = new Map(), listeners = new Map();
  let last = 0, rest = '', gone = false;
  child.on('exit', () => { gone = true; for (const { reject } of waiting.values()) reject(new Error('the browser is gone')); });
  output.on('data', (chunk) => {
    const parts = (rest + chunk).split('\0');
    rest = parts.pop();
    for (const part of parts) {
      const message = JSON.parse(part);
      const asked = waiting.get(message.id);
      if (asked) {
        waiting.delete(message.id);
        message.error ? asked.reject(new Error(asked.method + ': ' + message.error.message)) : asked.resolve(message.result);
      } else for (const listener of listeners.get(message.method) || []) listener(message.params);
    }
  });
  let session;
  const send = (method, params = {}) => new Promise((resolve, reject) => {
    if (gone) { reject(new Error('the browser is gone')); return; }
    const id = ++last, timer = setTimeout(() => { waiting.delete(id); reject(new Error(method + ' got no answer')); }, 60000);
    const done = (end) => (value) => { clearTimeout(timer); end(value); };
    waiting.set(id, { method, resolve: done(resolve), reject: done(reject) });
    input.write(JSON.stringify({ id, method, params, sessionId: session }) + '\0');
  });
  const on = (event, listener) => listeners.set(event, [...(listeners.get(event) || []), listener]);

  const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
  session = (await send('Target.attachToTarget', { targetId, flatten: true })).sessionId;
  const faults = [], requests = [];
  on('Runtime.exceptionThrown', ({ exceptionDetails: e }) => faults.push('exception: ' + ((e.exception && e.exception.description) || e.text)));
  on('Runtime.consoleAPICalled', ({ type, args }) => faults.push('console.' + type + ': ' + args.map((a) => a.value || a.description).join(' ')));
  on('Log.entryAdded', ({ entry }) => faults.push('log: ' + entry.text));
  on('Network.requestWillBeSent', ({ request }) => requests.push(request.url));
  on('Page.javascriptDialogOpening', ({ message }) => { faults.push('dialog: ' + message); send('Page.handleJavaScriptDialog', { accept: true }).catch(() => {}); });
  for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await send(domain + '.enable');

  return {
    faults, requests, send,
    async open(url) {  // null: again what is open
      const loaded = new Promise((resolve) => on('Page.loadEventFired', resolve));
      await (url ? send('Page.navigate', { url }) : send('Page.reload'));
      await loaded;
    },
    // What an expression gives in the page; a function is called there with the arguments.
    async ask(question, ...given) {
      const { result, exceptionDetails } = await send('Runtime.evaluate', { expression: typeof question === 'function' ? '(' + question + ')(' + given.map((g) => JSON.stringify(g)).join(',') + ')' : question, returnByValue: true, awaitPromise: true });
      if (exceptionDetails) throw new Error((exceptionDetails.exception && exceptionDetails.exception.description) || exceptionDetails.text);
      return result.value;
    },
    async press(key, modifiers = 0) {
      const codes = { Tab: 9, Enter: 13, ' ': 32, End: 35, Home: 36, ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40 };
      const event = { key, code: key === ' ' ? 'Space' : key, windowsVirtualKeyCode: codes[key], modifiers, text: key === 'Enter' ? '\r' : key === ' ' ? ' ' : undefined };
      await send('Input.dispatchKeyEvent', { type: 'keyDown', ...event });
      await send('Input.dispatchKeyEvent', { type: 'keyUp', ...event, text: undefined });
    },
    // With the mouse, in the middle of what the selector finds.
    async click(selector) {
      const place = await this.ask((s) => {
        const found = document.querySelector(s);
        if (!found) return null;
        found.scrollIntoView({ block: 'center', inline: 'center' });
        const r = found.getBoundingClientRect();
        return { x: r.left + r.width / 2, y: r.top + r.height / 2 };
      }, selector);
      if (!place) throw new Error('nothing to click: ' + selector);
      for (const type of ['mousePressed', 'mouseReleased']) await send('Input.dispatchMouseEvent', { type, ...place, button: 'left', clickCount: 1 });
    },
    async look(width, height, scheme) {
      await send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false });
      await send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
    },
    async picture() { return Buffer.from((await send('Page.captureScreenshot', { format: 'png' })).data, 'base64'); },
    async close() {
      const exit = new Promise((resolve) => (gone ? resolve() : child.on('exit', resolve)));
      await send('Browser.close').catch(() => child.kill());
      await exit;
    },
  };
}

module.exports = { launch };
