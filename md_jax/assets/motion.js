"use strict";
// The player of motion.html. Data come from the page itself; nothing is fetched but with --live, from its own server.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const ICONS = {
  play: '<svg width="16" height="16" viewBox="0 0 16 16"><path d="M3 1.5v13l11-6.5z"/></svg>',
  pause: '<svg width="16" height="16" viewBox="0 0 16 16"><path d="M3 2h3.5v12H3zM9.5 2H13v12H9.500z"/></svg>',
  theme: '<svg width="18" height="18" viewBox="0 0 18 18"><path d="M9 1a8 8 0 1 0 0 16A8 8 0 0 0 9 1zm0 2v12A6 6 0 0 1 9 3z"/></svg>',
};
const GHOSTS = 6, GHOST_STEP = 0.1; // seconds between two of them
const SPACING = 1.35; // metres between two bodies

// --- numbers out of base64 ------------------------------------------------------------------------------------------

function numbers(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Kind(bytes.buffer);
}

function clipOf(packed) {
  return { ...packed, rotations: numbers(packed.rotations, Int16Array), path: numbers(packed.path, Float32Array) };
}

// --- the body ---------------------------------------------------------------------------------------------------------

function geometryOf(body) {
  const geometry = new THREE.BufferGeometry();
  const positions = Float32Array.from(numbers(body.positions, Int16Array), (x) => x * body.unit);
  // Colours are painted as screens show them; light is reckoned in linear values.
  const colors = Float32Array.from(numbers(body.colors, Uint8Array), (x) => Math.pow(x / 255, 2.2));
  geometry.setAttribute("position", new THREE.BufferAttribute(positions, 3));
  geometry.setAttribute("color", new THREE.BufferAttribute(colors, 3));
  geometry.setAttribute("skinIndex", new THREE.BufferAttribute(numbers(body.joints, Uint8Array), 4));
  geometry.setAttribute("skinWeight", new THREE.BufferAttribute(numbers(body.weights, Uint16Array), 4, true));
  geometry.setIndex(new THREE.BufferAttribute(numbers(body.triangles, Uint32Array), 1));
  geometry.computeVertexNormals();
  return geometry;
}

class Figure {
  constructor(geometry, material, body) {
    const bones = body.offsets.map((offset) => {
      const bone = new THREE.Bone();
      bone.position.set(...offset);
      return bone;
    });
    body.parents.forEach((parent, i) => parent >= 0 && bones[parent].add(bones[i]));
    this.mesh = new THREE.SkinnedMesh(geometry, material);
    this.mesh.add(bones[0]);
    this.mesh.updateMatrixWorld(true);
    this.mesh.bind(new THREE.Skeleton(bones));
    this.mesh.frustumCulled = false;
    this.bones = bones;
    this.pelvis = body.offsets[0];
  }

  pose(clip, seconds) {
    const at = Math.min(Math.max(seconds * clip.fps, 0), clip.frames - 1);
    const low = Math.floor(at), high = Math.min(low + 1, clip.frames - 1), share = at - low;
    const count = this.bones.length, from = new THREE.Quaternion(), to = new THREE.Quaternion();
    for (let j = 0; j < count; j++) {
      from.fromArray(clip.rotations, (low * count + j) * 4).normalize();
      to.fromArray(clip.rotations, (high * count + j) * 4).normalize();
      this.bones[j].quaternion.slerpQuaternions(from, to, share);
    }
    const mix = (axis) => clip.path[low * 3 + axis] * (1 - share) + clip.path[high * 3 + axis] * share;
    this.bones[0].position.set(this.pelvis[0] + mix(0), this.pelvis[1] + mix(1), this.pelvis[2] + mix(2));
  }
}

// --- the player ---------------------------------------------------------------------------------------------------------

// A square of lines on the floor, `half` metres each way. Its pieces are short: some drivers drop a line of which one end
// lies behind the camera.
function gridOf(half, step, color) {
  const points = [];
  for (let a = -half; a <= half; a += step)
    for (let b = -half; b < half; b += 2) points.push(a, 0, b, a, 0, b + 2, b, 0, a, b + 2, 0, a);
  const grid = new THREE.GridHelper(2, 1, color, color);
  grid.geometry = new THREE.BufferGeometry();
  grid.geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(points), 3));
  grid.material.vertexColors = false;
  grid.material.color.set(color);
  return grid;
}

