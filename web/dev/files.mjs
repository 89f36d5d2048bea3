// The far end of the mock's files: a small disk in memory with names as odd as real ones, behaving as a MeshAgent does.
const folder = (entries = {}) => ({ entries: new Map(Object.entries(entries)), changed: '2026-11-21T09:15:00Z' });
const file = (content) => ({ content: Buffer.from(content), changed: '2026-11-22T16:40:12Z' });

export function disk() {
  return folder({
    bin: folder(), boot: folder(), etc: folder({ hostname: file('bench\n'), 'hosts': file('127.0.0.1 localhost\n') }),
    home: folder({
      anna: folder({
        'notes.txt': file('buy milk\n'), 'Übung – 世界.md': file('# ü\n'), 'two\nlines': file('odd'), 'quote\'s "and" <b>tags</b>.html': file('<script>alert(1)</script>'),
        'a name that is so long that it does not fit into the column of the list on any phone whatsoever.tar.gz': file('x'.repeat(3_500_000)),
        'photo-2.jpg': file('y'.repeat(220_000)), 'photo-10.jpg': file('y'.repeat(410_000)), Documents: folder({ 'report.odt': file('z'.repeat(50_000)) }), empty: folder(),
      }),
    }),
    proc: folder(), root: folder(), tmp: folder(), var: folder({ log: folder({ syslog: file('log\n'.repeat(20000)) }) }),
  });
}

export function files(socket, root, { slow = 0 } = {}) {
  const parts = (path) => path.split('/').filter(Boolean);
  const find = (path) => parts(path).reduce((at, part) => at?.entries?.get(part), root);
  const say = (message, text = false) => socket.send(text ? JSON.stringify(message) : Buffer.from(JSON.stringify(message)));
  let upload = null, download = null;
  const actions = {
    ls({ path, reqid }) {
      const found = find(path);
      const dir = found?.entries ? [...found.entries].map(([n, one]) => ({ n, t: one.entries ? 2 : 3, d: one.changed, ...(one.entries ? {} : { s: one.content.length }) })) : null;
      say({ path: path || '/', dir, reqid });
    },
    mkdir({ path }) {
      const all = parts(path), name = all.pop();
      find(all.join('/'))?.entries?.set(name, folder());
    },
    rm({ path, delfiles }) {
      for (const name of delfiles) find(path)?.entries?.delete(name);
    },
    rename({ path, oldname, newname }) {
      const entries = find(path)?.entries, one = entries?.get(oldname);
      if (!one) return;
      entries.delete(oldname);
      entries.set(newname, one);
    },
    upload({ path, name, reqid }) {
      const into = find(path);
      if (!into?.entries || path.startsWith('/proc')) return say({ action: 'uploaderror', reqid });
      upload = { reqid, into, name, blocks: [] };
      say({ action: 'uploadstart', reqid });
    },
    uploaddone({ reqid }) {
      upload.into.entries.set(upload.name, { content: Buffer.concat(upload.blocks), changed: new Date().toISOString().replace(/\.\d+/, '') });
      upload = null;
      say({ action: 'uploaddone', reqid });
    },
    uploadcancel({ reqid }) {
      upload = null;
      say({ action: 'uploadcancel', reqid });
    },
    download({ sub, id, path }) {
      if (sub === 'start') {
        const one = find(path);
        if (!one?.content) return say({ action: 'download', sub: 'cancel', id }, true);
        download = { content: one.content, at: 0 };
        say({ action: 'download', sub: 'start', id }, true);
      } else if (sub === 'stop') download = null;
      else if (download) {
        const block = download.content.subarray(download.at, download.at + 16380);
        download.at += block.length;
        const head = Buffer.from([1, 0, 0, block.length < 16380 ? 1 : 0]);
        socket.send(Buffer.concat([head, block]));
      }
    },
  };
  socket.on('message', (data, binary) => {
    const bytes = Buffer.from(data);
    if (bytes[0] === 0x7b) {
      const message = JSON.parse(bytes.toString());
      if (message.ctrlChannel) {
        if (message.type === 'rtt') socket.send(bytes.toString());
      } else actions[message.action]?.(message);
    } else if (binary && upload) {
      upload.blocks.push(bytes[0] === 0 ? bytes.subarray(1) : bytes);
      const { reqid } = upload;
      if (slow) setTimeout(() => say({ action: 'uploadack', reqid }), slow);
      else say({ action: 'uploadack', reqid });
    }
  });
}
