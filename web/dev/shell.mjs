// The far end of the mock's terminal: a few words of a shell, and output without end for trying flow control.
const GREEN = '\x1b[32m', BLUE = '\x1b[34m', PLAIN = '\x1b[0m';

export function shell(socket, { name, ignoresAcks = false }) {
  const prompt = `${GREEN}root@${name}${PLAIN}:${BLUE}~${PLAIN}# `;
  let line = '', window = 524288, sent = 0, acknowledged = 0, left = 0, block = Buffer.alloc(0), started = false;
  const out = (text) => {
    const bytes = Buffer.isBuffer(text) ? text : Buffer.from(text);
    sent += bytes.length;
    socket.send(bytes, { binary: true });
  };
  function pump() {
    while (left > 0 && (ignoresAcks || sent - acknowledged < window) && socket.bufferedAmount < 4e6) {
      const piece = block.subarray(0, Math.min(block.length, left));
      left -= piece.length;
      out(piece);
      if (left === 0) out(`\r\n${prompt}`);
    }
    if (left > 0 && (ignoresAcks || sent - acknowledged < window)) setTimeout(pump, 2);
  }
  const commands = {
    ls: () => `${BLUE}backup${PLAIN}  ${BLUE}projects${PLAIN}  notes.txt  ${GREEN}deploy.sh${PLAIN}\r\n`,
    uname: () => `Linux ${name} 6.12.48 #1 SMP x86_64 GNU/Linux\r\n`,
    colours: () => Array.from({ length: 16 }, (_, i) => `\x1b[48;5;${i}m  ${PLAIN}`).join('') + '\r\n' + Array.from({ length: 64 }, (_, i) => `\x1b[48;2;${i * 4};120;${255 - i * 4}m ${PLAIN}`).join('') + '\r\n',
    utf8: () => 'Grüße, 世界, привет, 👩‍💻 ✓\r\n',
    link: () => 'see https://example.net/manual\r\n',
  };
  function run(text) {
    const [word, amount] = text.trim().split(/\s+/);
    if (word === 'exit') return socket.close();
    if (word === 'flood') {
      block = Buffer.from(Array.from({ length: 800 }, (_, i) => `${i} the quick brown fox jumps over the lazy dog, over and over again\r\n`).join(''));
      left = Number(amount ?? 100) * 1e6;
      return pump();
    }
    out((commands[word]?.() ?? (word ? `bash: ${word}: command not found\r\n` : '')) + prompt);
  }
  socket.on('message', (data, binary) => {
    const text = data.toString();
    if (!binary) {
      if (text === '1' && !started) {
        started = true;
        return out(`Last login: Mon Nov 23 18:02:11 2026\r\n${prompt}`);
      }
      let control;
      try {
        control = JSON.parse(text);
      } catch {
        return;
      }
      if (control.type === 'options' && control.window) window = control.window;
      if (control.type === 'ack') {
        acknowledged = control.bytes;
        pump();
      }
      if (control.type === 'rtt') socket.send(text);
      return;
    }
    for (const character of text) {
      if (character === '\r') {
        out('\r\n');
        run(line);
        line = '';
      } else if (character === '\x7f') {
        if (line) out('\b \b');
        line = line.slice(0, -1);
      } else if (character === '\x03') {
        left = 0;
        line = '';
        out(`^C\r\n${prompt}`);
      } else if (character >= ' ') {
        line += character;
        out(character);
      }
    }
  });
}
