"use strict";
// Bodies on a floor: three.js figures that the page's data move. Nothing here knows the rest of the page.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const ICONS = {
  play: '<svg width="16" height="16" viewBox="0 0 16 16"><path d="M3 1.5v13l11-6.5z"/></svg>',
  pause: '<svg width="16" height="16" viewBox="0 0 16 16"><path d="M3 2h3.5v12H3zM9.5 2H13v12H9.500z"/></svg>',
  theme: '<svg width="18" height="18" viewBox="0 0 18 18"><path d="M9 1a8 8 0 1 0 0 16A8 8 0 0 0 9 1zm0 2v12A6 6 0 0 1 9 3z"/></svg>',
};
const GHOSTS = 6, GHOST_STEP = 0.1; // seconds between two of them
const SPACING = 1.35, ROW = 2.4; // metres between two bodies beside, and behind each other
const PER_PAGE = innerWidth > 640 ? 25 : 9; // bodies that move at once
const TRAVELS = 0.6; // metres over the floor from which on a body would leave its place among others

// --- numbers out of base64 ------------------------------------------------------------------------------------------

function numbers(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Kind(bytes.buffer);
}

function clipOf(packed) {
  const path = numbers(packed.path, Float32Array);
  const across = (axis) => {
    let low = Infinity, high = -Infinity;
    for (let f = axis; f < path.length; f += 3) { low = Math.min(low, path[f]); high = Math.max(high, path[f]); }
    return high - low;
  };
  return { ...packed, rotations: numbers(packed.rotations, Int16Array), path, travel: Math.hypot(across(0), across(2)) };
}

// Whether a body's front or left leaves the camera there by more than 60 degrees: no side of it keeps its name then.
function turns(clip) {
  for (let f = 0; f < clip.frames; f++) {
    const squares = [0, 1, 2].map((axis) => (clip.rotations[f * 55 * 4 + axis] / 32767) ** 2);
    if (2 * (squares[1] + squares[2]) > 0.5 || 2 * (squares[0] + squares[1]) > 0.5) return true;
  }
  return false;
}

