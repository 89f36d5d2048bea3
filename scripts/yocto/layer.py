"""Reads the layer meta-outpost with BitBake's own parser and holds it against the rest of the repository.

Classes of other layers are empty here, so what they do is not checked; that each is one that we know of is. Prints what is
wrong, a line each, and fails then.
"""
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import types

# The parser's package leaves out the client of hash servers, which is imported and not used here.
for absent in ("hashserv", "hashserv.client"):
    sys.modules.setdefault(absent, types.ModuleType(absent))

import bb.codeparser
import bb.data
import bb.parse
import bb.siggen

ROOT = os.getcwd()
LAYER = os.path.join(ROOT, "yocto/meta-outpost")
# Classes of OpenEmbedded-Core and of meta-rauc that the layer stands on, read in their published sources.
FOREIGN = ["base", "bundle", "cargo", "core-image", "deploy", "nopackages", "systemd", "useradd"]
# What OpenEmbedded-Core's and meta-raspberrypi's configuration would have set, as far as our recipes' Python asks for it.
SURROUNDINGS = """
PN = "${@os.path.basename(d.getVar('FILE')).split('_')[0].replace('.bb', '')}"
PV = "${@(os.path.basename(d.getVar('FILE') or '').replace('.bb', '').split('_') + ['1.0'])[1]}"
WORKDIR = "/work"
UNPACKDIR = "/oe/sources"
B = "/oe/build"
D = "/oe/image"
OVERRIDES = "${DISTRO}"
TARGET_ARCH = "aarch64"
SDIMG_KERNELIMAGE = "kernel8.img"
ROOTFS_POSTPROCESS_COMMAND = ""
bindir = "/usr/bin"
sysconfdir = "/etc"
docdir = "/usr/share/doc"
nonarch_libdir = "/usr/lib"
systemd_system_unitdir = "/usr/lib/systemd/system"
IMGDEPLOYDIR = "/oe/deploy"
IMAGE_LINK_NAME = "outpost-image"
BOOTFILES_DIR_NAME = "bootfiles"

def make_dtb_boot_files(d):
    return "board.dtb"
"""

problems = []
checks = 0


def hold(condition, words):
    """One check; `words` say what is wrong when it does not hold."""
    global checks
    checks += 1
    if not condition:
        problems.append(words)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()


def found(pattern, text, group=1):
    match = re.search(pattern, text, re.M)
    return match.group(group) if match else None


def files(ending):
    for folder, _, names in sorted(os.walk(LAYER)):
        for name in sorted(names):
            if name.endswith(ending):
                yield os.path.join(folder, name)


def surroundings(machine, scratch):
    """A BitBake data store as it is before a recipe is read: our layer's, distribution's and machine's configuration."""
    d = bb.data.init()
    bb.parse.siggen = bb.siggen.init(d)
    d.setVar("BBPATH", f"{scratch}:{LAYER}")
    d.setVar("MACHINE", machine)
    d.setVar("LAYERDIR", LAYER)
    d.setVar("__bbclasstype", "recipe")
    base = os.path.join(scratch, "conf/surroundings.inc")
    for file in (base, os.path.join(LAYER, "conf/layer.conf"), os.path.join(LAYER, "conf/distro/outpost.conf")):
        d = bb.parse.handle(file, d, True)
    return d


def functions(recipe, d):
    """Shell and Python functions through BitBake's parsers of both."""
    names = [key for key in d.keys() if d.getVarFlag(key, "func", False)]
    for name in names:
        body = d.getVar(name, False)
        if not body or name.startswith("__anon"):
            continue
        try:
            if d.getVarFlag(name, "python", False):
                compile("def f():\n" + "\n".join("    " + line for line in body.splitlines()), name, "exec")
            else:
                parser = bb.codeparser.ShellParser(name, bb.parse.logger)
                parser.parse_shell(d.getVar(name) or "")
            hold(True, "")
        except Exception as error:  # every kind of failure is a finding
            hold(False, f"{recipe}: {name}: {error}")


