/**
 * The settings on a card, taken over by a real systemd from a partition of its own: the unit in its sandbox, the boot partition
 * that is read-only before and after, the second process that is the server's user, and what the system is afterwards.
 *
 *   make build && node run.mjs        (as root)
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, stopAll } from '../e2e/processes.mjs';
import { begin, broken, check, expect, failures, summarise } from '../e2e/report.mjs';
import { SystemdMachine } from '../e2e/systemd-machine.mjs';
import { programs } from '../programs.mjs';

const repository = resolve(fileURLToPath(new URL('.', import.meta.url)), '../..');
const output = join(repository, 'target/settings-test');
const started = Date.now();
const scratch = mkdtempSync(join(tmpdir(), 'outpost-settings-test-'));
rmSync(output, { recursive: true, force: true });
mkdirSync(output, { recursive: true });
let machine;
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => void stopAll().then(() => process.exit(130)));
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

const PASSWORD = 'slate harbour violin';
for (const name of ['ada', 'stranger']) run(null, ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', `${name}@laptop`, '-f', join(scratch, name)]);
const KEY = readFileSync(join(scratch, 'ada.pub'), 'utf8').trim();
const CARD = `# The box in the attic.
hostname = "attic"
timezone = "Europe/Berlin"
[wifi]
ssid = "Home"
passphrase = "quiet harbour"
[network]
address = "192.168.77.10/24"
[ssh]
keys = ["${KEY}"]
[admin]
name = "ada"
password = "${PASSWORD}"
[config.settings]
port = 8443
`;

/** Runs a line there that has to succeed. */
function line(words, milliseconds = 60_000) {
  const { code, out, err } = machine.run(words, milliseconds);
  expect(code === 0, `${words}: ${code}\n${out}${err}`);
  return out.trim();
}
const read = (file) => line(`cat ${file}`);
// More often than a unit may start within ten seconds, on a machine that is quick.
const apply = () => line('systemctl reset-failed outpost-settings; systemctl restart outpost-settings');
/** Another computer writes the file; the box has the partition read-only. */
function write(text) {
  writeFileSync(join(scratch, 'outpost.toml'), text);
  line('mount -o remount,rw /boot/firmware');
  expect(run(null, ['cp', join(scratch, 'outpost.toml'), `/proc/${machine.pid}/root/boot/firmware/`]).code === 0, 'not copied');
  line('mount -o remount,ro,nodev,nosuid,noexec /boot/firmware');
}

