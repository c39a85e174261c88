// The conversation, as the agent's own output on its host has it; tools are folded.

import { Stream } from './api.js';
import { clear, diff, el } from './dom.js';
import { Feed } from './feed.js';
import { markdown } from './markdown.js';

const WHO = { person: 'Said to it', agent: 'Agent', turn: 'A turn ended', output: 'Output' };

export function talk(body, path, onTool) {
  const feed = new Feed(passage, 'The conversation');
  const note = el('p', { class: 'note', role: 'status' }, 'reaching its host …');
  let last = null;
  const count = { tool: 0, turn: 0 };
  let since = 0; // when the last passage came that was not there before
  let opened = 0; // when the first came of what was
  const stream = new Stream(`${path}/conversation`, {
    reached: () => { note.textContent = ''; note.hidden = true; opened = 0; },
    message: ({ passages, at }) => {
      opened ||= at;
      for (const one of passages) {
        if (one.who === 'result' && last?.who === 'tool' && last.result === undefined) {
          last.result = one.words;
          last.fill?.();
        } else {
          feed.push(one);
          last = one;
        }
        if (one.who === 'tool') onTool(count.tool, { words: one.words, turn: count.turn, since, until: opened, at: one.old ? 0 : at });
        if (one.who in count) count[one.who] += 1;
        if (!one.old) since = at;
      }
    },
    over: () => { note.hidden = feed.items.length > 0; note.textContent = 'It has said nothing.'; },
    trouble: ({ text }) => { stream.end(); note.hidden = false; note.textContent = `The conversation lies on its host, which cannot be read now: ${text}`; },
  });
  clear(body, note, feed.pane);
  return () => stream.end();
}

function passage(one) {
  if (one.who === 'tool') return tool(one);
  const text = one.who === 'agent' ? markdown(one.words) : el('pre', { class: 'words' }, one.words);
  return el('li', { class: `passage ${one.who}` }, el('span', { class: 'kind' }, WHO[one.who] || one.who), text);
}

function tool(one) {
  const inner = el('div', {});
  const fold = el('details', {}, el('summary', {}, one.words.split('\n')[0].slice(0, 200)), inner);
  one.fill = () => {
    if (!fold.open) return;
    clear(inner, one.change ? diff(one.change) : one.words.includes('\n') || one.words.length > 200 ? el('pre', {}, one.words) : null,
      one.result === undefined ? el('p', { class: 'dim' }, 'no result yet') : el('pre', { class: 'result' }, one.result || '(it printed nothing)'));
  };
  fold.addEventListener('toggle', one.fill);
  if (one.change) fold.open = one.change.length < 1500;
  return el('li', { class: 'passage tool' }, fold);
}
