"""What libmeshctrl finds on a server: `libmeshctrl.py <url> <group id> <node id> <folder>`, one JSON line a case.

With a file called `restarted` as the folder it stays until that appears, and sees whether its session still works.

Every case is the same on both servers; the harness compares the lines.
"""

import asyncio
import datetime
import io
import json
import os
import sys

import meshctrl

URL, GROUP, NODE, FOLDER = sys.argv[1:5]
ADMIN, PASSWORD = "admin", "correct horse battery"
PATIENCE = 12
names = {GROUP: "{GROUP}", NODE: "{NODE}", FOLDER: "{FOLDER}"}


def plain(value):
    """A result as text, with the ids that are known by their names."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    for known, name in names.items():
        text = text.replace(known, name)
    return text


async def case(name, work, seconds=PATIENCE):
    """Runs one case; what it gives or raises is its outcome."""
    value = None
    try:
        value = await asyncio.wait_for(work, seconds)
        outcome = plain(value)
    except (asyncio.TimeoutError, TimeoutError):
        outcome = "no answer in time"
    except BaseExceptionGroup as group:
        first = group.exceptions[0]
        outcome = f"{type(first).__name__}: {plain(str(first))}"
    except Exception as error:  # Whatever it is, both servers must make it happen.
        outcome = f"{type(error).__name__}: {plain(str(error))}"
    print(json.dumps({"name": name, "outcome": outcome}), flush=True)
    return value


def session(user=ADMIN, password=PASSWORD, **more):
    return meshctrl.Session(URL, user=user, password=password, ignore_ssl=True, **more)


async def opened(**how):
    one = session(**how)
    await asyncio.wait_for(one.initialized.wait(), PATIENCE)
    return one


async def logins():
    async def login(**how):
        async with session(**how) as one:
            return (await one.user_info())["_id"]

    await case("login with a password", login())
    await case("login with a wrong password", login(password="wrong"))
    await case("login of an unknown user", login(user="nobody"))

    async def with_token():
        async with session() as one:
            token = await one.add_login_token("l-token", expire=10)
            name, password = token["tokenUser"], token["tokenPass"]
            listed = [entry["name"] for entry in await one.list_login_tokens() if entry["name"] == "l-token"]
            used = await login(user=name, password=password)
            left = [entry["name"] for entry in await one.remove_login_token(["l-token"])if entry["name"] == "l-token"]
            try:
                again = await login(user=name, password=password)
            except Exception as error:
                again = type(error).__name__
            return [listed, used, left, again]

    await case("login with a login token, which is then removed", with_token())


async def people(one):
    await case("server_info", asyncio.wait_for(domain_of(one), 5))
    await case("ping", kind(one.ping(), "action"))
    await case("add_user", one.add_user("l-bob", "correct horse battery", email="bob@example.com", realname="Bob"))
    await case("add_user, the same again", one.add_user("l-bob", "correct horse battery"))
    await case("add_user, a bad name", one.add_user("l bob", "correct horse battery"))
    await case("edit_user", one.edit_user("l-bob", realname="Robert"))
    await case("edit_user, an unknown user", one.edit_user("l-none", realname="x"))
    await case("list_users", user_names(one))
    await case("list_user_sessions", has_own_session(one))
    group = await case("add_user_group", made_user_group(one))
    if group:
        await case("add_users_to_user_group", one.add_users_to_user_group(["l-bob", "l-none"], group))
        await case("list_user_groups", user_group_names(one))
        await case("remove_user_from_user_group", one.remove_user_from_user_group("l-bob", group))
        await case("remove_user_group", one.remove_user_group(group))
    await case("remove_user_group, an unknown one", one.remove_user_group("A" * 64))


async def domain_of(one):
    return (await one.server_info())["domain"]


async def kind(work, field):
    return (await work)[field]


async def user_names(one):
    return sorted((user["_id"], user.get("realname"), user.get("email")) for user in await one.list_users() if "l-" in user["_id"])


async def has_own_session(one):
    return "user//admin" in await one.list_user_sessions()


async def made_user_group(one):
    group = await one.add_user_group("l-staff", description="Those who work")
    names[group.id.split("/")[-1]] = "{STAFF}"
    return group.id


async def user_group_names(one):
    return [(group.name, group.description, sorted(group.links or {})) for group in await one.list_user_groups() if group.name == "l-staff"]


async def device_groups(one):
    async def add():
        group = await one.add_device_group("l-lab", description="A lab")
        names[group.meshid] = "{LAB}"
        names[group.meshid.split("/")[-1]] = "{LAB}"
        return group.meshid

    group = await case("add_device_group", add())

    async def listed():
        return [(each.name, each.description) for each in await one.list_device_groups() if each.name == "l-lab"]

    await case("list_device_groups", listed())
    await case("edit_device_group", one.edit_device_group(group, name="l-lab", description="The lab", flags=2))
    await case("edit_device_group, an unknown one", one.edit_device_group("A" * 64, name="x"))
    rights = meshctrl.constants.MeshRights.remotecontrol
    await case("add_users_to_device_group", one.add_users_to_device_group(["l-bob", "l-none"], group, rights=rights))
    await case("remove_users_from_device_group", one.remove_users_from_device_group(["l-bob"], group))

    async def link():
        made = await one.generate_invite_link("l-lab", 1)
        return [made["meshid"], made["expire"], sorted(made)]

    await case("generate_invite_link", link())
    await case("send_invite_email", one.send_invite_email("l-lab", "x@example.com"))
    await case("remove_device_group", one.remove_device_group(group))
    await case("remove_device_group, by an unknown name", one.remove_device_group("l-none", isname=True))


async def devices(one):
    async def listed(**how):
        found = [device for device in await one.list_devices(**how) if device.nodeid == NODE]
        return [(device.name, device.connected, device.powered_on, device.meshname, device.meshtype) for device in found]

    await case("list_devices", listed())
    await case("list_devices, in a group", listed(meshid=GROUP))
    await case("list_devices, in detail", listed(details=True))

    async def info():
        device = await one.device_info(NODE)
        return [device.nodeid, device.name, device.connected, device.mesh.name if device.mesh else None, bool(device.lastaddr)]

    await case("device_info", info())
    await case("device_info, an unknown device", one.device_info("A" * 64))
    await case("edit_device", one.edit_device(NODE, description="Seen by libmeshctrl", tags=["l"], icon=meshctrl.constants.Icon.server))
    await case("add_users_to_device", one.add_users_to_device(["l-bob"], NODE, rights=8))
    await case("remove_users_from_device", one.remove_users_from_device(NODE, ["l-bob"]))
    await case("list_events", has_events(one))
    await case("broadcast", one.broadcast("l-hello"))
    await case("device_message", one.device_message(NODE, "hello"))
    await case("device_toast", one.device_toast([NODE], "hello"))
    await case("wake_devices", one.wake_devices([NODE]))

    async def share():
        made = await one.add_device_share(NODE, "l-guest", start=datetime.datetime.now(), duration=600)
        before = [(each.name, each.nodeid) for each in await one.list_device_shares(NODE) if each.name == "l-guest"]
        removed = await one.remove_device_share(NODE, made.shareid)
        after = [each.name for each in await one.list_device_shares(NODE) if each.name == "l-guest"]
        return [bool(made.url), before, removed, after]

    await case("device shares", share())


async def has_events(one):
    events = await one.list_events(limit=5)
    return [len(events), sorted({type(event).__name__ for event in events})]


async def listening(one):
    async def creation():
        async def hear():
            async for event in one.events({"event": {"action": "accountcreate"}}):
                return event["event"]["account"]["_id"]

        task = asyncio.create_task(hear())
        await asyncio.sleep(0.2)
        await one.add_user("l-heard", "correct horse battery")
        return await task

    await case("events, with a filter", creation())

    async def raw():
        async def hear():
            async for message in one.raw_messages():
                if json.loads(message).get("action") == "pong":
                    return "pong"

        task = asyncio.create_task(hear())
        await asyncio.sleep(0.2)
        await one.ping()
        return await task

    await case("raw_messages", raw())

    async def between():
        async with session() as other:
            async def hear():
                async for message in other.events({"action": "interuser"}):
                    return message["data"]

            task = asyncio.create_task(hear())
            await asyncio.sleep(0.2)
            await one.interuser({"hello": 1}, user="admin")
            return await task

    await case("interuser", between())


async def at_work(one):
    async def ran(command, **how):
        result = await one.run_command(NODE, command, timeout=8, **how)
        return [result[NODE]["complete"], result[NODE]["result"]]

    await case("run_command", ran("echo hello"))
    await case("run_command, without its output", ran("true", ignore_output=True))
    await case("run_command, an unknown device", one.run_command("A" * 64, "true", timeout=4))

    async def shell():
        async with one.shell(NODE) as terminal:
            await terminal.write('echo "he"llo-there\n')
            return "hello-there" in await terminal.expect("hello-there", timeout=8)

    await case("shell", shell(), 15)

    async def smart():
        # The library waits for two prompts before the first command.
        async with one.shell(NODE) as terminal:
            # The line itself must not look like a prompt when the terminal echoes it.
            await terminal.write('PS1=l-"prompt: "\n')
            smart = meshctrl.shell.SmartShell(terminal, r"l-prompt: ")
            await terminal.write("\n")
            await asyncio.wait_for(smart._init_task, 8)
            return "hello-there" in await smart.send_command('echo "he"llo-there', timeout=8)

    await case("smart_shell", smart(), 20)


async def files(one):
    path = os.path.join(FOLDER, "device")

    async def listing(explorer, folder):
        return sorted((entry["n"], entry["t"]) for entry in await explorer.ls(folder))

    async def story():
        steps = []
        async with one.file_explorer(NODE) as explorer:
            steps.append(["mkdir", await explorer.mkdir(path, timeout=8)])
            data = bytes(range(256)) * 1000
            up = await explorer.upload(io.BytesIO(data), os.path.join(path, "up.bin"), timeout=15)
            steps.append(["upload", up["result"], up["size"]])
            steps.append(["ls", await listing(explorer, path)])
            down = io.BytesIO()
            got = await explorer.download(os.path.join(path, "up.bin"), down, skip_http_attempt=True, timeout=15)
            steps.append(["download", got["result"], down.getvalue() == data])
            by_http = io.BytesIO()
            got = await explorer.download(os.path.join(path, "up.bin"), by_http, skip_ws_attempt=True, timeout=15)
            steps.append(["download over HTTP", got["result"], by_http.getvalue() == data])
            renamed = await explorer.rename(path, "up.bin", "kept.bin", timeout=8)
            steps.append(["rename", bool(renamed)])
            steps.append(["ls", await listing(explorer, path)])
            removed = await explorer.rm(path, "kept.bin", recursive=False, timeout=8)
            steps.append(["rm", bool(removed)])
            steps.append(["ls", await listing(explorer, path)])
        return steps

    await case("files: mkdir, upload, ls, download, rename, rm", story(), 60)

    async def missing():
        async with one.file_explorer(NODE) as explorer:
            return await explorer.download(os.path.join(FOLDER, "missing"), io.BytesIO(), timeout=8)

    await case("files: download of what is not there", missing(), 20)

    async def shortcuts():
        up = await one.upload(NODE, io.BytesIO(b"short"), os.path.join(FOLDER, "short.txt"), timeout=10)
        down = await one.download(NODE, os.path.join(FOLDER, "short.txt"), timeout=10)
        return [up["result"], down.read().decode()]

    await case("files: upload and download in one call", shortcuts(), 30)


async def main():
    await logins()
    one = await opened()
    await people(one)
    await device_groups(one)
    await devices(one)
    await listening(one)
    await at_work(one)
    await files(one)
    await case("remove_user", one.remove_user("l-bob"))
    await case("remove_user, again", one.remove_user("l-bob"))
    await case("close", one.close())


async def reconnecting():
    """Stays while the server is started again (then FOLDER appears): says `ready`, and then how it went."""
    one = await opened(auto_reconnect=True)
    before = await one.ping()
    print("ready", flush=True)
    while not os.path.exists(FOLDER):
        await asyncio.sleep(0.05)
    after = None
    for _ in range(60):
        try:
            after = await asyncio.wait_for(one.ping(timeout=1), 2)
            break
        except Exception:
            await asyncio.sleep(0.25)
    print(json.dumps({"name": "reconnect", "outcome": [before["action"], after and after["action"]]}), flush=True)
    await one.close()


asyncio.run(reconnecting() if FOLDER.endswith("restarted") else main())
