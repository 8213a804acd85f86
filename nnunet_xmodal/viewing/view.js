// Panels of NiiVue's widget, one instance each, which move together.
"use strict";

const bytesOf = (id) => Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));

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

function optionsOf(flat) {
  return {
    backColor: [0, 0, 0, 1], crosshairColor: [0.35, 0.85, 0.9, 0.6], crosshairWidth: 0.6, isColorbar: false,
    dragMode: 3, // the right button moves, the wheel goes through slices
    sliceType: flat ? 0 : 3, multiplanarShowRender: 0, show3Dcrosshair: true, isRadiologicalConvention: true,
    loadingText: "", isResizeCanvas: true, limitFrames4D: NONE, isCornerOrientationText: true,
    isNearestInterpolation: true, dragAndDropEnabled: false,
  };
}

function layerOf(layer, id) {
  const bytes = bytesOf(layer.data);
  const colours = layer.colours && {
    lut: Array.from(layer.colours.rgba), labels: layer.colours.names, min: 0, max: layer.colours.names.length - 1,
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

  // one has moved: the others follow, and each tells the values under the cross
  function heard(from, { event, data }) {
    if (event === "location_change") {
      from.told.textContent = data.values.map((value) => shown(value, from)).join(" ");
      where.textContent = `${data.mm.slice(0, 3).map((mm) => mm.toFixed(1)).join(", ")} mm`;
    }
    const scene = event === "location_change" ? { crosshairPos: data.frac } : event === "scene" ? data : null;
    if (!scene || leader) return;
    leader = from;
    for (const other of panels.filter((panel) => panel !== from)) {
      other.model.set("scene", scene);
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

  for (const [index, { title, layers }] of page.panels.entries()) {
    const figure = document.querySelector(`[data-panel="${index}"]`);
    const panel = { told: figure.querySelector("output"), layers };
    const ids = layers.map((_, number) => `${index}_${number}`);
    layers.forEach((layer, number) => models.set(ids[number], new Model(layerOf(layer, ids[number]), models, () => {})));
    const values = {
      ...OF_A_PANEL, volumes: ids.map((id) => `IPY_MODEL_${id}`), opts: optionsOf(page.flat), this_model_id: `p${index}`,
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
  }
  document.body.dataset.shown = panels.length;
}

show().catch((error) => {
  document.getElementById("fault").textContent = `This page could not be drawn (${error.message}).`;
  throw error;
});
