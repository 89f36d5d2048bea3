/** Asks the network for the IPv4 address of a name by multicast DNS and prints it: `ask-name.mjs outpost.local`. */
import { createSocket } from 'node:dgram';

const name = process.argv[2];
const labels = Buffer.concat([...name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])), Buffer.from([0])]);
const question = Buffer.concat([Buffer.from([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), labels, Buffer.from([0, 1, 0, 1])]);
const socket = createSocket({ type: 'udp4', reuseAddr: true });

/** The end of the name that begins at `at`. */
function skip(packet, at) {
  while (packet[at] !== 0) {
    if (packet[at] >= 0xc0) return at + 2;
    at += packet[at] + 1;
  }
  return at + 1;
}

/** The name that begins at `at`, pointers followed (RFC 1035 §4.1.4). */
function nameAt(packet, at) {
  const parts = [];
  for (let jumps = 0; packet[at] !== 0 && jumps < 20; ) {
    if (packet[at] >= 0xc0) {
      at = packet.readUInt16BE(at) & 0x3fff;
      jumps += 1;
    } else {
      parts.push(packet.subarray(at + 1, at + 1 + packet[at]).toString());
      at += packet[at] + 1;
    }
  }
  return parts.join('.');
}

socket.on('message', (packet) => {
  let at = 12;
  for (let n = packet.readUInt16BE(4); n > 0; n -= 1) at = skip(packet, at) + 4;
  for (let n = packet.readUInt16BE(6) + packet.readUInt16BE(8) + packet.readUInt16BE(10); n > 0; n -= 1) {
    const whose = nameAt(packet, at);
    at = skip(packet, at);
    const [kind, length] = [packet.readUInt16BE(at), packet.readUInt16BE(at + 8)];
    // Others say other names on the same network.
    if (kind === 1 && length === 4 && whose.toLowerCase() === name.toLowerCase()) {
      console.log([...packet.subarray(at + 10, at + 14)].join('.'));
      process.exit(0);
    }
    at += 10 + length;
  }
});
socket.bind(5353, () => {
  socket.addMembership('224.0.0.251');
  let asked = 0;
  const ask = () => {
    if ((asked += 1) > 5) {
      console.error('no answer');
      process.exit(1);
    }
    socket.send(question, 5353, '224.0.0.251');
  };
  ask();
  setInterval(ask, 1000);
});
