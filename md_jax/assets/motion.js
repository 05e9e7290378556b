"use strict";
// The page around the player. Data come from the page itself; nothing is fetched but with --live, from its own server.

const POLL = 1500; // milliseconds between two questions

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  return made;
}

function card(title, ...content) {
  const section = element("section", "", { class: "card" });
  section.append(element("h2", title), ...content);
  $("more").append(section);
}

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  return made;
}

function curve(name, points) {
  const width = 300, height = 110, room = 3;
  const last = points[points.length - 1][0], top = Math.max(...points.map(([, y]) => y)) || 1;
  const path = points.map(([x, y], i) =>
    `${i ? "L" : "M"}${((x / last) * width).toFixed(1)} ${(room + (1 - y / top) * (height - 2 * room)).toFixed(1)}`);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${name} over the steps` });
  picture.append(
    svg("line", { class: "axis", x1: 0, x2: width, y1: height - 1, y2: height - 1 }),
    svg("path", { class: "line", d: path.join("") }),
  );
  const line = (...texts) => {
    const made = element("figcaption", "", { class: "ends" });
    made.append(...texts.map((text) => element("span", text)));
    return made;
  };
  const figure = element("figure");
  figure.append(line(name, `at most ${Number(top.toPrecision(3))}`), picture, line("step 0", `${last}`));
  return figure;
}

function facts() {
  $("facts").textContent = "";
  for (const [name, value] of Object.entries(data.facts || {})) $("facts").append(element("span", `${name} ${value}`));
  if (data.left_out) $("facts").append(element("span", `${data.left_out} more motions are not shown`));
}

function cards() {
  $("more").textContent = "";
  const curves = Object.entries(data.curves || {});
  if (curves.length) {
    const all = element("div", "", { class: "curves" });
    all.append(...curves.map(([name, points]) => curve(name, points)));
    card("While it was made", all);
  }
  const previews = Object.entries(data.previews || {});
  if (previews.length) {
    const all = element("div", "", { class: "previews" });
    all.append(...previews.map(([caption, source]) => {
      const figure = element("figure");
      figure.append(element("figcaption", caption));
      figure.append(element("img", "", { src: source, alt: `the motion at ${caption}` }));
      return figure;
    }));
    card("On the way", all);
  }
  if (data.command) {
    const copy = element("button", "copy", { type: "button" }), text = element("pre", data.command);
    copy.onclick = () => {
      const select = () => getSelection().selectAllChildren(text); // where a page may not write to the clipboard
      if (!navigator.clipboard) select();
      else navigator.clipboard.writeText(data.command).then(() => { copy.textContent = "copied"; }, select);
    };
    const row = element("div", "", { class: "row" });
    row.append(copy, ...(data.files || []).map((file) => element("a", file, { href: encodeURI(file) })));
    card("Make it again", text, row);
  }
}

// The views after the body's sides, or after the cameras where it turns.
function name(player) {
  document.querySelectorAll("#views button").forEach((button) => {
    button.textContent = player.turns && button.dataset.side ? `${button.dataset.view}°` : button.dataset.side || "slanted";
  });
}

// Which motions stand there, and the way to the others.
function where(player) {
  const count = data.motions.length, lone = player.alone !== null;
  const motion = lone ? data.motions[player.alone] : null;
  $("where").hidden = count === 1;
  $("all").hidden = !lone;
  $("all").textContent = `‹ all ${count}`;
  $("open").hidden = !lone || !motion.page;
  if (lone && motion.page) $("open").href = encodeURI(motion.page);
  $("sentence").textContent = lone ? [motion.note, motion.title].filter(Boolean).join("  ") : "";
  $("earlier").hidden = $("later").hidden = lone || count <= PER_PAGE;
  $("range").textContent = lone ? "" : count <= PER_PAGE ? `all ${count}; click one to enlarge it`
    : `${player.first + 1}–${Math.min(player.first + PER_PAGE, count)} of ${count}`;
  $("earlier").disabled = player.first === 0;
  $("later").disabled = player.first + PER_PAGE >= count;
  const clips = lone ? motion.clips.length : 1;
  $("compare-choice").hidden = clips < 2;
}

function go(player, alone, first) {
  player.alone = alone;
  player.first = first;
  player.touched = false;
  player.build();
  player.paint();
  player.look(player.azimuth);
  name(player);
  where(player);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  if (window.player) window.player.paint();
}

function connect(player) {
  player.setPlaying(player.playing);
  $("play").onclick = () => {
    if (!player.playing && player.seconds >= player.length) player.seconds = 0;
    player.setPlaying(!player.playing);
  };
  $("time").oninput = () => { player.setPlaying(false); player.seconds = Number($("time").value); };
  $("grid").onchange = () => { player.grid.visible = $("grid").checked; };
  $("compare").onchange = () => go(player, player.alone, player.first);
  $("all").onclick = () => go(player, null, player.first);
  $("earlier").onclick = () => go(player, null, Math.max(player.first - PER_PAGE, 0));
  $("later").onclick = () => go(player, null, player.first + PER_PAGE);
  let pressed = null; // a press that stays where it is chooses a body; one that moves turns the camera
  $("canvas").addEventListener("pointerdown", (event) => { pressed = [event.offsetX, event.offsetY]; });
  $("canvas").addEventListener("pointerup", (event) => {
    if (!pressed || player.alone !== null || Math.hypot(event.offsetX - pressed[0], event.offsetY - pressed[1]) > 6) return;
    const motion = player.at(event.offsetX, event.offsetY);
    if (motion >= 0) player.onpick(motion);
  });
  document.querySelectorAll("#views button").forEach((button) => {
    button.onclick = () => { player.touched = false; player.look(Number(button.dataset.view)); };
  });
  player.orbit.addEventListener("start", () => { player.touched = true; });
  addEventListener("keydown", (event) => {
    if (/INPUT|SELECT|BUTTON|TEXTAREA|A/.test(event.target.tagName) && event.target.id !== "canvas") return;
    if (event.key === "Escape" && player.alone !== null && data.motions.length > 1) $("all").click();
    if (event.key === " ") { event.preventDefault(); $("play").click(); }
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      player.setPlaying(false);
      player.seconds = Math.min(Math.max(player.seconds + step / player.figures[0].clip.fps, 0), player.length);
    }
  });
}

// --- a run that is going on (--live) -------------------------------------------------------------------------------

function status(text, state) {
  $("status").hidden = false;
  $("status").className = state;
  $("status").firstElementChild.textContent = text;
  $("finished").hidden = !data.finished;
  if (data.finished) $("finished").href = data.finished;
}

function look(player, fresh) {
  const changed = JSON.stringify([fresh.curves, fresh.previews]) !== JSON.stringify([data.curves, data.previews]);
  Object.assign(data, fresh);
  if (fresh.motions) { player.load(); name(player); }
  if (changed) cards();
  status(fresh.status, fresh.going_on ? "going" : "ended");
}

async function follow(player) {
  try {
    const answer = await fetch(`live.json?step=${data.step}`, { cache: "no-store" });
    if (answer.ok) look(player, await answer.json());
    else status(await answer.text(), "ended");
  } catch {
    status("the viewer was stopped; what it showed last stays", "ended");
    return;
  }
  if (data.going_on) setTimeout(() => follow(player), POLL);
}

// ------------------------------------------------------------------------------------------------------------------------

$("theme").innerHTML = ICONS.theme;
$("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
$("compare").checked = innerWidth > 640;
facts();
cards();
try {
  const player = window.player = new Player((motion) => go(player, motion, player.first));
  connect(player);
  name(player);
  where(player);
  if (data.live) {
    status(data.status, data.going_on ? "going" : "ended");
    if (data.going_on) follow(player);
  }
} catch (error) {
  $("trouble").hidden = false;
  $("trouble").textContent = "This browser shows no three-dimensional pictures (WebGL is off). motion.mp4 shows the same.";
  console.warn(String(error));
}