def parse(machine, scratch):
    """Every recipe for a machine; gives what each ended up with."""
    recipes = {}
    for path in files(".bb"):
        recipe = os.path.relpath(path, LAYER)
        d = surroundings(machine, scratch)
        try:
            d = bb.parse.handle(path, d)[""]
            hold(True, "")
        except Exception as error:
            hold(False, f"{recipe} for {machine}: {error}")
            continue
        skipped = d.getVar("__SKIPPED")
        hold(not skipped or "OUTPOST_UPDATE" in skipped, f"{recipe} for {machine} is skipped: {skipped}")
        functions(f"{recipe} for {machine}", d)
        recipes[os.path.basename(path).split("_")[0].replace(".bb", "")] = d
    for path in files(".bbappend"):
        # What is appended to is not here: an empty recipe of that name.
        recipe = os.path.join(scratch, os.path.basename(path).replace("_%.bbappend", "_1.0.bb"))
        open(recipe, "w", encoding="utf-8").close()
        d = surroundings(machine, scratch)
        d.setVar("__BBAPPEND", path)
        try:
            d = bb.parse.handle(recipe, d)[""]
            hold("file://" in (d.getVar("SRC_URI") or ""), f"{os.path.relpath(path, LAYER)} appends nothing")
        except Exception as error:
            hold(False, f"{os.path.relpath(path, LAYER)}: {error}")
    return recipes


def taken_from_source(path, tree):
    """Names below ${S} that a recipe uses are in the repository, and so in the release's source."""
    text = open(path, encoding="utf-8").read()
    # `common` and `units` are names of folders in our recipes' functions.
    common = found(r"^    common=\$\{S\}/(\S+)", text)
    text = text.replace("$common", "${S}/" + (common or ""))
    for name in re.findall(r"\$\{S\}/([A-Za-z0-9_./*-]+)", text):
        name = name.rstrip("/")
        pattern = re.compile("^" + re.escape(name).replace(r"\*", "[^/]*") + "(/|$)")
        # Kinds of units that there need not be any of.
        optional = name.endswith(("*.timer", "*.sh", "*.socket"))
        hold(optional or any(pattern.match(file) for file in tree), f"{os.path.relpath(path, LAYER)} takes {name}, which is not in the repository")


def repository(recipes, machine):
    """Numbers and names that are said here and elsewhere are the same."""
    version = found(r'^version = "(.*)"', read("Cargo.toml"))
    box = read("scripts/image/assemble.sh")
    like = "rpi-armel" if machine == "raspberrypi0" else "rpi-arm64"
    board = read(f"board/{like}/board.conf")
    init = read("board/common/init/init") + "".join(
        read(name) for name in git("ls-files", "board/common/init/*.sh"))
    d = recipes["outpost-image"]
    hold(d.getVar("DISTRO_VERSION") == version, f"the distribution's version is not {version}")
    for path in files(".bb"):
        name = os.path.basename(path)
        hold("_" not in name or name.split("_")[1] == f"{version}.bb", f"{name}: the version is {version}")
    sums = hashlib.md5(read("LICENSE").encode()).hexdigest()
    for name in ("outpost", "outpost-agent"):
        hold(f"md5={sums}" in (recipes[name].getVar("LIC_FILES_CHKSUM") or ""), f"{name}: the checksum of LICENSE is {sums}")
        hold(recipes[name].getVar("LICENSE") == found(r'^license = "(.*)"', read("Cargo.toml")), f"{name}: the licence is another in Cargo.toml")
    for name in ("GAP", "BOOT", "SLOT"):
        there = found(rf"^GAP=.*?\b{name}=(\d+)", box) if name != "GAP" else found(r"^GAP=(\d+)", box)
        hold(d.getVar(f"OUTPOST_{name}") == there, f"OUTPOST_{name} is {there} in scripts/image/assemble.sh")
    # sfdisk takes it as a number, which lies on the disk with its last byte first.
    signature = bytes.fromhex(found(r"^label-id: 0x([0-9a-f]{8})", box))[::-1]
    hold(d.getVar("OUTPOST_SIGNATURE").encode() == signature, f"the disk's signature is {signature} in scripts/image/assemble.sh")
    hold(found(r"^FRESH=([0-9a-f]{8})", init) in (signature.hex(), signature[::-1].hex()), "the first start knows an image by another signature")
    boot = (d.getVar("IMAGE_BOOT_FILES") or "").split()
    hold("${" not in " ".join(boot) and "outpost.toml.example" in boot, f"{machine}: files of the boot partition: {boot}")
    hold(("boot.scr" in boot) == (d.getVar("OUTPOST_LOADER") == "uboot"), f"{machine}: boot.scr is for boards with U-Boot")
    if d.getVar("OUTPOST_LOADER") == "uboot":
        for name in ("KERNEL_AT", "PACKED_AT", "INITRD_AT", "BOOT_COMMAND"):
            there = found(rf"\b{name}=(\S+)", board)
            hold(d.getVar(f"OUTPOST_{name}") == there, f"{machine}: {name} is {there} in board/{like}/board.conf")
        hold(d.getVar("OUTPOST_BOARD") == like and found(r'^RESET_PIN="(.+)"$', board), f"{machine}: the reset button's pin is in board/{like}/board.conf")
        for line in (d.getVar("RPI_EXTRA_CONFIG") or "").split("\\n"):
            hold(line in read(f"board/{like}/config.txt").splitlines(), f"{machine}: {line} is not in board/{like}/config.txt")


