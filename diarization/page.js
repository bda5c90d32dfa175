"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const audio = document.getElementById("audio"), zoom = document.getElementById("zoom");
const curves = document.getElementById("curves"), whole = document.getElementById("whole");
const LANE = 14, LEFT = 34, SHORTEST = 5;
const low = data.cosines.reduce((least, curve) => curve.reduce((a, b) => Math.min(a, b), least), 0); // of the scale
const color = name => getComputedStyle(document.documentElement).getPropertyValue(name);
const make = (tag, parent, properties) => { const made = Object.assign(document.createElement(tag), properties); parent.append(made); return made; };

function clock(s, decimals = 0) { // m:ss, from an hour on h:mm:ss
  const whole = Math.round(s * 10 ** decimals), minutes = Math.floor(whole / (60 * 10 ** decimals));
  const rest = ((whole - minutes * 60 * 10 ** decimals) / 10 ** decimals).toFixed(decimals).padStart(decimals ? decimals + 3 : 2, "0");
  return minutes < 60 ? minutes + ":" + rest : Math.floor(minutes / 60) + ":" + String(minutes % 60).padStart(2, "0") + ":" + rest;
}

// What the files hold; the same as diarization/exports.py and diarization/turns.py write
const field = text => text.trim().replace(/\s+/g, "_") || "_";
const quoted = text => /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
function subtitleTime(s) {
  const all = Math.round(s * 1000), pad = (n, size) => String(n).padStart(size, "0");
  return pad(Math.floor(all / 3600000), 2) + ":" + pad(Math.floor(all / 60000) % 60, 2) + ":" + pad(Math.floor(all / 1000) % 60, 2) + "," + pad(all % 1000, 3);
}
const exported = {
  rttm: () => data.turns.map(([a, b, who]) => `SPEAKER ${field(data.recording)} 1 ${a.toFixed(3)} ${(b - a).toFixed(3)} <NA> <NA> ${field(data.names[who])} <NA> <NA>\n`).join(""),
  csv: () => "start,stop,speaker\n" + data.turns.map(([a, b, who]) => `${a.toFixed(3)},${b.toFixed(3)},${quoted(data.names[who])}\n`).join(""),
  srt: () => data.turns.map(([a, b, who], i) => `${i + 1}\n${subtitleTime(a)} --> ${subtitleTime(b)}\n${data.names[who]}\n`).join("\n"),
  json: () => JSON.stringify({recording: data.recording, seconds: data.seconds, speakers: Object.fromEntries(talk().map(([seconds, turns], who) => [data.names[who], {seconds, turns}])),
    turns: data.turns.map(([start, stop, who]) => ({start, stop, speaker: data.names[who]}))}, null, 1) + "\n",
};

function talk() { // seconds and number of turns of each voice
  const found = data.names.map(() => [0, 0]);
  for (const [start, stop, who] of data.turns) { found[who][0] += stop - start; found[who][1]++; }
  return found.map(([seconds, turns]) => [Math.round(seconds * 1000) / 1000, turns]);
}

function together() { // seconds in which nobody speaks, and in which two or more do
  const edges = data.turns.flatMap(([a, b]) => [[a, 1], [b, -1]]).sort((x, y) => x[0] - y[0] || x[1] - y[1]);
  let speaking = 0, before = 0, some = 0, many = 0;
  for (const [at, change] of edges) {
    if (speaking > 0) some += at - before;
    if (speaking > 1) many += at - before;
    speaking += change;
    before = at;
  }
  return [Math.max(0, data.seconds - some), many];
}

// A row for each voice. textContent and value: a name is never markup.
const body = document.getElementById("speakers");
const share = seconds => (100 * seconds / Math.max(data.seconds, 1e-9)).toFixed(0) + "%";
const sums = talk();
const rows = data.names.map((name, who) => {
  const line = make("tr", body, {}), first = make("td", line, {});
  make("i", first, {}).style.background = data.colors[who];
  const label = make("input", first, {value: name, maxLength: 60, ariaLabel: "name of speaker " + (who + 1)});
  const bar = make("div", make("td", line, {className: "wide"}), {className: "bar"}), fill = make("span", bar, {});
  fill.style.background = data.colors[who];
  const number = make("td", line, {});
  for (const text of [clock(sums[who][0], 1), share(sums[who][0]), sums[who][1]]) make("td", line, {textContent: text});
  label.addEventListener("input", () => rename(who, label));
  return {line, label, fill, number};
});
for (const [name, seconds] of [["silence", together()[0]], ["two or more at once", together()[1]]]) {
  const line = make("tr", body, {});
  make("td", line, {textContent: name});
  make("td", line, {className: "wide"});
  make("td", line, {});
  for (const text of [clock(seconds, 1), share(seconds), ""]) make("td", line, {textContent: text});
}

