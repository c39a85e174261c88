// What an agent asks. It is allowed by somebody who has seen all of it, and for a moment.

import { get, post, key } from './api.js';
import { me } from './dialog.js';
import { el } from './dom.js';

const DECIDED = 3; // that stay, so that whoever was late reads by whom
const MOMENT = 1000; // ms: who clicked on what stood there before did not mean this

export class Requests {
  constructor(session, wanted) {
    this.session = session;
    this.wanted = wanted; // the one that a link leads to
    this.cards = new Map();
    this.node = el('section', { class: 'requests', 'aria-label': 'What the agent asks', hidden: true });
  }

  async load() {
    let found;
    try {
      ({ requests: found } = await get(`/api/sessions/${this.session}/requests`));
    } catch (trouble) {
      this.tell(`what it asks cannot be read: ${trouble.message}`);
      return;
    }
    for (const one of found) if (!this.cards.has(one.request)) this.add(one);
    if (this.wanted && !this.cards.has(this.wanted)) this.tell('the request of this link is not open any more');
    this.wanted = '';
  }

  tell(words) {
    this.node.hidden = false;
    const note = el('p', { class: 'note', role: 'status' }, words, ' ', el('button', { type: 'button', class: 'quiet', onclick: () => { note.remove(); this.tidy(); } }, 'Close'));
    this.node.prepend(note);
  }

  tidy() {
    this.node.hidden = !this.node.children.length;
  }

  add(asked) {
    const card = new Card(this.session, asked, {
      settled: () => {
        const settled = [...this.cards.values()].filter((one) => one.settled);
        for (const one of settled.slice(0, -DECIDED)) {
          one.close();
          this.cards.delete(one.asked.request);
        }
        this.cards.forEach((other) => other.renew()); // they have moved
      },
    });
    this.cards.set(asked.request, card);
    this.node.append(card.node);
    this.node.hidden = false;
    if (this.wanted === asked.request) card.node.focus();
  }

  decided({ request, behavior, by }) {
    this.cards.get(request)?.settle(behavior, by);
  }

  close() {
    for (const card of this.cards.values()) card.close();
  }
}

class Card {
  constructor(session, asked, on) {
    Object.assign(this, { session, asked, on, read: false, once: key() });
    const head = `heading-${asked.request}`;
    const end = el('span', { class: 'end' });
    this.end = end;
    this.body = asked.questions.length ? el('div', { class: 'asks' }, asked.questions.map((one, i) => this.question(one, i)), end)
      : el('div', { class: 'asks', tabindex: '0', role: 'region', 'aria-label': 'All that is asked' }, el('pre', {}, asked.body), end);
    this.note = el('p', { class: 'note', role: 'status' });
    this.message = el('input', { type: 'text', placeholder: 'Why not? (the agent reads it)', 'aria-label': 'Why not' });
    const yes = asked.questions.length ? 'Answer' : 'Allow';
    this.allow = el('button', { type: 'button', class: 'main', disabled: true, onclick: () => this.decide('allow') }, yes);
    this.always = asked.grants.length && !asked.questions.length
      ? el('button', { type: 'button', disabled: true, onclick: () => this.decide('allow', true) }, 'Always') : null;
    this.deny = el('button', { type: 'button', class: 'danger', onclick: () => this.decide('deny') }, asked.questions.length ? 'Do not answer' : 'Deny');
    this.node = el('article', { class: 'request', 'aria-labelledby': head, tabindex: '-1', 'data-request': asked.request },
      el('h3', { id: head }, asked.questions.length ? 'The agent asks you' : `The agent wants to use ${asked.tool}`, el('small', {}, asked.heading)),
      this.body,
      this.always && el('p', { class: 'grants' }, el('strong', {}, 'Always'), ' allows until this session ends: ', asked.grants.map((one) => el('code', {}, one))),
      el('div', { class: 'buttons' }, this.allow, this.always, this.deny, this.message), this.note);
    this.say(asked.readable ? 'Scroll to the end of it to allow it.' : 'This is too long to be read, so it cannot be allowed.');
    this.watching = new IntersectionObserver((found) => this.seen(found.at(-1).isIntersecting));
    this.watching.observe(end);
  }

  question(one, index) {
    const name = `${this.asked.request}-${index}`;
    const other = el('input', { type: 'text', placeholder: 'In your own words', 'aria-label': `${one.words}: in your own words`, 'data-other': '' });
    return el('fieldset', { 'data-question': one.question }, el('legend', {}, one.words),
      one.options.map((option) => el('label', {},
        el('input', { type: one.several ? 'checkbox' : 'radio', name, 'data-label': option.label }),
        el('span', {}, option.words, option.about && el('small', {}, option.about)))), other);
  }

  answers() {
    const found = {};
    for (const set of this.body.querySelectorAll('fieldset')) {
      const own = set.querySelector('[data-other]').value.trim();
      const chosen = [...set.querySelectorAll('input:checked')].map((one) => one.dataset.label);
      if (!own && !chosen.length) return null;
      found[set.dataset.question] = own || chosen.join(', ');
    }
    return found;
  }

  seen(whole) {
    clearTimeout(this.moment);
    if (this.read || !this.asked.readable || !whole) return;
    this.moment = setTimeout(() => {
      this.read = true;
      this.allow.disabled = false;
      if (this.always) this.always.disabled = false;
      this.say('');
    }, MOMENT);
  }

  renew() {
    if (this.settled) return;
    this.read = false;
    this.busy(false);
    this.watching.unobserve(this.end);
    this.watching.observe(this.end);
  }

  say(words) {
    this.note.textContent = words;
  }

  async decide(behavior, always = false) {
    const given = { request: this.asked.request, digest: this.asked.digest, behavior, always, by: me() };
    if (behavior === 'allow' && this.asked.questions.length) {
      given.answers = this.answers();
      if (!given.answers) return this.say('Choose for each question, or say it in your own words.');
    }
    if (behavior === 'deny' && this.message.value.trim()) given.message = this.message.value.trim();
    this.busy(true);
    this.say('sent; waiting for its host …');
    try {
      const { receipt, by } = await post(`/api/sessions/${this.session}/answer`, given, `${this.once}-${behavior}-${always}`);
      if (receipt === 'late') this.settle('', by, `too late: it was decided by ${by}`);
      else this.settle(receipt, by, `${receipt === 'allow' ? 'allowed' : 'denied'} by ${by}; the agent has it`);
    } catch (trouble) {
      if (trouble.status === 409 && !/not what was shown/.test(trouble.message)) this.settle('', '', trouble.message);
      else {
        this.busy(false);
        this.say(`not decided: ${trouble.message}`);
      }
    }
    return null;
  }

  busy(on) {
    this.allow.disabled = on || !this.read;
    this.deny.disabled = on;
    if (this.always) this.always.disabled = on || !this.read;
  }

  settle(behavior, by, words) {
    if (this.settled && !words) return;
    this.settled = true;
    this.busy(true);
    this.allow.disabled = true;
    this.node.classList.add('settled');
    this.on.settled();
    this.say(words || `decided: ${behavior} by ${by}`);
  }

  close() {
    this.watching.disconnect();
    clearTimeout(this.moment);
    this.node.remove();
  }
}
