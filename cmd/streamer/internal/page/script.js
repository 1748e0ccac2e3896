// Keeps the page up to date: the streamer sends rendered parts, and they replace
// the old ones where something has changed. Without this script the page shows
// the same, as of when it was loaded.
'use strict';

const silence = 6000; // ms without a word after which contact is lost
const again = 10000;  // ms between two loads where live updates are refused

let source = null;
let heard = 0;        // when, by a clock that is never set
let brief = '';
let retry = null;

const contact = document.getElementById('contact');
const announcer = document.getElementById('announcer');
const at = document.getElementById('at');

function time(iso) {
  return new Date(iso).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
}

function announce(text) {
  announcer.textContent = text;
}

function say(state, text) {
  if (contact.dataset.contact === state) return;
  const before = contact.dataset.contact;
  contact.dataset.contact = state;
  document.body.classList.toggle('stale', state === 'lost' || state === 'ended');
  document.getElementById('contact-text').textContent = text;
  if (state === 'polled' || state === 'live' && before !== 'lost' && before !== 'ended') return;
  announce(state === 'live' ? 'Contact is back. ' + brief : text);
}

// A part in which text is selected waits, and the focus stays where it is.
function replace(part, html) {
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && part.contains(selection.anchorNode)) {
    part.dataset.late = html;
    return;
  }
  delete part.dataset.late;
  part.innerHTML = html;
}

function show(parts) {
  for (const part of document.querySelectorAll('[data-part]')) {
    const html = parts[part.dataset.part] ?? part.dataset.late;
    if (html !== undefined) replace(part, html);
  }
  const state = document.querySelector('[data-brief]');
  if (document.title !== state.dataset.title) document.title = state.dataset.title;
  if (brief && brief !== state.dataset.brief) announce(state.dataset.brief);
  brief = state.dataset.brief;
}

function received(message) {
  const update = JSON.parse(message.data);
  if (update.assets !== document.body.dataset.assets) {
    location.reload(); // another version has been started
    return;
  }
  heard = performance.now();
  at.dateTime = update.at;
  at.textContent = time(update.at);
  show(update.parts);
  say('live', 'Live,');
}

function lost() {
  say('lost', 'Contact lost. Trying again. What you see is from');
}

function connect() {
  clearTimeout(retry);
  heard = performance.now();
  source = new EventSource('/page/live');
  source.addEventListener('update', received);
  source.addEventListener('end', () => say('ended', 'The streamer has stopped. What you see is from'));
  source.addEventListener('error', () => {
    if (source.readyState !== EventSource.CLOSED) {
      if (contact.dataset.contact !== 'ended') lost();
      return;
    }
    say('polled', 'Updated every 10 seconds, because too many watch. As of');
    retry = setTimeout(load, again);
  });
}

// The streamer has answered, but has no place for another viewer.
async function load() {
  try {
    const answer = await fetch('/');
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const parts = {};
    for (const part of page.querySelectorAll('[data-part]')) parts[part.dataset.part] = part.innerHTML;
    at.dateTime = page.getElementById('at').dateTime;
    at.textContent = time(at.dateTime);
    show(parts);
  } catch {
    lost();
  }
  connect();
}

function disconnect() {
  clearTimeout(retry);
  if (source) source.close();
  source = null;
}

setInterval(() => {
  if (source && contact.dataset.contact === 'live' && performance.now() - heard > silence) {
    lost();
    disconnect();
    connect();
  }
}, 1000);

// A browser allows few connections to one address: pages that nobody looks at
// give theirs up.
document.addEventListener('visibilitychange', () => (document.hidden ? disconnect() : source || connect()));
addEventListener('pagehide', disconnect);
addEventListener('pageshow', (event) => event.persisted && !source && connect());

at.textContent = time(at.dateTime);
brief = document.querySelector('[data-brief]').dataset.brief;
if (!document.hidden) connect();