class Player {
  constructor() {
    this.seconds = 0;
    this.playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.renderer = new THREE.WebGLRenderer({ canvas: $("canvas"), antialias: true, preserveDrawingBuffer: true });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.shadowMap.enabled = true;
    this.renderer.shadowMap.type = THREE.PCFShadowMap;
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(28, 1, 0.05, 200);
    this.orbit = new THREE.OrbitControls(this.camera, $("canvas"));
    this.orbit.enableDamping = true;
    this.orbit.maxPolarAngle = 0.53 * Math.PI;
    this.geometry = geometryOf(data.body);
    this.light();
    this.build();
    this.paint();
    this.look(35);
    new ResizeObserver(() => this.resize()).observe($("stage"));
    this.resize();
    this.last = performance.now();
    this.renderer.setAnimationLoop((now) => this.frame(now));
  }

  light() {
    this.scene.add(new THREE.HemisphereLight(0xffffff, 0x9aa3b5, 1.7));
    const sun = new THREE.DirectionalLight(0xffffff, 2.1);
    sun.castShadow = true;
    sun.shadow.mapSize.set(2048, 2048);
    sun.shadow.radius = 5;
    sun.shadow.bias = -0.0004;
    sun.shadow.normalBias = 0.02;
    this.sun = sun;
    this.scene.add(sun, sun.target);
    const back = new THREE.DirectionalLight(0xbfd2ff, 0.9);
    back.position.set(-3, 3, -5);
    this.scene.add(back);
    this.floor = new THREE.Mesh(new THREE.PlaneGeometry(160, 160), new THREE.ShadowMaterial({ opacity: 0.22, depthWrite: false }));
    this.floor.rotation.x = -Math.PI / 2;
    this.floor.receiveShadow = true;
    this.scene.add(this.floor);
  }

  // One figure a clip: alone, this run stands between its controls; several motions stand in rows.
  build() {
    (this.figures || []).forEach((each) => each.all.forEach((figure) => this.scene.remove(figure.mesh)));
    $("labels").textContent = "";
    const compare = $("compare").checked;
    const lone = data.motions.length === 1;
    const shown = lone
      ? data.motions[0].clips.slice(0, compare ? undefined : 1).map((clip, i) => ({ clip, label: clip.label, own: i === 0 }))
      : data.motions.map((motion, i) => ({ clip: motion.clips[0], label: `${i + 1}  ${motion.title}`, own: false }));
    const columns = lone ? shown.length : Math.ceil(Math.sqrt(shown.length));
    const order = lone && shown.length === 3 ? [1, 0, 2] : lone && shown.length === 2 ? [0, 1] : null;
    this.figures = shown.map((each, i) => {
      const place = order ? order[i] : i;
      const column = place % columns, row = Math.floor(place / columns);
      const inRow = Math.min(columns, shown.length - row * columns);
      const material = new THREE.MeshStandardMaterial({ vertexColors: true, roughness: 0.82, metalness: 0 });
      const figure = new Figure(this.geometry, material, data.body);
      figure.mesh.castShadow = true;
      const ghosts = Array.from({ length: GHOSTS }, (_, k) => {
        const ghost = new Figure(this.geometry, new THREE.MeshStandardMaterial({
          transparent: true, opacity: 0.34 * (1 - k / GHOSTS) + 0.05, depthWrite: false, roughness: 1,
        }), data.body);
        ghost.mesh.renderOrder = 1;
        return ghost;
      });
      if (lone && !each.own) { material.transparent = true; material.opacity = 0.78; }
      const label = document.createElement("span");
      label.textContent = each.label;
      label.className = each.own ? "own" : "";
      if (shown.length > 1) $("labels").append(label);
      const all = [figure, ...ghosts];
      all.forEach((one) => {
        one.mesh.position.set((column - (inRow - 1) / 2) * SPACING, 0, -row * SPACING * 1.1);
        this.scene.add(one.mesh);
      });
      return { clip: clipOf(each.clip), figure, ghosts, all, label };
    });
    this.length = Math.max(...this.figures.map(({ clip }) => (clip.frames - 1) / clip.fps));
    $("time").max = this.length;
    this.frameAll();
  }

