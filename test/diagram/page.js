// Usage: node page.js LIBRARY < diagrams > page.html
//
// Writes a page that renders each diagram (a JSON object a line) with Mermaid, looks at the picture as a reader would, and
// leaves its verdict as text: "ok NAME" or "FAIL NAME: why" for each, and "end" when it is through.
const fs = require('fs');

const diagrams = fs.readFileSync(0, 'utf8').split('\n').filter((line) => line.trim()).map((line) => JSON.parse(line));
if (diagrams.length === 0) throw new Error('no diagrams given');

// Runs in the browser.
async function look(diagrams) {
  const verdict = document.getElementById('verdict');
  const say = (line) => { verdict.textContent += line + '\n'; };
  mermaid.initialize({ startOnLoad: false, securityLevel: 'strict' });
  for (const [i, diagram] of diagrams.entries()) {
    const faults = [];
    try {
      const { svg } = await mermaid.render('picture' + i, diagram.text);
      const place = document.createElement('div');
      document.body.append(place);
      place.innerHTML = svg;
      // The word joiner that keeps Mermaid from seeing an icon is not seen by a reader either.
      const shown = [...place.querySelectorAll('.node')].map((node) => node.textContent.replace(/\u2060/g, '').trim());
      if (JSON.stringify([...shown].sort()) !== JSON.stringify([...diagram.labels].sort())) faults.push('labels are ' + JSON.stringify(shown) + ', not ' + JSON.stringify(diagram.labels));
      const edges = place.querySelectorAll('path.flowchart-link').length;
      if (edges !== diagram.edges) faults.push(edges + ' edges, not ' + diagram.edges);
      const fills = new Set();
      for (const state of diagram.states) {
        const shape = place.querySelector('.node.' + state + ' rect');
        if (shape) fills.add(getComputedStyle(shape).fill);
        else faults.push('nothing is ' + state);
      }
      if (fills.size !== diagram.states.length) faults.push(diagram.states.length + ' states have ' + fills.size + ' colours');
      if (place.querySelector('script, a, i, img')) faults.push('there is markup in it');
      // Mermaid draws a bomb instead of raising in some cases.
      if (place.querySelector('.error-icon')) faults.push('syntax error');
    } catch (error) {
      faults.push(String(error));
    }
    say(faults.length ? 'FAIL ' + diagram.name + ': ' + faults.join('; ') : 'ok ' + diagram.name);
  }
  say('end');
}

const script = (text) => '<script>' + text.replace(/<\//g, '<\\/') + '</script>\n';
process.stdout.write('<!DOCTYPE html>\n<meta charset="utf-8">\n<pre id="verdict"></pre>\n<script src="file://' + process.argv[2] + '"></script>\n' +
  script('(' + look + ')(' + JSON.stringify(diagrams) + ');'));
