// Panels of NiiVue's widget, one instance each, which move together.
"use strict";

const decoded = new Map(); // of volumes that several panels show

function bytesOf(id) {
  if (!decoded.has(id)) {
    const element = document.getElementById(id);
    const text = atob(element.textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    element.textContent = "";
    decoded.set(id, bytes);
  }
  return decoded.get(id);
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

// What a notebook would keep in Python: values, and who wants to know when they change.
class Model {
  constructor(values, models, hear) {
    this.values = values;
    this.listeners = [];
    this.hear = hear;
    this.widget_manager = { get_model: async (id) => models.get(id) };
  }
  get(name) { return this.values[name]; }
  set(name, value) { this.values[name] = value; }
  save_changes() {}
  on(event, listener) { this.listeners.push([event, listener]); }
  off(event) { this.listeners = this.listeners.filter(([name]) => name !== event); }
  emit(event, ...what) { this.listeners.filter(([name]) => name === event).forEach(([, listener]) => listener(...what)); }
  send(message) { this.hear(message); }
  // what the widget has changed itself, voxels included, which nobody here asks for
  send_sync_message(values) { if (values.scene) this.hear({ event: "scene", data: values.scene }); }
}

const NONE = Number.NaN;
const OF_A_LAYER = {
  url: "", paired_img_path: { name: "" }, paired_img_url: "", paired_img_data: null, data: null,
  cal_min_neg: NONE, cal_max_neg: NONE, colorbar_visible: false, frame_4d: 0, colormap_negative: "",
  colormap_type: 0, colormap_invert: false, modulation_image: null, modulate_alpha: 0,
};
const OF_A_PANEL = {
  meshes: [], background_masks_overlays: 0, draw_lut: null, draw_opacity: 0, draw_fill_overwrites: true, graph: null,
  scene: null, overlay_outline_width: 0, overlay_alpha_shader: 1,
};

const AXIAL = 0, ALL_PLANES = 3;

function optionsOf(flat) {
  return {
    backColor: [0, 0, 0, 1], crosshairColor: [0.35, 0.85, 0.9, 0.6], crosshairWidth: 0.6, isColorbar: false,
    dragMode: 1, // a box of the right button sets the contrast, and the wheel goes through slices
    sliceType: flat ? AXIAL : ALL_PLANES, multiplanarShowRender: 0, show3Dcrosshair: true, isRadiologicalConvention: true,
    loadingText: "", isResizeCanvas: true, limitFrames4D: NONE, isCornerOrientationText: true,
    isNearestInterpolation: true, dragAndDropEnabled: false,
  };
}

// M maps fractions of a volume's sides to millimetres of the patient; it is stored by columns
const millimetresOf = (f, M) => [0, 1, 2].map((i) => M[i] * f[0] + M[4 + i] * f[1] + M[8 + i] * f[2] + M[12 + i]);

function fractionOf(mm, M) {
  const [a, b, c] = [0, 4, 8].map((i) => [M[i], M[i + 1], M[i + 2]]);
  const d = mm.map((value, i) => value - M[12 + i]);
  const cross = (u, v) => [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
  const volume = dot(a, cross(b, c));
  const inside = [dot(d, cross(b, c)), dot(a, cross(d, c)), dot(a, cross(b, d))].map((part) => part / volume);
  return inside.map((part) => Math.min(1, Math.max(0, part)));
}

function layerOf(layer, id) {
  const bytes = bytesOf(layer.data);
  const names = layer.colours && layer.colours.names;
  // NiiVue looks colours up between neighbours, and of many the background would get a part of the first
  const before = names && Math.ceil(names.length / 100);
  const colours = names && {
    lut: [...Array(4 * before).fill(0), ...layer.colours.rgba], labels: names, min: -before, max: names.length - 1,
  };
  return {
    ...OF_A_LAYER, id, name: `${id}.nii.gz`, path: { name: `${id}.nii.gz`, data: bytes }, opacity: layer.opacity,
    colormap: layer.colormap, cal_min: layer.window[0], cal_max: layer.window[1], colormap_label: colours || null,
  };
}

async function show() {
  const page = JSON.parse(document.getElementById("panels").textContent);
  const source = await inflated(bytesOf("niivue"));
  const models = new Map();
  const panels = [];
  const where = document.getElementById("where");

  let leader = null;
  const first = (panel) => models.get(`${panels.indexOf(panel)}_0`).get("frac2mm"); // of the lowest volume, by columns

  // one has moved: the others follow, and each tells the values under the cross
  function heard(from, { event, data }) {
    if (event === "location_change") {
      from.told.textContent = data.values.map((value) => shown(value, from)).join(" ");
      if (!leader) where.textContent = `${data.mm.slice(0, 3).map((mm) => mm.toFixed(1)).join(", ")} mm`;
    }
    const scene = event === "location_change" ? { crosshairPos: data.frac } : event === "scene" ? data : null;
    if (!scene || leader || !first(from)) return;
    leader = from;
    for (const other of panels.filter((panel) => panel !== from && first(panel))) { // others are still being read
      const place = scene.crosshairPos && fractionOf(millimetresOf(scene.crosshairPos, first(from)), first(other));
      other.model.set("scene", place ? { ...scene, crosshairPos: place } : scene);
      other.model.emit("change:scene");
      // by nothing: it draws, and tells where it is
      other.model.emit("msg:custom", { type: "move_crosshair_in_vox", data: [0, 0, 0] }, []);
    }
    leader = null;
  }

  function shown({ id, value }, panel) {
    const layer = panel.layers[Number(id.split("_")[1])];
    const name = layer && layer.colours && layer.colours.names[Math.round(value)];
    return name || (Number.isInteger(value) ? String(value) : value.toPrecision(4));
  }

  for (const [index, { flat, layers }] of page.panels.entries()) {
    const figure = document.querySelector(`[data-panel="${index}"]`);
    const panel = { told: figure.querySelector("output"), layers };
    const ids = layers.map((_, number) => `${index}_${number}`);
    layers.forEach((layer, number) => models.set(ids[number], new Model(layerOf(layer, ids[number]), models, () => {})));
    const values = {
      ...OF_A_PANEL, volumes: ids.map((id) => `IPY_MODEL_${id}`), opts: optionsOf(flat), this_model_id: `p${index}`,
      height: page.height,
    };
    panel.model = new Model(values, models, (message) => heard(panel, message));
    models.set(`p${index}`, panel.model);
    panels.push(panel);
    // a module holds one instance of NiiVue, so each panel has a module of its own
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const { default: instance } = await import(address);
    URL.revokeObjectURL(address);
    await instance.initialize({ model: panel.model });
    await instance.render({ model: panel.model, el: figure.querySelector("div") });
    ids.forEach((id) => models.get(id).set("path", { name: "" }));
  }
  decoded.clear();
  document.body.dataset.shown = panels.length;
}

show().catch((error) => {
  document.getElementById("fault").textContent = `This page could not be drawn (${error.message}).`;
  throw error;
});
