// The connection to the daemon. It comes back by itself, and says when it is not there.

const FIRST_RETRY_MS = 400;
const LONGEST_RETRY_MS = 10_000;
const SILENCE_MS = 20_000; // after that long without a word we ask whether anybody is there
const PATIENCE_MS = 8_000; // for the answer

/** A request that the daemon refused; `code` is for programs, the message for people. */
class Refused extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

/** The connection went before the answer came: the request may have been obeyed or not. */
class Disconnected extends Error {
  constructor() {
    super('the connection was lost before the answer came');
  }
}

export class Link {
  /** `hello` gives what is said first; `onMessage` gets each message that is no reply; `onChange` is told when `live` changes. */
  constructor(url, hello, onMessage, onChange) {
    this.live = false;
    this.since = Date.now();
    this._url = url;
    this._hello = hello;
    this._onMessage = onMessage;
    this._onChange = onChange;
    this._waiting = new Map(); // id -> {resolve, reject}
    this._nextId = 1;
    this._failures = 0;
  }

  open() {
    this._socket = new WebSocket(this._url);
    this._socket.onopen = () => this._opened();
    this._socket.onmessage = (event) => this._heard(JSON.parse(event.data));
    this._socket.onclose = () => this._closed();
  }

  /** Ask for something; the promise holds the result. Rejects with Refused or Disconnected. */
  request(verb, value, onId = () => {}) {
    if (!this.live || this._socket.readyState !== WebSocket.OPEN) return Promise.reject(new Disconnected());
    const id = this._nextId++;
    onId(id);
    return new Promise((resolve, reject) => {
      this._waiting.set(id, { resolve, reject });
      this._socket.send(JSON.stringify({ [verb]: value, id }));
    });
  }

  /** Try again now, if it is not there. */
  retry() {
    if (this.live || this._socket?.readyState === WebSocket.CONNECTING) return;
    clearTimeout(this._timer);
    this.open();
  }

  /** Do not come back until `retry`. */
  rest() {
    if (!this.live) clearTimeout(this._timer);
  }

  _opened() {
    this._failures = 0;
    this._socket.send(JSON.stringify({ hello: this._hello() }));
    this._set(true);
    this._listenForSilence();
  }

  _heard(message) {
    this._listenForSilence();
    if (message.type !== 'reply') return this._onMessage(message);
    const waiting = this._waiting.get(message.id);
    this._waiting.delete(message.id);
    if (message.ok) waiting?.resolve(message.result);
    else waiting?.reject(new Refused(message.error));
  }

  _closed() {
    clearTimeout(this._timer);
    const waiting = [...this._waiting.values()];
    this._waiting.clear();
    this._set(false);
    for (const { reject } of waiting) reject(new Disconnected());
    // all pages lose a restarting daemon at once: chance keeps them from coming back at once
    const wait = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this._failures++);
    this._timer = setTimeout(() => this.open(), wait * (0.5 + Math.random() / 2));
  }

  _listenForSilence() {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => {
      this.request('subscribe', []).catch(() => {}); // changes nothing; it is answered, if anybody is there
      this._timer = setTimeout(() => this._giveUp(), PATIENCE_MS);
    }, SILENCE_MS);
  }

  _giveUp() {
    this._socket.onclose = null; // closing in order needs the other side, too
    this._socket.onmessage = null;
    this._socket.close();
    this._closed();
  }

  _set(live) {
    if (this.live !== live) this.since = Date.now();
    this.live = live;
    this._onChange(live);
  }
}
