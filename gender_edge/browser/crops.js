// From a picture's pixels to the square that the network sees.
//
// What gender_edge/cropping.py does in Python is done here once more, in the same steps and with the
// same result but for rounding: a network has to be given what it was trained on, so no canvas
// resizes anything. Normalisation is in the graph.

const MAX_SIDE = 16384; // px; larger pictures are not faces
const MAX_AREA = 2 ** 24; // px: beyond, some browsers give a blank canvas without a word

/**
 * @typedef {{data: ArrayLike<number>, width: number, height: number}} Pixels
 *   RGBA, 8 bits a channel, row by row: what `ImageData` is. Alpha is ignored.
 */

/**
 * The pixels of a picture as its file has them, turned upright. For browsers: it needs a canvas.
 *
 * Unlike in Python, what is transparent is black.
 *
 * @param {Blob | CanvasImageSource} source a file, or what a canvas can draw.
 * @param {{x: number, y: number, width: number, height: number}} [part] of it, in pixels.
 * @returns {Promise<ImageData>}
 */
export async function pixelsOf(source, part) {
  // Colour profiles are left out, as OpenCV does.
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none" };
  let bitmap;
  try {
    bitmap = part
      ? await createImageBitmap(source, part.x, part.y, part.width, part.height, options)
      : await createImageBitmap(source, options);
  } catch (error) {
    throw new Error(
      `not a picture that this browser can read (${error.message}); give JPEG, PNG or WebP, ` +
        "undamaged",
      { cause: error },
    );
  }
  try {
    const { width, height } = bitmap;
    checkSide(width, height);
    if (width * height > MAX_AREA) {
      throw new Error(
        `${width} x ${height} pixels, expected ${MAX_AREA} in all at most; crop the face or ` +
          "shrink the picture first",
      );
    }
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, width, height);
  } finally {
    bitmap.close();
  }
}

/** The picture is a face crop already: the square of its area about its centre (cropping.py). */
export function wholeSquare(width, height) {
  const side = Math.min(Math.sqrt(width * height), 2 * Math.min(width, height));
  return { x: width / 2, y: height / 2, side };
}

/**
 * Resample an upright square of a picture, as cropping.cut does.
 *
 * Shrinking by two or more first averages whole pixels, because bilinear sampling alone would
 * alias a large face.
 *
 * @param {Pixels} picture
 * @param {{x: number, y: number, side: number}} square its centre and side, in pixels.
 * @param {number} size side of the result, in pixels.
 * @param {number} fill grey level of what lies outside the picture.
 * @param {"bgr" | "rgb"} order of the result's channels.
 * @returns {Uint8Array} size x size x 3.
 */
export function cut(picture, square, size, fill, order = "bgr") {
  checkPixels(picture);
  const left = square.x - square.side / 2;
  const top = square.y - square.side / 2;
  const step = square.side / size; // of the picture's pixels, for one of the result's
  const shrink = Math.max(1, Math.floor(step + 1e-6));
  const across = span(left, left + square.side, picture.width, shrink);
  const down = span(top, top + square.side, picture.height, shrink);
  const source = shrink > 1 ? averaged(picture, across, down) : picture;
  const columns = samples(left, step, size, across, source.width);
  const rows = samples(top, step, size, down, source.height);
  return bilinear(source, columns, rows, fill, order === "bgr" ? [2, 1, 0] : [0, 1, 2]);
}

/**
 * Pixels from low to high and some around them, to be averaged to `blocks`: as many as a multiple
 * of the factor where the picture has them. Without shrinking, the whole side.
 */
function span(low, high, length, factor) {
  if (factor < 2) {
    return { start: 0, count: length, blocks: length };
  }
  let start = Math.min(Math.max(Math.floor(low) - factor, 0), length - 1);
  let count = Math.ceil((Math.ceil(high) + factor - start) / factor) * factor;
  start = Math.max(0, Math.min(start, length - count));
  count = Math.min(count, length - start);
  return { start, count, blocks: Math.max(1, Math.floor(count / factor)) };
}

/** Mean of each block of pixels, by the area that it has of each (OpenCV's INTER_AREA). */
function averaged({ data, width }, across, down) {
  const sums = new Float64Array(across.count * 4);
  const result = new Uint8ClampedArray(across.blocks * down.blocks * 4);
  const columns = overlaps(across);
  const area = (across.count / across.blocks) * (down.count / down.blocks);
  overlaps(down).forEach(({ first, weights }, row) => {
    sums.fill(0);
    weights.forEach((weight, number) => {
      let at = ((down.start + first + number) * width + across.start) * 4;
      for (let n = 0; n < sums.length; n++) {
        sums[n] += weight * data[at++];
      }
    });
    columns.forEach((column, x) => {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        column.weights.forEach((weight, number) => {
          sum += weight * sums[(column.first + number) * 4 + channel];
        });
        result[(row * across.blocks + x) * 4 + channel] = Math.floor(sum / area + 0.5);
      }
    });
  });
  return { data: result, width: across.blocks, height: down.blocks };
}

/** For each block its first pixel, and how much of each pixel from there lies in it. */
function overlaps({ count, blocks }) {
  const scale = count / blocks;
  return Array.from({ length: blocks }, (_, block) => {
    const low = block * scale;
    const high = Math.min((block + 1) * scale, count);
    const first = Math.floor(low);
    const weights = [];
    for (let pixel = first; pixel < high; pixel++) {
      weights.push(Math.min(high, pixel + 1) - Math.max(low, pixel));
    }
    return { first, weights };
  });
}

/** Where each of the result's pixels lies in the source: the pixel before it, the share of the next. */
function samples(low, step, size, { start, count }, length) {
  const scale = count / length;
  return Array.from({ length: size }, (_, number) => {
    // Edges lie at whole numbers, the pixels' centres half way between them.
    const place = (low + (number + 0.5) * step - start) / scale - 0.5;
    const before = Math.floor(place);
    return { before, share: place - before };
  });
}

function bilinear({ data, width, height }, columns, rows, fill, order) {
  const result = new Uint8Array(columns.length * rows.length * 3);
  const value = (x, y, channel) =>
    x < 0 || y < 0 || x >= width || y >= height ? fill : data[(y * width + x) * 4 + channel];
  let at = 0;
  for (const { before: y, share: down } of rows) {
    for (const { before: x, share: across } of columns) {
      for (const channel of order) {
        const upper =
          (1 - across) * value(x, y, channel) + across * value(x + 1, y, channel);
        const lower =
          (1 - across) * value(x, y + 1, channel) + across * value(x + 1, y + 1, channel);
        result[at++] = Math.floor((1 - down) * upper + down * lower + 0.5);
      }
    }
  }
  return result;
}

function checkPixels({ data, width, height }) {
  checkSide(width, height);
  if (data?.length !== 4 * width * height) {
    throw new Error(
      `pixels of length ${data?.length}: expected ${4 * width * height}, RGBA of ${width} x ` +
        `${height}; give ImageData`,
    );
  }
}

function checkSide(width, height) {
  if (!(Math.min(width, height) >= 1 && Math.max(width, height) <= MAX_SIDE)) {
    throw new Error(
      `${width} x ${height} pixels, expected 1 to ${MAX_SIDE} a side; crop the face or shrink ` +
        "the picture first",
    );
  }
}