  // What is to be seen: every body at every frame, with room around it.
  frameAll() {
    const low = new THREE.Vector3(Infinity, 0, Infinity), high = new THREE.Vector3(-Infinity, 1.75, -Infinity);
    for (const { clip, figure } of this.figures) {
      for (let f = 0; f < clip.frames; f++) {
        const x = figure.mesh.position.x + clip.path[3 * f], z = figure.mesh.position.z + clip.path[3 * f + 2];
        low.x = Math.min(low.x, x - 0.5); high.x = Math.max(high.x, x + 0.5);
        low.z = Math.min(low.z, z - 0.4); high.z = Math.max(high.z, z + 0.4);
        high.y = Math.max(high.y, figure.pelvis[1] + clip.path[3 * f + 1] + 0.85);
      }
    }
    this.box = { low, high, middle: low.clone().add(high).multiplyScalar(0.5) };
    this.box.middle.y = 0.88;
    const wide = high.clone().sub(low).length();
    this.sun.position.set(2.2, 6, 3.4).add(this.box.middle);
    this.sun.target.position.copy(this.box.middle);
    const half = Math.max(wide / 2, 1.6), camera = this.sun.shadow.camera;
    Object.assign(camera, { left: -half, right: half, top: half, bottom: -half, near: 0.5, far: 8 + 2 * half });
    camera.updateProjectionMatrix();
  }

  look(azimuth) {
    this.azimuth = azimuth;
    const angle = (azimuth * Math.PI) / 180, { low, high, middle } = this.box;
    const size = high.clone().sub(low);
    const across = Math.abs(Math.cos(angle)) * size.x + Math.abs(Math.sin(angle)) * size.z;
    const deep = Math.abs(Math.sin(angle)) * size.x + Math.abs(Math.cos(angle)) * size.z;
    const slope = Math.tan((this.camera.fov * Math.PI) / 360);
    const distance = Math.max((0.5 * 1.22 * size.y) / slope, (0.5 * 1.08 * across) / (slope * this.camera.aspect)) + deep / 2;
    const raised = this.figures.length > 3 ? 0.36 : 0.14;
    this.orbit.target.copy(middle);
    this.camera.position.set(
      middle.x + distance * Math.sin(angle) * Math.cos(raised), middle.y + distance * Math.sin(raised),
      middle.z + distance * Math.cos(angle) * Math.cos(raised),
    );
    this.orbit.update();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = $("stage");
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    if (!this.touched) this.look(this.azimuth);
  }

  paint() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => new THREE.Color(style.getPropertyValue(name).trim());
    this.scene.background = color("--stage");
    this.scene.fog = new THREE.Fog(this.scene.background, 9, 26);
    if (this.grid) this.scene.remove(this.grid);
    const dark = document.documentElement.dataset.theme === "dark";
    this.grid = gridOf(24, 0.5, dark ? 0x35415a : 0xb9c2d0);
    this.grid.position.y = 0.002;
    this.grid.visible = $("grid").checked;
    this.floor.material.opacity = dark ? 0.5 : 0.2;
    this.scene.add(this.grid);
    this.ghostColor = color("--ghost");
    this.figures.forEach(({ ghosts }) => ghosts.forEach((ghost) => ghost.mesh.material.color.copy(this.ghostColor)));
  }

  frame(now) {
    const passed = Math.min(Math.max(now - this.last, 0) / 1000, 0.1); // the first frame may be stamped before `last`
    this.last = now;
    if (this.playing) this.advance(passed * Number($("speed").value));
    const ghosts = $("ghosts").checked;
    for (const { clip, figure, ghosts: trail } of this.figures) {
      figure.pose(clip, this.seconds);
      trail.forEach((ghost, k) => {
        const then = this.seconds - (k + 1) * GHOST_STEP;
        ghost.mesh.visible = ghosts && then >= 0;
        if (ghost.mesh.visible) ghost.pose(clip, then);
      });
    }
    if (document.activeElement !== $("time") || this.playing) $("time").value = this.seconds;
    $("clock").textContent = `${this.seconds.toFixed(2)} of ${this.length.toFixed(2)} s`;
    this.orbit.update();
    this.renderer.render(this.scene, this.camera);
    this.name();
  }

  advance(seconds) {
    this.seconds += seconds;
    if (this.seconds <= this.length) return;
    if ($("loop").checked) this.seconds %= this.length || 1;
    else { this.seconds = this.length; this.setPlaying(false); }
  }

  // Labels above the heads.
  name() {
    const { clientWidth: width, clientHeight: height } = $("stage");
    for (const { figure, label } of this.figures) {
      const root = figure.bones[0].position;
      const head = new THREE.Vector3(root.x, root.y + 0.9, root.z).add(figure.mesh.position).project(this.camera);
      const x = ((head.x + 1) / 2) * width, y = ((1 - head.y) / 2) * height;
      label.style.transform = `translate(${x.toFixed(1)}px, ${Math.max(y, 24).toFixed(1)}px) translate(-50%, -100%)`;
      label.style.visibility = head.z < 1 ? "visible" : "hidden";
    }
  }

  setPlaying(playing) {
    this.playing = playing;
    $("play").innerHTML = playing ? ICONS.pause : ICONS.play;
  }
}

