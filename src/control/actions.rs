//! Doing something with a device: messages to its agent, tunnels, commands, power.

use std::sync::Arc;

use bytes::Bytes;
use outpost_wire::message::{RunCommands as RunOnAgent, ShellKind, ToAgent};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

pub use super::devices::NodeIds;

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use crate::clock;
use crate::live::Agent;
use crate::model::{Device, Rights};
use crate::relay::TunnelUrl;

/// Longest script (control-protocol §4.6).
pub(super) const LONGEST_SCRIPT: usize = 65_535;
/// Longest text of a toast (control-protocol §4.7).
const LONGEST_TOAST: usize = 4096;
/// Longest message passed on to an agent, in bytes of JSON.
const LONGEST_MESSAGE: usize = 256 << 10;

/// `msg`: anything that goes to a device's agent.
#[derive(Deserialize)]
pub struct Message {
    nodeid: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The connected agent of a device.
fn agent_of(context: &Context, device: &Device) -> Result<Arc<Agent>, Refusal> {
    context.site.agents.get(&device.id).ok_or_else(|| Refusal::new("Agent not connected"))
}

/// What the server tells an agent of the user who asks (agent-protocol §6.1).
fn about_user(context: &Context, device: &Device, rights: Rights) -> Result<Map<String, Value>, Refusal> {
    let access = context.access()?;
    let user = access.user();
    let consent = access.consent(device, context.site.config.domain(context.domain()).consent);
    let mut about = fields! {
        "sessionid" => context.session.id, "rights" => rights, "consent" => consent, "username" => user.name,
        "userid" => user.id, "remoteaddr" => context.remote,
    };
    if let Some(name) = &user.realname {
        about.insert("realname".into(), name.clone().into());
    }
    if let Some(words) = &context.site.config.domain(context.domain()).privacy_bar_text {
        about.insert("privacybartext".into(), words.as_str().into());
    }
    Ok(about)
}

/// Passes a message on to the device's agent.
///
/// # Errors
/// `Unable to route` when the device is not connected, unknown, or the user lacks the right.
pub async fn message(context: &Context, request: Message) -> Result<Answer, Refusal> {
    let unroutable = || Refusal::new("Unable to route");
    let id = request.nodeid.ok_or_else(unroutable)?;
    let (device, rights) = context.device(&id, Rights::NONE).map_err(|_| unroutable())?;
    if !rights.intersects(Rights::REMOTE_CONTROL | Rights::VIEW_ONLY) {
        return Err(unroutable());
    }
    if request.kind == "console" && !rights.contains(Rights::REMOTE_CONTROL | Rights::AGENT_CONSOLE) {
        return Err(Refusal::new("Access denied"));
    }
    let agent = agent_of(context, &device).map_err(|_| unroutable())?;
    let mut message = request.rest;
    for internal in [
        "responseid",
        "tag",
        "requestid",
        "username",
        "realname",
        "sessionid",
        "rights",
        "consent",
        "soptions",
        // Whoever looks does not choose what the person at the device reads of it.
        "privacybartext",
    ] {
        message.remove(internal);
    }
    if request.kind == "tunnel" {
        let url = message.get("value").and_then(Value::as_str).unwrap_or_default();
        let tunnel = TunnelUrl::parse(url).map_err(|error| Refusal::new(format!("value: {error}")))?;
        if tunnel
            .device
            .as_deref()
            .is_some_and(|asked| asked != device.id.as_str() && asked != device.id.key())
        {
            return Err(Refusal::new("value: its nodeid is not that of the request"));
        }
        crate::relay::check_protocol(rights, tunnel.protocol)
            .map_err(|denied| Refusal::new(format!("Access denied: {denied}")))?;
        // The agent dials exactly this: its own server, this device, with a cookie made here for this tunnel.
        let rauth = json!({ "ruserid": context.session.user, "nodeid": device.id, "id": tunnel.id });
        let rauth = outpost_wire::cookie::seal(&context.site.keys.login, &rauth, clock::now_seconds());
        message.insert("value".into(), tunnel.for_agent(&device.id, &rauth).into());
        message.insert("servertlshash".into(), context.site.identity.web.full_hash.to_hex().into());
        let options = &context.site.config.domain(&device.domain).session_options;
        message.insert("soptions".into(), options.clone().into());
    }
    message.insert("action".into(), "msg".into());
    message.insert("type".into(), request.kind.into());
    message.extend(about_user(context, &device, rights)?);
    let text = Value::Object(message).to_string();
    if text.len() > LONGEST_MESSAGE {
        return Err(Refusal::new(format!(
            "The message has {} bytes; at most {LONGEST_MESSAGE} are passed on",
            text.len()
        )));
    }
    agent.send(Bytes::from(text)).map_err(|_| unroutable())?;
    Ok(Answer::Result("OK".into()))
}

/// `runcommands`.
#[derive(Deserialize)]
pub struct RunCommands {
    nodeids: Vec<String>,
    #[serde(rename = "type", default)]
    kind: u32,
    #[serde(default)]
    cmds: String,
    /// A file of one's own on the server with the script, instead of `cmds`.
    cmdpath: Option<String>,
    #[serde(rename = "runAsUser", default, deserialize_with = "small")]
    run_as_user: u8,
    #[serde(default)]
    reply: bool,
}

/// Flags that some clients send as booleans.
pub(super) fn small<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Bool(flag) => Ok(u8::from(flag)),
        Value::Null => Ok(0),
        value => serde_json::from_value(value).map_err(serde::de::Error::custom),
    }
}