// A copy of a clip that stays above the place where it starts.
function inPlace(clip) {
  const path = clip.path.map((value, i) => (i % 3 === 1 ? value : clip.path[i % 3]));
  return { ...clip, path };
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
  constructor(geometry, material, body, at) {
    const bones = body.offsets.map((offset) => {
      const bone = new THREE.Bone();
      bone.position.set(...offset);
      return bone;
    });
    body.parents.forEach((parent, i) => parent >= 0 && bones[parent].add(bones[i]));
    this.mesh = new THREE.SkinnedMesh(geometry, material);
    this.mesh.position.copy(at);
    this.mesh.add(bones[0]);
    this.mesh.updateMatrixWorld(true);
    this.mesh.bind(new THREE.Skeleton(bones));
    this.mesh.frustumCulled = false;
    this.bones = bones;
    this.pelvis = body.offsets[0];
  }

  remove(scene) {
    scene.remove(this.mesh);
    this.mesh.skeleton.dispose();
    this.mesh.material.dispose();
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
  constructor(onpick) {
    this.onpick = onpick; // called with the number of a motion that somebody chose
    this.alone = data.motions.length === 1 ? 0 : null; // the motion that stands alone
    this.first = 0; // of those that stand there together
    this.azimuth = data.motions.length > 3 ? 20 : 35;
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
    this.resize();
    this.build();
    this.paint();
    this.look(this.azimuth);
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

  // What stands on the floor: one motion between its controls, or as many of them as a page moves at once.
  shown() {
    if (this.alone !== null) {
      const count = $("compare").checked ? undefined : 1;
      return data.motions[this.alone].clips.slice(0, count)
        .map((clip, i) => ({ motion: this.alone, number: i, text: clip.label, own: i === 0 }));
    }
    return data.motions.slice(this.first, this.first + PER_PAGE)
      .map(({ title, note }, i) => ({ motion: this.first + i, number: 0, text: `${note || this.first + i + 1}  ${title}` }));
  }

  build() {
    (this.figures || []).forEach((each) => each.all().forEach((figure) => figure.remove(this.scene)));
    $("labels").textContent = "";
    const shown = this.shown(), lone = this.alone !== null;
    const wide = Math.round(Math.sqrt(shown.length * Math.min(Math.max(this.camera.aspect, 0.6), 2.2)));
    const columns = lone ? shown.length : Math.max(1, Math.min(wide, shown.length));
    this.rows = Math.ceil(shown.length / columns);
    const order = lone && shown.length === 3 ? [1, 0, 2] : null;
    this.figures = shown.map((each, i) => {
      const place = order ? order[i] : i;
      const column = place % columns, row = Math.floor(place / columns);
      const inRow = Math.min(columns, shown.length - row * columns);
      const material = new THREE.MeshStandardMaterial({ vertexColors: true, roughness: 0.82, metalness: 0 });
      if (lone && !each.own) { material.transparent = true; material.opacity = 0.78; }
      const at = new THREE.Vector3((column - (inRow - 1) / 2) * SPACING, 0, -row * ROW);
      const figure = new Figure(this.geometry, material, data.body, at);
      figure.mesh.castShadow = true;
      this.scene.add(figure.mesh);
      const label = document.createElement(lone ? "span" : "button");
      label.textContent = each.text;
      label.title = each.text;
      label.className = each.own ? "own" : "";
      if (!lone) label.onclick = () => this.onpick(each.motion);
      if (shown.length > 1) $("labels").append(label);
      const made = { ...each, figure, label, ghosts: [], all: () => [figure, ...made.ghosts] };
      return made;
    });
    this.load();
    this.frameAll();
  }

  // Clips of the bodies that stand there, from the data as they are now.
  load() {
    const clips = this.figures.map(({ motion, number }) => clipOf(data.motions[motion].clips[number]));
    const travels = clips.some((clip) => clip.travel > TRAVELS);
    this.follows = travels && this.alone !== null ? this.figures[0].figure : null;
    this.figures.forEach((each, i) => { each.clip = travels && this.alone === null ? inPlace(clips[i]) : clips[i]; });
    this.turns = clips.some(turns);
    this.length = Math.max(...clips.map((clip) => (clip.frames - 1) / clip.fps));
    this.seconds = Math.min(this.seconds, this.length);
    $("time").max = this.length;
  }

  // Ghosts are made when they are first asked for: a page of many bodies has none to spare.
  trail(each) {
    while (each.ghosts.length < GHOSTS) {
      const ghost = new Figure(this.geometry, new THREE.MeshStandardMaterial({
        transparent: true, opacity: 0.34 * (1 - each.ghosts.length / GHOSTS) + 0.05, depthWrite: false, roughness: 1,
        color: this.ghostColor,
      }), data.body, each.figure.mesh.position);
      ghost.mesh.renderOrder = 1;
      this.scene.add(ghost.mesh);
      each.ghosts.push(ghost);
    }
    return each.ghosts;
  }

  // What is to be seen: every body at every frame, as a camera sees it that follows, with room around it.
  frameAll() {
    const low = new THREE.Vector3(Infinity, 0, Infinity), high = new THREE.Vector3(-Infinity, 1.75, -Infinity);
    for (const each of this.figures) {
      const { figure, clip } = each, { path, frames } = this.figures[0].clip;
      for (let f = 0; f < clip.frames; f++) {
        const gone = (axis) => (this.follows ? path[3 * Math.min(f, frames - 1) + axis] - path[axis] : 0);
        const x = figure.mesh.position.x + clip.path[3 * f] - gone(0);
        const z = figure.mesh.position.z + clip.path[3 * f + 2] - gone(2);
        low.x = Math.min(low.x, x - 0.5); high.x = Math.max(high.x, x + 0.5);
        low.z = Math.min(low.z, z - 0.4); high.z = Math.max(high.z, z + 0.4);
        high.y = Math.max(high.y, figure.pelvis[1] + clip.path[3 * f + 1] + 0.85);
      }
    }
    this.box = { low, high, middle: low.clone().add(high).multiplyScalar(0.5) };
    const wide = high.clone().sub(low).length();
    this.sunAt = new THREE.Vector3(2.2, 6, 3.4).add(this.box.middle);
    const half = Math.max(wide / 2, 1.6), camera = this.sun.shadow.camera;
    Object.assign(camera, { left: -half, right: half, top: half, bottom: -half, near: 0.5, far: 8 + 2 * half });
    camera.updateProjectionMatrix();
  }

  look(azimuth) {
    this.azimuth = azimuth;
    const angle = (azimuth * Math.PI) / 180, { low, high, middle } = this.box;
    const size = high.clone().sub(low);
    const raised = this.rows > 1 ? 0.62 : 0.14;
    // so far away that every corner of the box lies in the picture
    const to = new THREE.Vector3(Math.sin(angle) * Math.cos(raised), Math.sin(raised), Math.cos(angle) * Math.cos(raised));
    const right = new THREE.Vector3(Math.cos(angle), 0, -Math.sin(angle)), up = to.clone().cross(right);
    const slope = Math.tan((this.camera.fov * Math.PI) / 360);
    let distance = 0;
    for (let corner = 0; corner < 8; corner++) {
      const at = new THREE.Vector3(...["x", "y", "z"].map((axis, i) => (corner & (1 << i) ? high : low)[axis])).sub(middle);
      const aside = Math.abs(at.dot(right)) / (slope * this.camera.aspect), above = Math.abs(at.dot(up)) / slope;
      distance = Math.max(distance, at.dot(to) + 1.12 * Math.max(aside, above));
    }
    this.followed = new THREE.Vector3();
    this.orbit.target.copy(middle);
    this.camera.position.copy(middle).addScaledVector(to, distance);
    this.sun.position.copy(this.sunAt);
    this.sun.target.position.copy(middle);
    this.orbit.update();
  }

  // A body that travels takes camera and light along; its controls stay behind, or run ahead.
  follow() {
    if (!this.follows) return;
    const { clip } = this.figures[0], now = this.follows.bones[0].position;
    const moved = new THREE.Vector3(now.x - this.follows.pelvis[0] - clip.path[0], 0, now.z - this.follows.pelvis[2] - clip.path[2]);
    const by = moved.clone().sub(this.followed);
    [this.camera.position, this.orbit.target, this.sun.position, this.sun.target.position].forEach((place) => place.add(by));
    this.followed = moved;
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = $("stage");
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    if (!this.touched && this.box) this.look(this.azimuth);
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
    for (const each of this.figures) {
      each.figure.pose(each.clip, this.seconds);
      (ghosts ? this.trail(each) : each.ghosts).forEach((ghost, k) => {
        const then = this.seconds - (k + 1) * GHOST_STEP;
        ghost.mesh.visible = ghosts && then >= 0;
        if (ghost.mesh.visible) ghost.pose(each.clip, then);
      });
    }
    this.follow();
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

  // Labels above the heads, the own motion's first; one that would cover another goes above it.
  name() {
    const { clientWidth: width, clientHeight: height } = $("stage");
    const taken = [];
    for (const { figure, label } of this.figures) {
      const root = figure.bones[0].position;
      const head = new THREE.Vector3(root.x, root.y + 0.9, root.z).add(figure.mesh.position).project(this.camera);
      const wide = label.offsetWidth + 4, high = label.offsetHeight + 4, left = ((head.x + 1) / 2) * width - wide / 2;
      let low = Math.max(((1 - head.y) / 2) * height, high);
      const under = (other) => left < other.left + other.wide && other.left < left + wide
        && low > other.low - other.high && low - high < other.low;
      for (let other; (other = taken.find(under));) low = other.low - other.high;
      taken.push({ left, low, wide, high });
      label.style.transform = `translate(${(left + 2).toFixed(1)}px, ${(low - high + 2).toFixed(1)}px)`;
      label.style.visibility = head.z < 1 ? "visible" : "hidden";
    }
  }

  // The motion whose body stands at a place of the picture (pixels); -1: none.
  at(x, y) {
    const { clientWidth: width, clientHeight: height } = $("stage");
    let best = -1, nearest = Infinity;
    for (const { figure, motion } of this.figures) {
      const root = figure.bones[0].position.clone().add(figure.mesh.position);
      const seen = (up) => {
        const point = root.clone().add(new THREE.Vector3(0, up, 0)).project(this.camera);
        return { x: ((point.x + 1) / 2) * width, y: ((1 - point.y) / 2) * height };
      };
      const middle = seen(0), tall = Math.abs(seen(0.9).y - seen(-0.9).y) / 2;
      const away = Math.hypot(2 * (x - middle.x), y - middle.y) / Math.max(tall, 1);
      if (away < 1.1 && away < nearest) { nearest = away; best = motion; }
    }
    return best;
  }

  setPlaying(playing) {
    this.playing = playing;
    $("play").innerHTML = playing ? ICONS.pause : ICONS.play;
  }
}
