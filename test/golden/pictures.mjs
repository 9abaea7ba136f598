// Writes pictures.json: JPEG and PNG files as libvips writes them, with the pixels [3, 7, 11] that it reads from them (libjpeg, libpng).
//
//     npm install --no-save sharp@0.35 && node test/golden/pictures.mjs
//
// Every file is 11 × 7 pixels: no multiple of a JPEG's blocks, and rows of samples below 8 bits end within a byte.
import { writeFileSync } from 'node:fs';
import sharp from 'sharp';

const [width, height] = [11, 7];
const smooth = new Uint8Array(3 * width * height);
for (let y = 0; y < height; y++)
  for (let x = 0; x < width; x++)
    smooth.set([20 * x + ((x * y * 7) % 13), 250 - 30 * y, (x * x + 5 * y) & 255], 3 * (y * width + x));
const grey = smooth.filter((_, i) => i % 3 === 0);
const wide = Uint16Array.from({ length: width * height }, (_, i) => (i * 851 + 77) & 65535);
const alpha = new Uint8Array(4 * width * height).map((_, i) =>
  i % 4 === 3 ? (i * 3) & 255 : smooth[(i >> 2) * 3 + (i % 4)],
);
const raw = (data, channels) => sharp(data, { raw: { width, height, channels } });

const made = {
  jpegBaseline: raw(smooth, 3).jpeg({ quality: 90, chromaSubsampling: '4:4:4' }),
  jpegSubsampled: raw(smooth, 3).jpeg({ quality: 70, chromaSubsampling: '4:2:0' }),
  jpegProgressive: raw(smooth, 3).jpeg({ quality: 80, progressive: true }),
  jpegGrey: raw(grey, 1).toColourspace('b-w').jpeg({ quality: 90 }),
  jpegTurned: raw(smooth, 3).jpeg({ quality: 90 }).withMetadata({ orientation: 6 }),
  jpegCmyk: raw(smooth, 3).toColourspace('cmyk').jpeg(),
  png: raw(smooth, 3).png(),
  pngAlpha: raw(alpha, 4).png(),
  pngGrey: raw(grey, 1).toColourspace('b-w').png(),
  pngGrey16: raw(wide, 1).toColourspace('grey16').png(),
  pngInterlaced: raw(smooth, 3).png({ progressive: true }),
  pngPalette: raw(smooth, 3).png({ palette: true, colours: 200 }),
  pngPalette16: raw(smooth, 3).png({ palette: true, colours: 13 }),
  pngPalette4: raw(smooth, 3).png({ palette: true, colours: 4 }),
  pngPalette2: raw(smooth, 3).png({ palette: true, colours: 2 }),
};
const golden = {};
for (const [name, picture] of Object.entries(made)) {
  const file = await picture.toBuffer();
  // 8 bits a sample; alpha is taken away, not blended.
  const { data, info } = await sharp(file).raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  const planes = [0, 1, 2].flatMap(c => Array.from({ length: width * height }, (_, i) => data[i * info.channels + c]));
  golden[name] = { file: file.toString('base64'), pixels: Buffer.from(planes).toString('base64') };
}
// libvips cuts the lower 8 bits off; these are all 16.
golden.pngGrey16.wide = [...wide];
writeFileSync(new URL('pictures.json', import.meta.url), `${JSON.stringify(golden, null, 1)}\n`);