/// Runs a script on devices; one answer a device, or its output when `reply` is asked for.
///
/// # Errors
/// Texts as control-protocol §4.6.
pub async fn run_commands(context: &Context, mut request: RunCommands) -> Result<Answer, Refusal> {
    if let Some(link) = request.cmdpath.take() {
        request.cmds = super::server_files::script(context, &link, LONGEST_SCRIPT).await?;
    }
    if request.nodeids.is_empty() || request.nodeids.len() > super::devices::MOST_DEVICES {
        return Err(Refusal::new("Invalid nodeids"));
    }
    if request.cmds.is_empty() || request.cmds.len() > LONGEST_SCRIPT {
        return Err(Refusal::new(format!(
            "cmds: expected 1 to {LONGEST_SCRIPT} bytes, found {}",
            request.cmds.len()
        )));
    }
    if request.kind > 4 {
        return Err(Refusal::new("Invalid command type"));
    }
    let mut answers = Vec::new();
    for id in &request.nodeids {
        answers.push(run_on(context, &request, id).await);
    }
    Ok(Answer::Several(answers))
}

async fn run_on(context: &Context, request: &RunCommands, id: &str) -> Result<Answer, Refusal> {
    let needed =
        if request.kind == 4 { Rights::REMOTE_CONTROL | Rights::AGENT_CONSOLE } else { Rights::RUN_COMMANDS };
    let (device, rights) = context.device(id, needed)?;
    let agent = agent_of(context, &device)?;
    if request.kind == 4 {
        let mut message = about_user(context, &device, rights)?;
        message.extend(fields! { "action" => "msg", "type" => "console", "value" => request.cmds });
        agent
            .send(Bytes::from(Value::Object(message).to_string()))
            .map_err(|_| Refusal::new("Agent not connected"))?;
        return Ok(Answer::Result("OK".into()));
    }
    let windows = outpost_wire::arch::by_id(agent.architecture)
        .is_some_and(|architecture| architecture.platform == outpost_wire::arch::Platform::Windows);
    let shell = match (request.kind, windows) {
        (0 | 1, true) => ShellKind::Cmd,
        (2, true) => ShellKind::PowerShell,
        (0 | 3, false) => ShellKind::Sh,
        _ => return Err(Refusal::new("Invalid command type")),
    };
    let run = ToAgent::RunCommands(Box::new(RunOnAgent {
        shell,
        cmds: request.cmds.clone(),
        run_as_user: request.run_as_user,
        reply: request.reply,
        live: false,
        responseid: context.response_id.clone(),
        sessionid: Some(context.session.id.clone()),
    }));
    agent.send(Bytes::from(run.to_json())).map_err(|_| Refusal::new("Agent not connected"))?;
    let msgid = match request.run_as_user {
        0 => 24,
        1 => 100,
        _ => 99,
    };
    let user = context.user()?;
    let event = context
        .event("node", "runcommands")
        .by(&user)
        .on_device(&device.id)
        .with("cmds", request.cmds.as_str())
        .with("cmdType", request.kind)
        .with("runAsUser", request.run_as_user)
        .says(msgid, &[], "Commands run")
        .to_device(&device, &context.site.store.directory())
        .to(["server-users", user.id.as_str()]);
    context.site.events.announce(event).await;
    Ok(if request.reply { Answer::Nothing } else { Answer::Result("OK".into()) })
}

