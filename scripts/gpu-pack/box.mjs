/**
 * The box: Node, Dawn (the package webgpu), koffi, the Vulkan loader and X11's client libraries, which NVIDIA's driver asks
 * for even without a display. For Linux on x86-64; made there, with npm and apt and their registries, strip, objdump, tar, xz.
 */

import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PACKAGES = 'libvulkan1 libx11-6 libxext6 libxcb1 libxau6 libxdmcp6 libbsd0 libmd0'.split(' ');

/** The version of webgpu that is installed, with which all is tested. */
const webgpuVersion = root => JSON.parse(readFileSync(join(root, 'node_modules/webgpu/package.json'), 'utf8')).version;

/** Makes the file `box` from what is installed in `root`. */
export function makeBox(root, box) {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error(
      `gpu-pack: expected Linux on x64, which the box is for, got ${process.platform} on ${process.arch}`,
    );
  const work = mkdtempSync(join(tmpdir(), 'gpu-pack-'));
  const run = (command, args, cwd = work) =>
    execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const home = join(work, 'box');
    for (const folder of ['bin', 'lib', 'spare', 'node_modules']) mkdirSync(join(home, folder), { recursive: true });
    // Symbols for debuggers are a fifth of it; addons and Node itself resolve names by .dynsym, which stays.
    const strip = (from, to) => run('strip', ['--strip-unneeded', '-o', to, from]);
    process.stderr.write('gpu-pack: Node and Dawn …\n');
    strip(realpathSync(process.execPath), join(home, 'bin/node'));

    const dawn = join(home, 'node_modules/webgpu');
    mkdirSync(join(dawn, 'dist/linux-x64'), { recursive: true });
    run('npm', ['pack', '--silent', `webgpu@${webgpuVersion(root)}`]);
    run('tar', ['-xzf', readdirSync(work).find(file => file.startsWith('webgpu-'))]);
    for (const file of ['index.js', 'package.json', 'LICENSE.md'])
      cpSync(join(work, 'package', file), join(dawn, file));
    strip(join(work, 'package/dist/linux-x64/dawn.node'), join(dawn, 'dist/linux-x64/dawn.node'));

    for (const name of ['koffi', '@koromix/koffi-linux-x64'])
      cpSync(join(root, 'node_modules', name), join(home, 'node_modules', name), {
        recursive: true,
        dereference: true,
        filter: from =>
          !/\/(vendor|doc|build|native|musl_x64)$|\.(h|c|cc|cpp|hh|md|txt|ts|lib)$/.test(from) || /LICENSE/.test(from),
      });

    process.stderr.write('gpu-pack: the Vulkan loader …\n');
    run('apt-get', ['-qq', 'download', ...PACKAGES]);
    for (const file of readdirSync(work)) if (file.endsWith('.deb')) run('dpkg-deb', ['-x', file, join(work, 'root')]);
    const libraries = join(work, 'root/usr/lib/x86_64-linux-gnu');
    for (const file of readdirSync(libraries)) {
      if (!/^lib.*\.so\./.test(file) || /xcb-|X11-xcb/.test(file)) continue;
      const soname = /SONAME +(\S+)/.exec(run('objdump', ['-p', join(libraries, file)]))?.[1];
      // Those of X11 serve only where the machine has none.
      const folder = soname === 'libvulkan.so.1' ? 'lib' : 'spare';
      if (soname !== undefined) cpSync(realpathSync(join(libraries, file)), join(home, folder, soname));
    }
    if (!existsSync(join(home, 'lib/libvulkan.so.1'))) throw new Error('gpu-pack: no libvulkan.so.1 in libvulkan1');

    process.stderr.write('gpu-pack: packing, a minute or two …\n');
    run('tar', ['-C', home, '--sort=name', '--owner=0', '--group=0', '--mtime=@0', '-cf', join(work, 'box.tar'), '.']);
    run('xz', ['-9e', '-T1', 'box.tar']);
    cpSync(join(work, 'box.tar.xz'), box);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