// --- around it ----------------------------------------------------------------------------------------------------------

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
  return section;
}

function svg(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.textContent = text;
  return made;
}

function curve(name, points) {
  const width = 300, height = 130, low = 18, high = 8;
  const last = points[points.length - 1][0], top = Math.max(...points.map(([, y]) => y)) || 1;
  const path = points.map(([x, y], i) =>
    `${i ? "L" : "M"}${((x / last) * width).toFixed(1)} ${(height - low - (y / top) * (height - low - high)).toFixed(1)}`);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${name} over the steps` });
  picture.append(
    svg("line", { class: "axis", x1: 0, x2: width, y1: height - low, y2: height - low }),
    svg("path", { class: "line", d: path.join("") }),
    svg("text", { x: 0, y: height - 4 }, "step 0"),
    svg("text", { x: width, y: height - 4, "text-anchor": "end" }, `${last}`),
    svg("text", { x: width, y: 12, "text-anchor": "end" }, `at most ${Number(top.toPrecision(3))}`),
  );
  const figure = element("figure");
  figure.append(element("figcaption", name), picture);
  return figure;
}

function around() {
  for (const [name, value] of Object.entries(data.facts || {})) $("facts").append(element("span", `${name} ${value}`));
  if (data.left_out) $("facts").append(element("span", `${data.left_out} more motions are not shown`));
  const curves = Object.entries(data.curves || {});
  if (curves.length) {
    const all = element("div", "", { class: "curves" });
    all.append(...curves.map(([name, points]) => curve(name, points)));
    card("While it was made", all);
  }
  const previews = Object.entries(data.previews || {});
  if (previews.length) {
    card("On the way", ...previews.map(([caption, source]) => {
      const figure = element("figure");
      figure.append(element("img", "", { src: source, alt: `the motion at ${caption}`, loading: "lazy" }));
      return figure;
    }));
  }
  if (data.command) {
    const copy = element("button", "copy", { type: "button" });
    copy.onclick = () => navigator.clipboard?.writeText(data.command).then(() => { copy.textContent = "copied"; });
    const row = element("div", "", { class: "row" });
    row.append(copy, ...(data.files || []).map((file) => element("a", file, { href: encodeURI(file) })));
    card("Make it again", element("pre", data.command), row).classList.add("wide");
  }
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
  $("compare").onchange = () => { player.build(); player.paint(); player.touched = false; player.look(player.azimuth); };
  document.querySelectorAll("#views button").forEach((button) => {
    button.onclick = () => { player.touched = false; player.look(Number(button.dataset.view)); };
  });
  player.orbit.addEventListener("start", () => { player.touched = true; });
  addEventListener("keydown", (event) => {
    if (/INPUT|SELECT|BUTTON|TEXTAREA|A/.test(event.target.tagName) && event.target.id !== "canvas") return;
    if (event.key === " ") { event.preventDefault(); $("play").click(); }
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      player.setPlaying(false);
      player.seconds = Math.min(Math.max(player.seconds + step / player.figures[0].clip.fps, 0), player.length);
    }
  });
}

// With --live: the poses of the run as they are now.
async function follow(player) {
  try {
    const answer = await fetch("live.json", { cache: "no-store" });
    if (answer.ok) {
      const fresh = await answer.json();
      if (fresh.version !== data.version) {
        Object.assign(data, fresh);
        player.build();
        player.paint();
        $("facts").textContent = "";
        $("more").textContent = "";
        around();
      }
      if (fresh.done) return;
    }
  } catch { /* the server has gone: what is there stays */ return; }
  setTimeout(() => follow(player), 1500);
}

$("theme").innerHTML = ICONS.theme;
$("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
$("compare").checked = innerWidth > 640;
$("compare-choice").hidden = data.motions.length > 1 || data.motions[0].clips.length < 2;
if ($("compare-choice").hidden) $("compare-choice").style.display = "none";
around();
try {
  window.player = new Player();
  connect(window.player);
  if (data.live) follow(window.player);
} catch (error) {
  $("trouble").hidden = false;
  $("trouble").textContent = "This browser shows no three-dimensional pictures (WebGL is off). motion.mp4 shows the same.";
  console.warn(String(error));
}
