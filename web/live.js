// Plays speech while it is being made, then hands over to the player of the whole; says aloud (to screen readers) how
// far it is; lights up the words that are spoken. One function for all: `data.words` makes it a row of words.
const players = new WeakMap(); // root -> Live

class Live {
  constructor() {
    this.take = null;
    this.context = null;
  }

  begin(take) {
    this.end();
    this.take = take;
    this.next = 0; // number of the piece that is due
    this.origin = null; // time of the context at which the speech began
    this.ahead = 0; // seconds of speech that are scheduled
    this.context = new AudioContext();
  }

  add(number, rate, encoded) {
    if (!this.context || number !== this.next) return; // heard already; or one was missed: the rest is heard later
    this.next += 1;
    const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
    const samples = Float32Array.from(new Int16Array(bytes.buffer), (v) => v / 32768);
    const buffer = this.context.createBuffer(1, samples.length, rate);
    buffer.copyToChannel(samples, 0);
    const now = this.context.currentTime;
    if (this.origin === null) this.origin = now + 0.05;
    if (this.origin + this.ahead < now) this.origin = now + 0.05 - this.ahead; // it was not made in time: a pause
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    source.start(this.origin + this.ahead);
    this.ahead += buffer.duration;
  }

  get position() {
    return this.context && this.origin !== null ? this.context.currentTime - this.origin : null;
  }

  end() {
    if (this.context) this.context.close();
    this.context = null;
  }

  handOver(selector, tries = 50) {
    if (!this.context) return;
    const audio = document.querySelector(selector);
    if (!audio || audio.readyState < 1) {
      if (tries > 0) setTimeout(() => this.handOver(selector, tries - 1), 100);
      return;
    }
    const position = this.position;
    this.end();
    if (position === null || position > audio.duration) return;
    audio.currentTime = Math.max(0, position);
    audio.play().catch(() => {});
  }
}

function words(parent, data) {
  const row = parent.querySelector(".words");
  if (row.dataset.take === data.take) return;
  row.dataset.take = data.take;
  row.replaceChildren();
  const spans = data.words.map(([word, start]) => {
    const span = document.createElement("span");
    span.textContent = word;
    span.onclick = () => {
      const audio = document.querySelector(data.player);
      if (audio) { audio.currentTime = start; audio.play(); }
    };
    row.append(span, " ");
    return span;
  });
  let lit = -1;
  const tick = () => {
    if (!row.isConnected || row.dataset.take !== data.take) return;
    const audio = document.querySelector(data.player);
    const now = audio && !(audio.paused && audio.currentTime === 0) ? audio.currentTime : -1;
    const at = data.words.findIndex(([, start, stop]) => now >= start && now < stop);
    if (at !== lit) {
      if (lit >= 0) spans[lit].classList.remove("said");
      if (at >= 0) spans[at].classList.add("said");
      lit = at;
    }
    requestAnimationFrame(tick);
  };
  tick();
}

export default function ({ data, parentElement }) {
  if (!data) return;
  if (data.words) return words(parentElement, data);
  if (!players.has(parentElement)) players.set(parentElement, new Live());
  const live = players.get(parentElement);
  const status = parentElement.querySelector("[role=status]");
  if (status.textContent !== data.status) status.textContent = data.status;
  if (data.take && data.pieces.length && live.take !== data.take) live.begin(data.take);
  for (const piece of data.pieces) live.add(...piece);
  if (data.stop) live.end();
  else if (data.player) live.handOver(data.player);
}