/// `poweraction`.
#[derive(Deserialize)]
pub struct PowerAction {
    nodeids: Vec<String>,
    actiontype: u32,
    #[serde(default)]
    forced: bool,
}

/// Switches devices off (2), restarts them (3) or puts them to sleep (4); one answer a device.
///
/// # Errors
/// For another action, and per device for a missing right or agent.
pub async fn power(context: &Context, request: PowerAction) -> Result<Answer, Refusal> {
    if (302..=316).contains(&request.actiontype) {
        return Err(Refusal::new("Intel AMT is not known on this device"));
    }
    if !(2..=4).contains(&request.actiontype) {
        return Err(Refusal::new("actiontype: expected 2 (off), 3 (restart) or 4 (sleep)"));
    }
    let user = context.user()?;
    let mut answers = Vec::new();
    for id in request.nodeids.iter().take(super::devices::MOST_DEVICES) {
        answers.push(power_one(context, &user, id, &request).await.map(|()| Answer::Ok));
    }
    Ok(Answer::Several(answers))
}

async fn power_one(
    context: &Context,
    user: &crate::model::User,
    id: &str,
    request: &PowerAction,
) -> Result<(), Refusal> {
    let (device, _) = context.device(id, Rights::POWER)?;
    let agent = agent_of(context, &device)?;
    let message = json!({
        "action": "poweraction", "actiontype": request.actiontype, "forced": request.forced, "userid": user.id,
        "username": user.name, "remoteaddr": context.remote,
    });
    agent.send(Bytes::from(message.to_string())).map_err(|_| Refusal::new("Agent not connected"))?;
    let what = match request.actiontype {
        2 => "off",
        3 => "restart",
        _ => "sleep",
    };
    let event = context
        .event("node", "poweraction")
        .by(user)
        .on_device(&device.id)
        .says(25, &[what, &request.forced.to_string()], format!("Power action: {what}"))
        .to_device(&device, &context.site.store.directory());
    context.site.events.announce(event).await;
    Ok(())
}

/// `wakedevices`: sends magic packets from the server and from connected agents of the same group.
///
/// # Errors
/// Texts as control-protocol §4.7.
pub async fn wake(context: &Context, request: NodeIds) -> Result<Answer, Refusal> {
    if request.nodeids.is_empty() || request.nodeids.len() > super::devices::MOST_DEVICES {
        return Err(Refusal::new("Invalid nodeids"));
    }
    let several = request.nodeids.len() > 1;
    let mut answers = Vec::new();
    for id in &request.nodeids {
        let outcome = wake_one(context, id).await;
        answers.push(match outcome {
            Ok(_) if several => Ok(Answer::Ok),
            Ok(helpers) => Ok(Answer::Result(format!("Used {helpers} device(s) to send wake packets"))),
            Err(refusal) => Err(refusal),
        });
    }
    Ok(Answer::Several(answers))
}

async fn wake_one(context: &Context, id: &str) -> Result<usize, Refusal> {
    let (device, _) = context.device(id, Rights::WAKE)?;
    let network: Option<Map<String, Value>> = context.site.store.get(format!("if{}", device.id)).await?;
    let network = network.ok_or_else(|| Refusal::new("No network information for this device"))?;
    let mut macs: Vec<String> = Vec::new();
    for entry in network.get("netif2").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        for address in entry.as_array().into_iter().flatten() {
            let Some(mac) = address.get("mac").and_then(Value::as_str) else { continue };
            let digits: String = mac.chars().filter(char::is_ascii_hexdigit).collect();
            if digits.len() == 12 && digits != "000000000000" && !macs.contains(&digits) {
                macs.push(digits);
            }
        }
    }
    if macs.is_empty() {
        return Err(Refusal::new("No known MAC addresses for this device"));
    }
    // A server on the internet is on nobody's network.
    if context.site.config.settings.mode.discovers() {
        crate::discovery::wake(&macs).await;
    }
    let message = Bytes::from(json!({ "action": "wakeonlan", "macs": macs }).to_string());
    // Any device may stand on the same network; those help that the user may wake.
    let helpers = context
        .access()?
        .devices()
        .into_iter()
        .filter(|(other, rights)| other.id != device.id && rights.contains(Rights::WAKE))
        .filter_map(|(other, _)| context.site.agents.get(&other.id))
        .filter(|agent| agent.send(message.clone()).is_ok())
        .count();
    Ok(helpers)
}

