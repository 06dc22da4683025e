// Apparent gender of face crops in a browser, by ONNX Runtime Web on its WASM provider.
//
// The part to reuse, with crops.js: it knows nothing of the page around it, and runs in Node as
// well. It answers as gender_edge/classifier.py does. Apparent gender means the binary labels of
// data sets, not identity.
//
//   import { Classifier, pixelsOf } from "./classifier.js";
//   const classifier = await Classifier.load();
//   const [answer] = await classifier.classify([await pixelsOf(file)]);
//   answer.label  // "female", "male", or null where the model is not sure enough

import { cut, wholeSquare } from "./crops.js";

export { pixelsOf } from "./crops.js";

export const FORMAT = 1; // of model.json
export const RUNTIME_FILES = [
  "ort.wasm.min.mjs",
  "ort-wasm-simd-threaded.mjs",
  "ort-wasm-simd-threaded.wasm",
];
const BATCH = 64; // most faces that are run at once

/**
 * @typedef {import("./crops.js").Pixels} Pixels RGBA, as `ImageData` is.
 * @typedef {{label: string | null, female: number, confidence: number}} Prediction
 *   `female`: calibrated probability of that label. `confidence`: of the likelier label.
 */

export class Classifier {
  #ort;
  #session;

  /** Use `load` or `open`. */
  constructor(ort, session, spec) {
    this.#ort = ort;
    this.#session = session;
    /** What the model says about itself: model.json. */
    this.spec = spec;
  }

  /**
   * Fetch a model with its model.json, and the runtime, and run it once, so that the first answer
   * is as fast as the others.
   *
   * @param {URL | string} folder where they lie, with a slash at its end: where this module does,
   *   unless named; as text from the page on.
   * @param {URL | string} runtime of onnxruntime-web's ort.wasm.min.mjs.
   * @throws {Error} which says what was missing and what to do.
   */
  static async load(
    folder = new URL("./", import.meta.url),
    runtime = new URL(`runtime/${RUNTIME_FILES[0]}`, absolute(folder)),
  ) {
    const home = absolute(folder);
    const ort = await importRuntime(absolute(runtime));
    const spec = await fetched(new URL("model.json", home), (response) => response.json());
    const file = new URL(spec.file, home);
    const model = await fetched(file, (response) => response.arrayBuffer());
    return Classifier.open(ort, spec, new Uint8Array(model));
  }

  /**
   * @param {object} ort the module onnxruntime-web.
   * @param {object} spec model.json, parsed.
   * @param {Uint8Array} model content of the ONNX file.
   */
  static async open(ort, spec, model) {
    if (spec.format !== FORMAT) {
      throw new Error(
        `model.json: expected format ${FORMAT}, found ${spec.format}; write model and page ` +
          "with one version of gender_edge (gender-edge deploy browser)",
      );
    }
    ort.env.wasm.numThreads = 1; // more want headers of the server, and one face has no work for them
    const classifier = new Classifier(ort, await createSession(ort, model, spec.file), spec);
    await classifier.predict([new Uint8Array(3 * spec.input_size ** 2)]);
    return classifier;
  }

  /**
   * What the network sees of a picture that is a face crop already.
   *
   * @param {Pixels} picture
   * @returns {Uint8Array} size x size x 3, in the model's colour order.
   */
  crop(picture) {
    const { input_size: size, color_order: order, fill } = this.spec;
    return cut(picture, wholeSquare(picture.width, picture.height), size, fill, order);
  }

  /**
   * @param {Pixels[]} pictures face crops of any size.
   * @returns {Promise<Prediction[]>} one each, in order.
   */
  async classify(pictures) {
    return this.predict(pictures.map((picture) => this.crop(picture)));
  }

  /**
   * @param {Uint8Array[]} crops what `crop` made.
   * @returns {Promise<Prediction[]>}
   */
  async predict(crops) {
    const { labels, abstain_below: limits } = this.spec;
    const rows = await this.probabilities(crops);
    return rows.map((row) => {
      const best = row[1] > row[0] ? 1 : 0;
      const sure = row[best] >= (limits[labels[best]] ?? 0);
      return {
        label: sure ? labels[best] : null,
        female: row[labels.indexOf("female")],
        confidence: row[best],
      };
    });
  }

  /**
   * @param {Uint8Array[]} crops what `crop` made.
   * @returns {Promise<number[][]>} calibrated, a row each, in the order of `spec.labels`.
   */
  async probabilities(crops) {
    const rows = [];
    for (let first = 0; first < crops.length; first += BATCH) {
      const logits = await this.#run(crops.slice(first, first + BATCH));
      for (let at = 0; at < logits.length; at += 2) {
        rows.push(softmax(logits.subarray(at, at + 2), this.spec.temperature));
      }
    }
    return rows;
  }

  async #run(crops) {
    const size = this.spec.input_size;
    const length = 3 * size * size;
    const batch = new Uint8Array(crops.length * length);
    crops.forEach((crop, number) => {
      if (crop.length !== length) {
        throw new Error(
          `crop ${number} of ${crop.length} bytes: expected ${size} x ${size} x 3; make it with ` +
            "Classifier.crop",
        );
      }
      batch.set(crop, number * length);
    });
    const tensor = new this.#ort.Tensor("uint8", batch, [crops.length, size, size, 3]);
    const answer = await this.#session.run({ [this.#session.inputNames[0]]: tensor });
    return answer[this.#session.outputNames[0]].data;
  }
}

/** @returns {number[]} softmax(logits / temperature). */
export function softmax(logits, temperature) {
  const scaled = Array.from(logits, (logit) => logit / temperature);
  const most = Math.max(...scaled);
  const odds = scaled.map((value) => Math.exp(value - most));
  const sum = odds.reduce((a, b) => a + b);
  return odds.map((value) => value / sum);
}

async function importRuntime(address) {
  try {
    return await import(address);
  } catch (error) {
    throw new Error(
      `onnxruntime-web expected at ${address}, and it cannot be loaded from there ` +
        `(${error.message}); copy ${RUNTIME_FILES.join(", ")} there, from the folder dist of ` +
        "the npm package onnxruntime-web (`npm pack onnxruntime-web`), or write this folder " +
        "again with `gender-edge deploy browser OUT --runtime PACKAGE`. If they are there, the " +
        "server has to name .mjs files text/javascript",
      { cause: error },
    );
  }
}

async function createSession(ort, model, name) {
  try {
    return await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Error(
      `onnxruntime-web cannot open ${name} (${error.message}); expected ` +
        `${RUNTIME_FILES.join(", ")} of one version in one folder, and an undamaged model: write ` +
        "the folder again with `gender-edge deploy browser OUT --runtime PACKAGE`",
      { cause: error },
    );
  }
}

/** An address as text means what it would in the page. */
function absolute(address) {
  return new URL(address, globalThis.document?.baseURI ?? import.meta.url);
}

async function fetched(address, read) {
  try {
    const response = await fetch(address);
    if (!response.ok) {
      throw new Error(`status ${response.status}`);
    }
    return await read(response);
  } catch (error) {
    throw new Error(
      `${address}: expected a file of the model, found: ${error.message}; put it back, or write ` +
        "the folder again with `gender-edge deploy browser OUT`",
      { cause: error },
    );
  }
}
