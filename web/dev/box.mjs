/** The box around the stand-in server: a Raspberry Pi that takes updates, or a server on a system of its own. */

const VERSION = '0.1.0';

/**
 * @param {{noBox?: boolean, trouble?: boolean}} options `trouble`: what can be wrong is wrong
 * @returns {Record<string, (body: any, query: URLSearchParams) => [number, unknown]>}
 */
export function box({ noBox = false, trouble = false } = {}) {
  const began = Date.now() - 93_784_000;
  const state = { work: { state: 'idle' }, outcome: null, synchronised: !trouble, skew: trouble ? -200 * 86_400_000 : 0, away: false };
  if (trouble) state.outcome = { kind: 'rolled-back', version: '0.2.0', to: VERSION, reason: 'the server was not well within 150 s: nobody answers on the HTTPS port', at: Math.floor(Date.now() / 1000) - 600 };
  const refuse = (status, code, message, field) => [status, { error: { code, message, ...(field ? { field } : {}) } }];

  /** Goes on a little with every look, so that a test sees each state. */
  function advance() {
    const { work } = state;
    if (work.state === 'receiving') {
      work.received += 16 << 20;
      if (work.received >= work.total) state.work = { state: 'installing', percent: 0, step: 'Checking the signature' };
    } else if (work.state === 'installing') {
      const percent = work.percent + 25;
      state.work = percent > 100 ? { state: 'installed', version: '0.2.0' } : { state: 'installing', percent, step: 'Copying image to rootfs.1' };
      if (percent > 100) state.outcome = { kind: 'waiting', version: '0.2.0' };
    }
  }

  function about() {
    advance();
    return {
      version: VERSION, serverUptime: Math.floor((Date.now() - began) / 1000) - 22, illness: trouble ? 'the store does not answer' : null, problem: null, work: state.work,
      facts: {
        name: 'outpost', model: 'Raspberry Pi 4 Model B Rev 1.4', uptime: Math.floor((Date.now() - began) / 1000),
        memory: { total: 948_000_000, available: 801_000_000, own: 14_300_000 },
        storage: { total: 29_100_000_000, free: trouble ? 900_000_000 : 27_800_000_000, store: 4_300_000 }, temperature: trouble ? 82.3 : 47.2,
        network: [
          { name: 'eth0', wireless: false, link: true, speed: 1000, hardware: 'dc:a6:32:00:00:01', addresses: ['192.168.1.5', 'fe80::dea6:32ff:fe00:1'] },
          { name: 'wlan0', wireless: true, link: false, speed: null, hardware: 'dc:a6:32:00:00:02', addresses: [] },
        ],
        time: { now: Date.now() + state.skew, synchronised: state.synchronised, battery: false },
      },
      box: noBox ? null : {
        compatible: 'outpost-rpi-arm64', booted: 'A', confirmed: !trouble, installing: state.work.state === 'installing', synchronised: state.synchronised, outcome: state.outcome,
        slots: [{ slot: 'A', version: VERSION, tries_left: 9 }, { slot: 'B', version: trouble ? '0.2.0' : null, tries_left: 0 }],
        incidents: trouble ? [{ kind: 'repaired', sentence: 'The data partition was checked and 3 damaged places were repaired.' }] : [],
      },
    };
  }

  return {
    'GET /api/box': () => [200, about()],
    'GET /api/box/sticks': () => [200, { bundles: [{ stick: 'sda1', title: 'SanDisk Ultra Fit', file: 'outpost-rpi-arm64-0.2.0.raucb', size: 47_300_000 }] }],
    'POST /api/box/update': (body) => {
      if (body.length < 1000) {
        state.work = { state: 'failed', code: 'damaged', message: 'The file is no update, or it is not whole', at: Date.now() };
        return refuse(422, 'damaged', 'The file is no update, or it is not whole (Invalid bundle format: Signature size is 0)');
      }
      state.work = { state: 'installing', percent: 0, step: 'Checking the signature' };
      return [200, { version: '0.2.0' }];
    },
    'POST /api/box/update/url': ({ url }) => {
      if (!/^https?:\/\//.test(url)) return refuse(422, 'invalid', 'Expected an address that begins with https:// or http://', 'url');
      state.work = { state: 'receiving', received: 0, total: 47_300_000 };
      return [202, {}];
    },
    'POST /api/box/update/stick': () => ((state.work = { state: 'installing', percent: 0, step: 'Copying from the stick' }), [202, {}]),
    'DELETE /api/box/update': () => ((state.work = { state: 'idle' }), [202, {}]),
    'POST /api/box/restart': () => [202, {}],
    'POST /api/box/off': () => [202, {}],
    'POST /api/box/reset': ({ name }) => (name === 'outpost' ? [202, {}] : refuse(422, 'invalid', 'Type the name of this box, outpost', 'name')),
    'POST /api/box/time': ({ ms }) => ((state.skew = ms - Date.now()), [200, { now: ms }]),
    'POST /api/export': ({ password }) => (password === 'secret' ? [200, { ticket: 'one-time' }] : refuse(401, 'bad-credentials', 'The password is wrong')),
  };
}