def accounts():
    """Numbers of accounts are those that the other image has."""
    wanted = {}
    for line in read("board/common/sysusers.conf").splitlines() + read("systemd/sysusers.d/outpost.conf").splitlines():
        words = line.split()
        if words and words[0] in "ug":
            wanted[words[1]] = (words[0], words[2])
    users = {line.split(":")[0]: line.split(":")[2] for line in open(f"{LAYER}/files/outpost-passwd", encoding="utf-8")}
    groups = {line.split(":")[0]: line.split(":")[2] for line in open(f"{LAYER}/files/outpost-group", encoding="utf-8")}
    for name, (kind, number) in wanted.items():
        hold(groups.get(name) == number, f"files/outpost-group: {name} has the number {number}")
        hold(kind == "g" or users.get(name) == number, f"files/outpost-passwd: {name} has the number {number}")
    hold(set(users) | set(groups) <= set(wanted), "files/outpost-passwd or -group has accounts that nothing else knows")


def card(recipes):
    """The partitions of the layout are those of the card image."""
    text = open(f"{LAYER}/wic/outpost.wks.in", encoding="utf-8").read()
    text = re.sub(r"\$\{(\w+)\}", lambda name: recipes["outpost-image"].getVar(name.group(1)) or name.group(0), text)
    parts = [line.split() for line in text.splitlines() if line.startswith("part ")]
    box = read("scripts/image/assemble.sh")
    sizes = [part[part.index("--fixed-size") + 1] for part in parts]
    hold(sizes == [found(r"\bBOOT=(\d+)", box) + "M", found(r"\bSLOT=(\d+)", box) + "M"], f"outpost.wks.in: sizes {sizes}")
    hold(all(part[part.index("--align") + 1] == str(int(found(r"^GAP=(\d+)", box)) * 1024) for part in parts), "outpost.wks.in: partitions begin elsewhere")
    label = parts[0][parts[0].index("--label") + 1]
    hold(f"-n {label} " in box, f"outpost.wks.in: the boot partition's label is {label}, elsewhere another")
    hold("${" not in text, "outpost.wks.in has variables that nobody sets: " + ", ".join(re.findall(r"\$\{\w+\}", text)))


def scripts():
    """Placeholders of U-Boot's script are all filled."""
    recipe = open(f"{LAYER}/recipes-outpost/boot/outpost-boot_0.1.0.bb", encoding="utf-8").read()
    for name in sorted(set(re.findall(r"@[A-Z_]+@", read("board/common/boot/boot.cmd")))):
        hold(f"s/{name}/" in recipe, f"outpost-boot: boot.cmd has the placeholder {name}")


def main():
    machines = sorted(os.path.basename(path)[:-5] for path in files(".conf") if path.startswith(f"{LAYER}/conf/outpost/"))
    tree = git("ls-files", "--cached", "--others", "--exclude-standard")
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("classes-recipe", "conf"):
            os.mkdir(os.path.join(scratch, name))
        for name in FOREIGN:
            open(os.path.join(scratch, "classes-recipe", f"{name}.bbclass"), "w", encoding="utf-8").close()
        with open(os.path.join(scratch, "conf/surroundings.inc"), "w", encoding="utf-8") as file:
            file.write(SURROUNDINGS)
        for machine in machines:
            recipes = parse(machine, scratch)
            # What cannot be read has been said.
            if not problems:
                repository(recipes, machine)
                card(recipes)
    for path in files(".bb"):
        taken_from_source(path, tree)
        for name in re.findall(r"file://(\S+?)[\s\"]", open(path, encoding="utf-8").read()):
            hold(name.startswith(("outpost-${PV}", "outpost-agents-${PV}", "LICENSE")), f"{os.path.relpath(path, LAYER)}: file://{name}")
    for path in files(".bbappend"):
        for name in re.findall(r"file://(\S+?)[\s\"]", open(path, encoding="utf-8").read()):
            hold(os.path.exists(os.path.join(os.path.dirname(path), "files", name)), f"{os.path.relpath(path, LAYER)}: there is no {name}")
    accounts()
    scripts()
    for problem in problems:
        print(f"  {problem}")
    print(f"{checks - len(problems)} passed, {len(problems)} failed, of meta-outpost with {len(machines)} machines")
    return 1 if problems else 0


sys.exit(main())