/// `toast`.
#[derive(Deserialize)]
pub struct Toast {
    nodeids: Vec<String>,
    msg: String,
    title: Option<String>,
}

/// Shows a text at devices.
///
/// # Errors
/// Texts as control-protocol §4.7; one answer a device.
pub async fn toast(context: &Context, request: Toast) -> Result<Answer, Refusal> {
    if request.nodeids.is_empty() || request.nodeids.len() > super::devices::MOST_DEVICES {
        return Err(Refusal::new("Invalid nodeids"));
    }
    if request.msg.is_empty() || request.msg.len() > LONGEST_TOAST {
        return Err(Refusal::new("Invalid message"));
    }
    let user = context.user()?;
    let mut answers = Vec::new();
    for id in &request.nodeids {
        answers.push((|| {
            let (device, _) = context.device(id, Rights::NOTIFY)?;
            let agent = agent_of(context, &device)?;
            let options = &context.site.config.domain(&device.domain).session_options;
            let usual = options.get("notifyTitle").and_then(Value::as_str).unwrap_or("Outpost");
            let message = json!({
                "action": "toast", "title": request.title.as_deref().unwrap_or(usual), "msg": request.msg,
                "sessionid": context.session.id, "username": user.name, "userid": user.id,
            });
            agent.send(Bytes::from(message.to_string())).map_err(|_| Refusal::new("Agent not connected"))?;
            Ok(Answer::Ok)
        })());
    }
    Ok(Answer::Several(answers))
}

/// `uninstallagent`: has the agents of devices remove themselves; one answer a device.
///
/// # Errors
/// `Invalid nodeids`, and per device a missing right or agent.
pub async fn uninstall_agent(context: &Context, request: NodeIds) -> Result<Answer, Refusal> {
    if request.nodeids.is_empty() || request.nodeids.len() > super::devices::MOST_DEVICES {
        return Err(Refusal::new("Invalid nodeids"));
    }
    let mut answers = Vec::new();
    for id in &request.nodeids {
        answers.push((|| {
            let (device, _) = context.device(id, Rights::UNINSTALL)?;
            let agent = agent_of(context, &device)?;
            agent
                .send(Bytes::from(ToAgent::UninstallAgent.to_json()))
                .map_err(|_| Refusal::new("Agent not connected"))?;
            Ok(Answer::Ok)
        })());
    }
    Ok(Answer::Several(answers))
}

/// `agentdisconnect`.
#[derive(Deserialize)]
pub struct DisconnectAgent {
    nodeid: String,
}

/// Ends an agent's connection; it comes back by itself.
///
/// # Errors
/// Missing right, agent not connected.
pub async fn disconnect_agent(context: &Context, request: DisconnectAgent) -> Result<Answer, Refusal> {
    let (device, _) = context.device(&request.nodeid, Rights::AGENT_CONSOLE)?;
    agent_of(context, &device)?.cancel.cancel();
    Ok(Answer::Ok)
}

/// `getClip` and `setClip`: the clipboard of a device.
#[derive(Deserialize)]
pub struct Clip {
    nodeid: String,
    data: Option<String>,
}

fn clip(kind: &str, request: Clip) -> Message {
    let rest = request.data.map(|data| ("data".to_owned(), data.into())).into_iter().collect();
    Message { nodeid: Some(request.nodeid), kind: kind.to_owned(), rest }
}

/// Asks a device's agent for its clipboard; the agent answers the session.
///
/// # Errors
/// As [`message`].
pub async fn get_clip(context: &Context, request: Clip) -> Result<Answer, Refusal> {
    message(context, clip("getclip", Clip { data: None, ..request })).await
}

/// Puts a text into a device's clipboard.
///
/// # Errors
/// As [`message`], and for a text that is missing or too long.
pub async fn set_clip(context: &Context, request: Clip) -> Result<Answer, Refusal> {
    if request.data.as_ref().is_none_or(|data| data.len() > LONGEST_SCRIPT) {
        return Err(Refusal::new(format!("data: expected a text of at most {LONGEST_SCRIPT} bytes")));
    }
    message(context, clip("setclip", request)).await
}
