// What is asked of the server: requests that are done once, and streams that miss nothing.

export class Trouble extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

const left = { handler: () => {} };
export const onLeft = (handler) => { left.handler = handler; };

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: 'same-origin', ...options });
  } catch {
    throw new Trouble(0, 'the server cannot be reached');
  }
  let known = {};
  try {
    known = await answer.json();
  } catch { /* it is none of ours, and its status says enough */ }
  return taken(path, answer.status, known);
}

function taken(path, status, known) {
  if (status === 401 && path !== '/api/enter') left.handler(known.error);
  if (status < 200 || status > 299) throw new Trouble(status, known.error || `the server answered ${status}`);
  return known;
}

export const get = (path) => ask(path);

export const key = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');

// Repeated over a bad link under the same key, so it is done once.
export async function post(path, given, once = key()) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await ask(path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': once },
        body: JSON.stringify(given || {}),
      });
    } catch (trouble) {
      if (trouble.status !== 0 || tries === 5) throw trouble;
      await new Promise((resolve) => { setTimeout(resolve, 500 * 2 ** tries); });
    }
  }
}

// Tells `progress` the bytes that are sent and all of them, which fetch cannot.
export const put = (path, file, progress) => new Promise((resolve, reject) => {
  const request = new XMLHttpRequest();
  request.open('POST', path);
  request.responseType = 'json';
  request.upload.onprogress = ({ loaded, total }) => progress(loaded, total);
  request.onerror = () => reject(new Trouble(0, 'the server cannot be reached'));
  request.onload = () => {
    try {
      resolve(taken(path, request.status, request.response || {}));
    } catch (trouble) {
      reject(trouble);
    }
  };
  request.send(file);
});

const SILENT = 40_000; // ms: the server breaks its silence every 15 s
const HIDDEN = 60_000; // ms that a page may be unseen until its stream is closed
const open = new Set();

export class Stream {
  constructor(path, handlers, place = '') {
    this.path = path;
    this.handlers = handlers;
    this.place = place;
    this.failed = 0;
    this.ended = false;
    open.add(this);
    this.begin();
  }

  begin() {
    clearTimeout(this.again);
    this.source?.close();
    if (this.ended) return;
    const behind = this.place ? `?after=${encodeURIComponent(this.place)}` : '';
    const source = new EventSource(this.path + behind);
    this.source = source;
    const take = (name) => (event) => {
      this.seen();
      if (event.lastEventId) this.place = event.lastEventId;
      if (name === 'over' || name === 'gone') this.end();
      if (event.data) this.handlers[name]?.(JSON.parse(event.data));
    };
    source.onmessage = take('message');
    for (const name of ['beat', 'session', 'over', 'gone', 'all', 'reached', 'trouble']) {
      source.addEventListener(name, take(name));
    }
    source.onopen = () => this.seen();
    source.onerror = () => this.fail();
    this.watch();
  }

  seen() {
    this.failed = 0;
    tellLink('');
    this.watch();
  }

  watch() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.fail(), SILENT);
  }

  async fail() {
    this.source.close();
    clearTimeout(this.silence);
    if (this.ended) return;
    this.failed += 1;
    if (this.failed > 1) tellLink('no link: trying again');
    const pause = Math.min(15_000, 300 * 2 ** this.failed) * (0.5 + Math.random() / 2);
    this.again = setTimeout(() => this.begin(), pause);
    try {
      await get('/api/about'); // a stream does not say why it is refused
    } catch (trouble) {
      if (trouble.status === 401) this.end();
    }
  }

  rest() {
    this.source?.close();
    clearTimeout(this.silence);
    clearTimeout(this.again);
  }

  end() {
    this.ended = true;
    open.delete(this);
    this.rest();
  }
}

function tellLink(words) {
  const shown = document.getElementById('link');
  if (shown.textContent !== words) shown.textContent = words;
}

let hiding;
let resting = false;
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiding);
  if (document.visibilityState === 'hidden') {
    hiding = setTimeout(() => { resting = true; open.forEach((one) => one.rest()); }, HIDDEN);
  } else if (resting) {
    resting = false;
    open.forEach((one) => one.begin());
  }
});
window.addEventListener('online', () => open.forEach((one) => one.begin()));