try {
  expect(process.getuid() === 0, 'as root, please: it makes namespaces');
  machine = new SystemdMachine({ name: 'outpost', network: null, folder: scratch, log: join(output, 'systemd.log'), empty: ['var/lib'] });
  await machine.ready();
  line('ip link set lo up; mkdir -p /boot/firmware /opt/units /run/outpost-box /usr/lib/outpost /var/lib/outpost-box');
  const inside = (from, to) => copyFileSync(resolve(repository, from), `/proc/${machine.pid}/root/${to}`);
  inside(programs.server, 'usr/lib/outpost/outpost');
  inside('systemd/outpost.service', 'etc/systemd/system/outpost.service');
  inside('board/common/systemd/outpost-settings.service', 'etc/systemd/system/outpost-settings.service');
  inside('board/common/systemd/outpost-ssh.service', 'etc/systemd/system/outpost-ssh.service');
  inside('systemd/sysusers.d/outpost.conf', 'usr/lib/sysusers.d/outpost.conf');
  line('chmod 755 /usr/lib/outpost/outpost; systemd-sysusers; ln -sfn ../run/outpost-box/localtime /etc/localtime; systemctl daemon-reload');
  line('rm -rf /root/.ssh; ln -s ../var/lib/outpost-box/ssh /root/.ssh; chmod 700 /root /var/lib/outpost-box');
  // A card's first partition, in a file. Kernels of build machines may not know FAT; the emulated box does.
  const knows = machine.run("grep -q vfat /proc/filesystems || modprobe vfat").code === 0;
  const make = knows ? 'mkfs.vfat -F 32 -n OUTPOSTBOOT /opt/card' : "mke2fs -q -t ext4 -O '^has_journal' /opt/card";
  line(`truncate -s 40M /opt/card && ${make} >/dev/null && mount -o loop,nodev,nosuid,noexec /opt/card /boot/firmware && mount -o remount,ro,nodev,nosuid,noexec /boot/firmware`);
  write(CARD);

  begin('Taking over');
  await check('the unit runs in its sandbox, and says what it took over', () => {
    apply();
    const said = line('journalctl -u outpost-settings -o cat --no-pager');
    for (const name of ['hostname', 'timezone', 'wifi', 'network', 'ssh', 'admin', 'config']) expect(said.includes(`${name} was taken over`), said);
    expect(!said.includes(PASSWORD) && !said.includes('quiet harbour'), 'a secret is in the journal');
  }, { seconds: 60 });
  await check('name, time zone and address are what the file says', () => {
    expect(line('uname -n') === 'attic', line('uname -n'));
    expect(/^[+]0[12]00$/.test(line('date +%z')), line('date +%z'));
    expect(read('/run/systemd/network/70-outpost.network').includes('Address=192.168.77.10/24'), 'no address');
  });
  await check('Wi-Fi and keys are kept for root alone', () => {
    expect(read('/var/lib/iwd/Home.psk').includes('Passphrase=quiet harbour'), 'no network');
    expect(line('stat -c "%U %a" /var/lib/iwd/Home.psk /var/lib/outpost-box/ssh/authorized_keys') === 'root 600\nroot 600', line('stat -c "%U %a" /var/lib/iwd/Home.psk'));
  });
  await check('the server\'s data is the server\'s', () => {
    expect(line('stat -c "%U %a" /var/lib/outpost /var/lib/outpost/config.json /var/lib/outpost/outpost.redb').split('\n').every((one) => one.startsWith('outpost ')), line('ls -la /var/lib/outpost'));
  });
  await check('secrets have left the card, which is read-only again', () => {
    const left = read('/boot/firmware/outpost.toml');
    expect(!/harbour|8443/.test(left) && left.includes('# The box in the attic.') && left.includes('192.168.77.10'), left);
    expect(/ ro,/.test(line('grep " /boot/firmware " /proc/mounts')), line('grep " /boot/firmware " /proc/mounts'));
    line('sync');
    const raw = run(null, ['grep', '-c', '-a', PASSWORD, `/proc/${machine.pid}/root/opt/card`]).out.trim();
    expect(raw === '0', 'the password can still be found on the card');
  });
  await check('the server starts with them: port, account', async () => {
    line('systemctl start outpost', 90_000);
    const body = JSON.stringify({ username: 'ada', password: PASSWORD });
    const status = line(`curl -sk --max-time 20 -o /dev/null -w '%{http_code}' -H 'content-type: application/json' -H 'origin: https://127.0.0.1:8443' -d '${body}' https://127.0.0.1:8443/api/login`);
    expect(status === '200', `login: ${status}`);
  }, { seconds: 120 });

  await check('SSH lets the key of the card in, and nobody else', async () => {
    line('systemctl start outpost-ssh');
    const ssh = (name) => {
      // The machine has no network but its own.
      run(null, ['cp', join(scratch, name), `/proc/${machine.pid}/root/opt/${name}`]);
      line(`chmod 600 /opt/${name}`);
      return machine.run(`ssh -F none -i /opt/${name} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/opt/known root@127.0.0.1 'echo in as $(id -un)'`);
    };
    let ada;
    for (let tries = 0; tries < 20 && ada?.code !== 0; tries += 1) {
      await pause(250);
      ada = ssh('ada');
    }
    expect(ada.out.trim() === 'in as root', ada.out + ada.err);
    const stranger = ssh('stranger');
    expect(stranger.code !== 0 && /Permission denied \(publickey\)/.test(stranger.err), `passwords are offered, or a stranger is let in: ${stranger.err}`);
    expect(line('stat -c "%U %a" /var/lib/outpost-box/ssh/host_ed25519') === 'root 600', 'the host\'s key can be read');
  }, { seconds: 60 });
  await check('without keys, SSH does not start', () => {
    line('systemctl stop outpost-ssh');
    write('[ssh]\nkeys = []\n');
    apply();
    line('systemctl start outpost-ssh');
    expect(machine.show('outpost-ssh', 'ActiveState') === 'inactive', 'it runs');
  }, { seconds: 60 });

  begin('Again');
  await check('unchanged, nothing is taken over again', () => {
    line('journalctl --rotate; sleep 1.1; journalctl --vacuum-time=1s');
    apply();
    expect(!line('journalctl -u outpost-settings -o cat --no-pager').includes('was taken over'), line('journalctl -u outpost-settings -o cat --no-pager'));
  }, { seconds: 60 });
  await check('a mistake is said in the journal, on the card and to the server, and the unit has not failed', () => {
    write('hostname = "not a name"\n[wifi]\nssid = "x"\npassphrase = "short"\n');
    apply();
    const said = line('journalctl -u outpost-settings -o cat --no-pager');
    const file = read('/boot/firmware/outpost.toml.problems.txt');
    for (const text of [said, file, read('/run/outpost-box/incidents')]) expect(text.includes('line 1: hostname: ') && text.includes('line 4: wifi.passphrase: '), text);
    expect(line('stat -c %a /run/outpost-box/incidents') === '644', 'the server cannot read it');
    expect(line('uname -n') === 'attic' && read('/var/lib/iwd/Home.psk').includes('quiet harbour'), 'a mistake changed something');
    expect(machine.show('outpost-settings', 'ActiveState') === 'active', 'failed');
  }, { seconds: 60 });
  await check('while the server runs, an account is not touched, and it is said', async () => {
    write('[admin]\nname = "ada"\npassword = "another harbour entirely"\n');
    apply();
    await pause(0);
    expect(read('/run/outpost-box/incidents').includes('outpost.toml, admin: '), 'nothing said');
    expect(read('/boot/firmware/outpost.toml').includes('another harbour'), 'it was removed');
    line('systemctl stop outpost');
    apply();
    expect(!read('/boot/firmware/outpost.toml').includes('another harbour'), 'it is still there');
  }, { seconds: 90 });
} catch (error) {
  await broken(error);
} finally {
  if (machine?.pid) machine.run('systemctl stop outpost; umount /boot/firmware');
  await machine?.holder.stop('SIGKILL');
  await stopAll();
  rmSync(scratch, { recursive: true, force: true });
}
summarise((Date.now() - started) / 1000);
process.exit(failures() ? 1 : 0);
