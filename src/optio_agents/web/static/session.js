// One session: how it stands, what happened, what was said, what it made; and acting on it.

import { Stream, get, key, post, put } from './api.js';
import { ask, me } from './dialog.js';
import { amount, clear, clock, day, el, money, size as bytes, span } from './dom.js';
import { Feed } from './feed.js';
import { changes, made } from './made.js';
import { markdown } from './markdown.js';
import { kind, progress, stateWords } from './overview.js';
import { Requests } from './requests.js';
import { talk } from './talk.js';
import { Timeline } from './timeline.js';

const QUIET = new Set(['phase', 'agent']); // seen otherwise
const TABS = { log: 'What happened', talk: 'Conversation', made: 'Made', changes: 'Changes' };

export function session(main, id, tab = 'log', wanted = '') {
  const path = `/api/sessions/${encodeURIComponent(id)}`;
  const requests = new Requests(id, wanted);
  const timeline = new Timeline();
  const feed = new Feed(entry, 'What happened');
  const outbox = new Outbox(path);
  const tokens = { in: 0, out: 0 };
  let row = null;
  let count = 0;

  const name = el('h1', {});
  const state = el('span', { class: 'state', role: 'status', 'aria-live': 'polite' });
  const bar = el('span', {});
  const facts = el('span', { class: 'facts' });
  const buttons = el('span', { class: 'buttons' },
    el('button', { type: 'button', onclick: () => act('interrupt') }, 'Interrupt'),
    el('button', { type: 'button', class: 'danger', onclick: stop }, 'Stop'));
  const receipt = el('p', { class: 'receipt', role: 'status', 'aria-live': 'polite' });

  function head() {
    if (!row) return;
    name.textContent = row.name || row.session;
    name.title = row.text || '';
    state.textContent = stateWords(row);
    state.className = `state ${kind(row)}`;
    clear(bar, progress(row));
    const until = row.ended_at && row.over ? row.ended_at : Date.now() / 1000;
    const used = tokens.in + tokens.out ? `${amount(tokens.in)} + ${amount(tokens.out)} tokens` : '';
    clear(facts, [span(until - row.at), money(row.usd), used, (row.agent || '').split('/').pop(), row.host].filter(Boolean).map((one) => el('span', {}, one)));
    facts.title = `began ${day(row.at)}, in ${row.taskdir}`;
    buttons.hidden = row.over;
    composer.hidden = row.over;
    document.title = `${row.waits ? '(!) ' : ''}${row.name || row.session}`;
  }

  async function act(verb, given = {}) {
    receipt.textContent = `${verb}: sent …`;
    try {
      const done = await post(`${path}/${verb}`, { by: me(), ...given });
      receipt.textContent = done.receipt === 'survivors' ? `these processes could not be ended: ${done.survivors.join('; ')}` : `${done.receipt}, by you`;
    } catch (trouble) {
      receipt.textContent = `${verb} was not done: ${trouble.message}`;
    }
  }

  async function stop() {
    if (await ask('Stop this agent?', 'The agent and all processes that it started end; the session counts as cancelled.', 'Stop it', 'danger')) await act('stop');
  }

  // Saying something

  const words = el('textarea', { rows: 1, placeholder: 'Say something to the agent', 'aria-label': 'Say something to the agent' });
  const size = () => { words.style.height = 'auto'; words.style.height = `${Math.min(words.scrollHeight + 2, innerHeight / 3)}px`; };
  words.addEventListener('input', size);
  words.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) say('send');
  });
  async function say(verb) {
    const text = words.value.trim();
    if (!text) return;
    words.value = '';
    size();
    if (!(await outbox.say(verb, text)) && !words.value) { words.value = text; size(); }
  }
  const file = el('input', { type: 'file', class: 'unseen', tabindex: '-1', 'aria-hidden': 'true', onchange: attach });
  async function attach() {
    const [one] = file.files;
    if (!one) return;
    receipt.textContent = `bringing ${one.name} to its host …`;
    const tell = (sent, all) => { receipt.textContent = `bringing ${one.name} to its host: ${bytes(sent)} of ${bytes(all)}`; };
    try {
      const done = await put(`${path}/put?name=${encodeURIComponent(one.name)}`, one, tell);
      words.value += `${words.value ? '\n' : ''}Attached: ${done.path}`;
      size();
      receipt.textContent = `${one.name} is on its host; say what it is for`;
      words.focus();
    } catch (trouble) {
      receipt.textContent = `${one.name} was not brought there: ${trouble.message}`;
    }
    file.value = '';
  }
  const composer = el('form', { class: 'composer', onsubmit: (event) => { event.preventDefault(); say('send'); } },
    outbox.node, receipt,
    el('div', {}, file,
      el('button', { type: 'button', 'aria-label': 'Attach a file', title: 'Attach a file', onclick: () => file.click() }, '+'),
      words,
      el('button', { type: 'button', title: 'into the turn that runs, where the agent can hear it there', onclick: () => say('steer') }, 'Steer'),
      el('button', { type: 'submit', class: 'main', title: 'Ctrl+Enter' }, 'Send')));

  // What is looked at

  const body = el('div', { class: 'body' });
  let close = null;
  const tabs = Object.entries(TABS).map(([one, label]) => el('button', { type: 'button', role: 'tab', id: `tab-${one}`, 'aria-controls': 'body', onclick: () => show(one), onkeydown: (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) tabs[(tabs.indexOf(event.currentTarget) + step + tabs.length) % tabs.length].click();
  } }, label));
  body.id = 'body';
  body.setAttribute('role', 'tabpanel');
  function show(one) {
    close?.();
    close = null;
    tabs.forEach((node) => {
      const here = node.id === `tab-${one}`;
      node.setAttribute('aria-selected', here);
      node.tabIndex = here ? 0 : -1;
      if (here && tabs.includes(document.activeElement)) node.focus();
    });
    body.setAttribute('aria-labelledby', `tab-${one}`);
    history.replaceState(null, '', `#/sessions/${id}${one === 'log' ? '' : `/${one}`}`);
    if (one === 'log') { clear(body, feed.pane); feed.later(); }
    if (one === 'talk') close = talk(body, path, (number, one) => timeline.tool(number, one));
    if (one === 'made') close = made(body, path);
    if (one === 'changes') close = changes(body, path);
  }

  // What comes

  function take(record) {
    if (record.number <= count) return; // a link that was cut gives nothing twice
    count = record.number;
    if (record.request) named(record);
    timeline.add(record);
    if (record.usage) {
      tokens.in += record.usage.input_tokens || 0;
      tokens.out += record.usage.output_tokens || 0;
    }
    if (record.kind === 'permission' || record.kind === 'question') asking();
    if (record.kind === 'decision') requests.decided(record);
    if (record.kind === 'sent') outbox.kept(record);
    if (!QUIET.has(record.kind)) feed.push(record);
  }
  // Nobody here answers a request by its id: what it is about says more.
  const about = new Map();
  function named(record) {
    const rest = record.words.replace(`${record.request} `, '');
    if (record.kind !== 'decision') about.set(record.request, rest.slice(0, 200));
    record.words = record.kind === 'decision' && about.has(record.request) ? `${rest}: ${about.get(record.request)}` : rest;
  }
  let asks = 0;
  const asking = () => { clearTimeout(asks); asks = setTimeout(() => requests.load(), 50); };

  const stream = new Stream(`${path}/events`, {
    message: take,
    session: (fresh) => { row = fresh; head(); if (row.waits) asking(); if (!row.over) outbox.look(); },
    gone: () => clear(main, el('p', { class: 'none' }, 'This session is not in the journal any more.')),
  });
  const ticking = setInterval(head, 10_000);
  clear(main, el('div', { class: 'session' },
    el('div', { class: 'head' }, el('div', {}, name, state, bar), facts, buttons),
    timeline.node, requests.node,
    el('div', { class: 'tabs', role: 'tablist', 'aria-label': 'Of this session' }, tabs),
    body, composer));
  show(TABS[tab] ? tab : 'log');
  if (wanted) asking();
  return () => {
    stream.end();
    clearInterval(ticking);
    clearTimeout(asks);
    outbox.close();
    requests.close();
    timeline.close();
    close?.();
  };
}

