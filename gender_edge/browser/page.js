// The page around classifier.js: pictures and the camera in, answers out. Keeps no picture.

import { Classifier, pixelsOf } from "./classifier.js";

const CENTRAL = 0.7; // side of the camera's square in its shorter side; page.css shows the same
const PAUSE = 150; // ms between answers for the camera

const byId = (id) => document.getElementById(id);
const [status, inputs, answers] = ["status", "inputs", "answers"].map(byId);
const [clear, model] = ["clear", "model"].map(byId);
const [drop, files] = ["drop", "files"].map(byId);
const [toggle, viewer, video, live, hint] = ["toggle", "viewer", "video", "live", "hint"].map(byId);

/** Cut and classify one picture; `ms` is the time of both. */
async function answer(classifier, pixels) {
  const begin = performance.now();
  const crop = classifier.crop(pixels);
  const [prediction] = await classifier.predict([crop]);
  return { ...prediction, crop, ms: performance.now() - begin };
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** A card: what the network saw, and what it said. */
function card(classifier, name, found) {
  const whole = element("article", "answer");
  const text = element("div", "");
  const label = element("p", found.label ? "label" : "label unsure", found.label ?? "not sure");
  const meter = element("meter", "");
  meter.value = found.female;
  meter.setAttribute("aria-label", "P(female)");
  const figures = element("p", "figures");
  figures.append(
    element("span", "", `P(female) ${found.female.toFixed(3)}`),
    element("span", "", `${found.ms.toFixed(1)} ms`),
  );
  text.append(label, meter, figures, element("p", "name", name));
  whole.append(seen(classifier.spec, found.crop), text);
  whole.title = name;
  return whole;
}

function failed(name, error) {
  const whole = element("article", "answer");
  const text = element("div", "");
  text.append(element("p", "error", error.message), element("p", "name", name));
  whole.append(text);
  return whole;
}

/** The network's own picture of the face. */
function seen({ input_size: size, color_order: order }, crop) {
  const canvas = element("canvas", "");
  canvas.width = canvas.height = size;
  canvas.setAttribute("aria-label", "what the network sees");
  const image = new ImageData(size, size);
  const channels = order === "bgr" ? [2, 1, 0] : [0, 1, 2];
  for (let pixel = 0; pixel < size * size; pixel++) {
    channels.forEach((from, to) => (image.data[4 * pixel + to] = crop[3 * pixel + from]));
    image.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

async function classifyFiles(classifier, chosen) {
  for (const file of chosen) {
    let made;
    try {
      made = card(classifier, file.name, await answer(classifier, await pixelsOf(file)));
    } catch (error) {
      made = failed(file.name, error);
    }
    answers.prepend(made);
    clear.hidden = false;
  }
}

function takePictures(classifier) {
  files.addEventListener("change", async () => {
    const chosen = [...files.files];
    files.value = ""; // so that the same file can be chosen again
    await classifyFiles(classifier, chosen);
  });
  // Anywhere on the page: a picture that misses would replace it.
  for (const type of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragover");
    });
  }
  document.addEventListener("drop", (event) =>
    classifyFiles(classifier, [...event.dataTransfer.files]),
  );
  clear.addEventListener("click", () => {
    answers.replaceChildren();
    clear.hidden = true;
  });
}

function takeCamera(classifier) {
  let stream = null;
  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = null;
    viewer.hidden = live.hidden = true;
    hint.hidden = false;
    toggle.textContent = "Use the camera";
    toggle.setAttribute("aria-pressed", "false");
  };
  toggle.addEventListener("click", async () => {
    if (stream) {
      stop();
      return;
    }
    toggle.disabled = true;
    try {
      stream = await openCamera();
      viewer.hidden = live.hidden = false;
      hint.hidden = true;
      toggle.textContent = "Stop the camera";
      toggle.setAttribute("aria-pressed", "true");
      stream.getVideoTracks()[0].addEventListener("ended", stop); // unplugged, or no longer allowed
      video.srcObject = stream;
      await video.play();
      follow(classifier, stream, () => stream);
    } catch (error) {
      stop();
      live.replaceChildren(failed("camera", error));
      live.hidden = false;
    } finally {
      toggle.disabled = false;
    }
  });
  addEventListener("pagehide", stop);
}

async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Error("browsers give cameras only to pages from https:// or http://localhost");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
  } catch (error) {
    throw new Error(`no camera (${error.message}); connect one, and allow this page to use it`);
  }
}

/** Answers for the camera's central square for as long as this stream is the current one. */
async function follow(classifier, stream, current) {
  while (current() === stream) {
    const side = Math.round(CENTRAL * Math.min(video.videoWidth, video.videoHeight));
    const part = {
      x: Math.round((video.videoWidth - side) / 2),
      y: Math.round((video.videoHeight - side) / 2),
      width: side,
      height: side,
    };
    let made;
    try {
      made = card(classifier, "camera, now", await answer(classifier, await pixelsOf(video, part)));
    } catch (error) {
      made = failed("camera", error);
    }
    if (current() === stream) {
      live.replaceChildren(made);
    }
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}

async function begin() {
  status.textContent = "Loading the model and its runtime.";
  try {
    const classifier = await Classifier.load();
    const { name, license, input_size: size } = classifier.spec;
    model.textContent =
      `Model ${name}, input ${size} x ${size}, ONNX Runtime Web on WASM. Weights: ${license}. ` +
      "Milliseconds are for cutting and classifying one picture on this machine. “Not sure”: " +
      "below the threshold that the model names.";
    takePictures(classifier);
    takeCamera(classifier);
    status.hidden = true;
    inputs.hidden = false;
  } catch (error) {
    status.textContent = error.message;
    status.classList.add("failed");
  }
}

begin();