const list = document.getElementById("turns");
const items = data.turns.map(([start, stop, who]) => {
  const item = make("li", list, {}), button = make("button", item, {type: "button"});
  make("time", button, {textContent: clock(start, 1) + " – " + clock(stop, 1)});
  const label = make("b", button, {}), chip = make("i", label, {}), text = make("span", label, {textContent: data.names[who]});
  chip.style.background = data.colors[who];
  button.addEventListener("click", () => goTo(start));
  return {item, text};
});

function rename(who, label) {
  const name = label.value.trim(), taken = data.names.some((other, i) => i !== who && field(other) === field(name));
  label.classList.toggle("wrong", !name || taken);
  document.getElementById("said").textContent = !name ? "A name is wanted." : taken ? "Another speaker has this name." : "";
  if (!name || taken) return;
  data.names[who] = name;
  data.turns.forEach((turn, i) => { if (turn[2] === who) items[i].text.textContent = name; });
  draw();
}

for (const button of document.querySelectorAll("[data-kind]"))
  button.addEventListener("click", () => {
    const kind = button.dataset.kind, url = URL.createObjectURL(new Blob([exported[kind]()], {type: "text/plain;charset=utf-8"}));
    const link = Object.assign(document.createElement("a"), {href: url, download: (data.recording.replace(/[\\/:*?"<>|]+/g, "_") || "turns") + "." + kind});
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });

function firstAfter(t) { // first window whose center is at or after t
  let a = 0, b = data.times.length;
  while (a < b) { const m = (a + b) >> 1; if (data.times[m] < t) a = m + 1; else b = m; }
  return a;
}

function cosineAt(curve, t) { // between two windows, unless a pause lies between them
  const i = firstAfter(t), before = data.times[i - 1], after = data.times[i];
  if (i > 0 && i < data.times.length && after - before <= data.gap)
    return curve[i - 1] + (curve[i] - curve[i - 1]) * (t - before) / (after - before || 1);
  const near = i > 0 && (i === data.times.length || t - before < after - t) ? i - 1 : i;
  return Math.abs(data.times[near] - t) <= data.gap / 2 ? curve[near] : null;
}

function context(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = +canvas.getAttribute("data-height");
  if (canvas.width !== Math.round(width * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = height + "px";
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  return [pen, width, height];
}

function view() { // the seconds shown, from SHORTEST to all; the cursor stays in the middle except at both ends
  const most = Math.max(data.seconds, SHORTEST), span = Math.min(SHORTEST * (most / SHORTEST) ** (zoom.value / 100), data.seconds);
  return [Math.max(0, Math.min(audio.currentTime - span / 2, data.seconds - span)), span];
}

function ticks(pen, start, span, x, width, y) {
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200].find(s => span / s <= width / 60) || 7200;
  pen.fillStyle = color("--faint");
  for (let s = Math.ceil(start / step) * step; s <= start + span; s += step) {
    const text = clock(s), at = x(s), size = pen.measureText(text).width;
    pen.fillRect(at, y - 12, 1, 4);
    pen.fillText(text, Math.min(Math.max(at - size / 2, 0), width - size), y);
  }
}

function drawTurns(pen, x, width, top, lane) {
  for (const [start, stop, who] of data.turns) {
    const a = Math.max(x(start), LEFT), b = x(stop);
    if (b < LEFT || a > width) continue;
    pen.fillStyle = data.colors[who];
    pen.fillRect(a, top + who * lane, Math.max(b - a, 0.7), lane - 2);
  }
}

function drawCursor(pen, at, height) {
  pen.fillStyle = color("--cursor");
  pen.fillRect(at - 0.75, 0, 1.5, height);
}

function drawCurves(t) {
  const [pen, width, height] = context(curves), [start, span] = view();
  const top = height - LANE * data.names.length - 20;
  const x = s => LEFT + (s - start) / span * (width - LEFT), y = c => top - 6 - (c - low) / (1 - low) * (top - 18);
  ticks(pen, start, span, x, width, height - 3);
  pen.strokeStyle = color("--line");
  for (let c = Math.ceil(low * 4) / 4; c <= 1; c += 0.25) {
    pen.beginPath(); pen.moveTo(LEFT, y(c)); pen.lineTo(width, y(c)); pen.stroke();
    pen.fillText(c.toFixed(2), 2, y(c) + 4);
  }
  const first = Math.max(0, firstAfter(start) - 1), last = Math.min(data.times.length, firstAfter(start + span) + 1);
  const step = Math.max(1, Math.floor((last - first) / width)); // no more points than columns
  pen.save();
  pen.beginPath(); pen.rect(LEFT, 0, width, height); pen.clip();
  data.cosines.forEach((curve, who) => {
    pen.strokeStyle = data.colors[who];
    pen.lineWidth = 1.6;
    pen.beginPath();
    for (let i = first; i < last; i += step) {
      const broken = i === first || data.times[i] - data.times[i - step] > data.gap * step;
      pen[broken ? "moveTo" : "lineTo"](x(data.times[i]), y(curve[i]));
    }
    pen.stroke();
    const c = cosineAt(curve, t); // a bead that runs along the curve
    if (c !== null) { pen.fillStyle = data.colors[who]; pen.beginPath(); pen.arc(x(t), y(c), 4, 0, 7); pen.fill(); }
  });
  pen.restore();
  drawTurns(pen, x, width, top, LANE);
  drawCursor(pen, x(t), height);
}

function drawWhole(t) {
  const [pen, width, height] = context(whole), [start, span] = view();
  const x = s => LEFT + s / data.seconds * (width - LEFT);
  pen.fillStyle = color("--raised");
  pen.fillRect(x(start), 0, x(start + span) - x(start), height - 16);
  drawTurns(pen, x, width, 2, LANE);
  ticks(pen, 0, data.seconds, x, width, height - 3);
  drawCursor(pen, x(t), height);
}

let shownTurn = -1;
function draw() {
  const t = audio.currentTime;
  drawCurves(t);
  drawWhole(t);
  const speaking = new Set();
  let current = -1;
  data.turns.forEach(([start, stop, who], i) => { if (start <= t && t < stop) { speaking.add(who); if (current < 0) current = i; } });
  rows.forEach((row, who) => {
    const c = who < data.cosines.length ? cosineAt(data.cosines[who], t) : null;
    row.line.className = speaking.has(who) ? "speaks" : "";
    row.fill.style.width = c === null ? 0 : 100 * Math.max(0, c) + "%";
    row.number.textContent = c === null ? "–" : c.toFixed(2);
  });
  if (current !== shownTurn) {
    if (shownTurn >= 0) items[shownTurn].item.className = "";
    if (current >= 0) {
      items[current].item.className = "now";
      const box = items[current].item; // scrolls the list, not the page
      if (box.offsetTop < list.scrollTop || box.offsetTop + box.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = box.offsetTop - list.clientHeight / 3;
    }
    shownTurn = current;
  }
  document.getElementById("clock").textContent = clock(Math.floor(t * 10) / 10, 1) + " of " + clock(data.seconds);
  document.getElementById("shown").textContent = clock(view()[1]);
  document.body.dataset.time = t.toFixed(2); // where the cursor is, for who reads the page by program
  document.body.dataset.speaks = [...speaking].map(who => data.names[who]).join(", ");
}

function animate() {
  draw();
  if (!audio.paused) requestAnimationFrame(animate);
}

function goTo(s) { audio.currentTime = Math.max(0, Math.min(s, data.seconds)); }

function neighbor(t, step) { // start of the next turn, or of the one before
  const starts = data.turns.map(turn => turn[0]).filter(start => step > 0 ? start > t + 0.05 : start < t - 0.3);
  return starts.length ? (step > 0 ? Math.min(...starts) : Math.max(...starts)) : step > 0 ? data.seconds : 0;
}

const keys = {
  " ": () => { if (audio.paused) audio.play(); else audio.pause(); },
  ArrowLeft: shift => goTo(shift ? neighbor(audio.currentTime, -1) : audio.currentTime - 5),
  ArrowRight: shift => goTo(shift ? neighbor(audio.currentTime, 1) : audio.currentTime + 5),
  Home: () => goTo(0),
  End: () => goTo(data.seconds),
};
document.addEventListener("keydown", event => {
  const busy = event.target.tagName === "INPUT" || (event.key === " " && event.target.tagName === "BUTTON");
  if (busy || event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key](event.shiftKey);
}, true);
curves.addEventListener("click", event => { const [start, span] = view(); goTo(start + span * (event.offsetX - LEFT) / (curves.clientWidth - LEFT)); });
whole.addEventListener("click", event => goTo(data.seconds * (event.offsetX - LEFT) / (whole.clientWidth - LEFT)));
for (const name of ["play", "seeked", "pause", "loadedmetadata"]) audio.addEventListener(name, animate);
zoom.addEventListener("input", draw);
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
zoom.value = 100 * Math.log(20 / SHORTEST) / Math.log(Math.max(data.seconds, 21) / SHORTEST); // 20 s in view
curves.setAttribute("data-height", 240 + LANE * data.names.length);
whole.setAttribute("data-height", 22 + LANE * data.names.length);
draw();