const PROSE = new Set(['answer']);
const LONG = 500; // characters that are shown of what is no prose, until it is opened

function entry(record) {
  const { kind: what, words, at, by } = record;
  const text = PROSE.has(what) ? markdown(words)
    : words.length > LONG ? el('details', { class: 'words' }, el('summary', {}, `${words.slice(0, 200)}…`), words)
      : el('span', { class: 'words' }, by && what === 'sent' ? `${by}: ` : '', words);
  return el('li', { class: `entry ${what}${record.outcome === 'done' ? ' well' : ''}`, 'data-number': record.number },
    el('time', { datetime: new Date(at * 1000).toISOString(), title: day(at) }, clock(at)),
    el('span', { class: 'kind' }, what.replace('_', ' ')), text);
}

// What was said from here, and how far each of it has come.
class Outbox {
  constructor(path) {
    this.path = path;
    this.node = el('ul', { class: 'outbox', 'aria-label': 'What was said and how far it came' });
    this.mine = new Map(); // by the name it is kept under
    this.others = new Set();
    this.looked = 0;
  }

  async say(verb, text) {
    const once = key();
    const note = el('small', { role: 'status' }, 'sent …');
    const item = el('li', {}, el('span', { class: 'words' }, text), note);
    this.node.querySelectorAll('.done').forEach((one) => one.remove());
    this.node.append(item);
    try {
      const { name } = await post(`${this.path}/${verb}`, { text, by: me() }, once);
      note.textContent = 'kept on its host; the agent reads it when its turn allows';
      this.mine.set(name, { item, note });
      this.others.delete(name);
      this.look(300);
      return true;
    } catch (trouble) {
      note.textContent = `not sent: ${trouble.message}`;
      item.classList.add('done');
      return false;
    }
  }

  kept({ name }) {
    if (!this.mine.has(name)) this.others.add(name);
  }

  look(pause = 1500) {
    if (this.closed || this.waiting || !(this.mine.size + this.others.size)) return;
    this.waiting = setTimeout(async () => {
      try {
        const { taken } = await get(`${this.path}/taken`);
        for (const name of taken) this.reached(name);
      } catch { /* the next look may tell */ }
      if (this.closed) return;
      this.waiting = 0;
      this.queued();
      this.look(Math.min(30_000, 2 * pause + 500));
    }, pause);
  }

  reached(name) {
    this.others.delete(name);
    const known = this.mine.get(name);
    if (!known) return;
    this.mine.delete(name);
    known.note.textContent = 'taken by the agent';
    known.item.classList.add('done'); // it stays until something else is said
  }

  queued() {
    const n = this.others.size;
    this.rest ??= el('li', { class: 'rest' });
    this.rest.textContent = n ? `${n} more ${n === 1 ? 'message waits' : 'messages wait'} for the agent` : '';
    if (n) this.node.prepend(this.rest);
    else this.rest.remove();
  }

  close() {
    clearTimeout(this.waiting);
    this.closed = true;
  }
}
