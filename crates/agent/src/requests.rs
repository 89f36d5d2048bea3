//! What a server may ask of an agent, and how each request is answered.

use std::sync::Arc;
use std::time::Duration;

use outpost_wire::message::{
    AgentLog, AgentMsg, FromAgent, OpenedUrl, PowerAction as PowerRequest, RunCommands, ServerMsg,
    ServerMsgBody, SessionKind, ShellKind, SysInfo, ToAgent,
};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::agent::{Context, Order};
use crate::consent;
use crate::desktop::Dialog;
use crate::power::PowerAction;
use crate::run_commands::{self, RunAs};
use crate::tunnel::{self, Origin, Requester};
use crate::{browser, fetch, hardware, load, processes, services, wake};

/// Rights that the console needs: remote control and agent console.
const RIGHTS_CONSOLE: u32 = 8 | 16;
const RIGHT_ALL: u32 = 0xFFFF_FFFF;
/// Live output is gathered this long, as servers end agents that repeat themselves quickly.
const LIVE_GATHER: Duration = Duration::from_millis(250);
/// Numbers of known texts of the event log (data-formats §11).
const LOG_CONSOLE: u32 = 17;
const LOG_MESSAGE: u32 = 18;
const LOG_TOAST: u32 = 26;
const LOG_ALERT: u32 = 158;
/// How long messages and toasts stay when nobody closes them.
const MESSAGE_SHOWN: Duration = Duration::from_secs(120);
const TOAST_SHOWN: Duration = Duration::from_secs(10);
const LOG_KILL: u32 = 19;
const LOG_OPEN: u32 = 20;
const LOG_CLIPBOARD_READ: u32 = 21;
const LOG_CLIPBOARD_SET: u32 = 22;
const LOG_POWER: u32 = 25;
const LOG_DESKTOP_CUT: u32 = 134;
const LOG_TERMINALS_CUT: u32 = 135;
const LOG_FILES_CUT: u32 = 136;
const LOG_PORTS_CUT: u32 = 137;

/// Takes one request; what needs time goes on beside the control channel.
pub async fn take(context: &Arc<Context>, origin: &Origin, request: ToAgent) {
    match request {
        ToAgent::Ping => context.uplink.send(&FromAgent::Pong).await,
        ToAgent::Pong => {}
        ToAgent::ServerInfo(info) => {
            context.set_terminal_launch(info.termlaunchcommand.and_then(|launch| launch.linux))
        }
        ToAgent::SysInfo(asked) => {
            let (data, hash) = hardware::inventory();
            if let (Value::Object(data), true) = (data, asked.hash.as_deref() != Some(hash.as_str())) {
                context.uplink.send(&FromAgent::SysInfo(SysInfo { data, sessionid: None })).await;
            }
        }
        ToAgent::RunCommands(request) => beside(context, |context| run(context, request)),
        ToAgent::PowerAction(request) => beside(context, |context| power(context, request)),
        ToAgent::WakeOnLan(request) => {
            let macs: Vec<_> = request.addresses().collect();
            beside(context, |_| async move {
                match wake::wake(&macs).await {
                    Ok(sent) => log::info!("sent {sent} wake-on-LAN packets for {} devices", macs.len()),
                    Err(error) => log::warn!("wake-on-LAN: {error}"),
                }
            });
        }
        ToAgent::Toast(toast) => {
            let user = User {
                session: toast.sessionid,
                id: toast.userid,
                name: toast.username,
                address: None,
                rights: 0,
            };
            let (title, text) = (toast.title.unwrap_or_default(), toast.msg.unwrap_or_default());
            let shown = show_message(context.clone(), user, title, text, Some(TOAST_SHOWN), LOG_TOAST);
            tokio::spawn(shown);
        }
        ToAgent::OpenUrl(asked) => beside(context, |context| async move {
            // The address may be a key to a conversation: it stays out of the log.
            let opened = browser::open(asked.url.as_deref().unwrap_or_default()).await;
            if let Err(error) = &opened {
                log::info!("a page that the server wanted opened was not: {error}");
            }
            let success = Some(opened.is_ok());
            let answer = OpenedUrl { url: asked.url, sessionid: asked.sessionid, success };
            context.uplink.send(&FromAgent::OpenUrl(answer)).await;
        }),
        ToAgent::UninstallAgent => {
            log::warn!("the server orders this agent to uninstall itself");
            context.order(Order::Uninstall);
        }
        ToAgent::Msg(message) => user_request(context, origin, *message).await,
        ToAgent::Other(map) if map.get("action").and_then(Value::as_str) == Some("wget") => {
            beside(context, |context| fetch::fetch(context, origin.clone(), map));
        }
        ToAgent::Other(map) => {
            let action = map.get("action").and_then(Value::as_str).unwrap_or_default();
            log::debug!("request {action:?} is not one this agent knows");
        }
    }
}

/// Starts work that must not hold up the control channel, as long as there is room for it.
fn beside<F>(context: &Arc<Context>, work: impl FnOnce(Arc<Context>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(place) = context.requests.clone().try_acquire_owned() else {
        log::warn!("too many requests at once; one was dropped");
        return;
    };
    let work = Box::pin(work(context.clone()));
    tokio::spawn(async move {
        work.await;
        drop(place);
    });
}

/// The user behind a request, for answers and the event log.
struct User {
    session: Option<String>,
    id: Option<String>,
    name: Option<String>,
    address: Option<String>,
    rights: u32,
}

impl User {
    fn answer(&self, kind: &str, fields: &[(&str, Value)]) -> FromAgent {
        FromAgent::Msg(Box::new(AgentMsg::reply(kind, self.session.as_deref(), fields)))
    }

    /// Text on the console of the user's browser.
    fn say(&self, text: impl Into<String>) -> FromAgent {
        self.answer("console", &[("value", Value::String(text.into()))])
    }

    fn log(&self, number: u32, text: &str, arguments: &[&str]) -> FromAgent {
        FromAgent::Log(Box::new(AgentLog {
            msg: text.chars().take(1000).collect(),
            msgid: Some(number),
            msg_args: arguments.iter().map(|text| Value::String(text.chars().take(1000).collect())).collect(),
            userid: self.id.clone(),
            username: self.name.clone(),
            sessionid: self.session.clone(),
            remoteaddr: self.address.clone(),
            ..AgentLog::default()
        }))
    }
}

async fn user_request(context: &Arc<Context>, origin: &Origin, message: ServerMsg) {
    let ServerMsg { sessionid, rights, consent, userid, username, realname, remoteaddr, body, .. } = message;
    let user = User {
        session: sessionid,
        id: userid,
        name: username,
        address: remoteaddr,
        rights: rights.unwrap_or(0),
    };
    match body {
        ServerMsgBody::Console { value } => console(context, user, value),
        ServerMsgBody::Tunnel(request) => {
            let requester = Requester {
                user: request.guestuserid.clone().or(user.id).unwrap_or_default(),
                guest: request.guestname.clone(),
                name: user.name,
                real_name: realname,
                session: user.session,
                address: user.address,
                rights: user.rights,
                consent: consent.unwrap_or(0),
            };
            // Bounded by the places of `Tunnels` (the dial included), so not one of the small requests.
            tokio::spawn(Box::pin(tunnel::serve(context.clone(), origin.clone(), request, requester)));
        }
        ServerMsgBody::EndTunnel { xuserid, guestname, protocol } => {
            let target = xuserid.unwrap_or_default();
            let allowed = user.rights == RIGHT_ALL || user.id.as_deref() == Some(target.as_str());
            let (kind, number) = match protocol.as_deref() {
                Some("terminal") => (SessionKind::Terminal, LOG_TERMINALS_CUT),
                Some("kvm") => (SessionKind::Kvm, LOG_DESKTOP_CUT),
                Some("files") => (SessionKind::Files, LOG_FILES_CUT),
                Some("tcp") => (SessionKind::Tcp, LOG_PORTS_CUT),
                Some("udp") => (SessionKind::Udp, LOG_PORTS_CUT),
                _ => return,
            };
            if allowed && context.tunnels.cut(&tunnel::seat(&target, guestname.as_deref()), kind) > 0 {
                let text = format!("Sessions of {target} ended by an operator");
                context.uplink.send(&user.log(number, &text, &[&target])).await;
            }
        }
        ServerMsgBody::Ps => beside(context, |context| async move {
            let list: Map<String, Value> = processes::list()
                .into_iter()
                .map(|p| (p.pid.to_string(), json!({"pid": p.pid, "user": p.user, "cmd": p.command})))
                .collect();
            // A text that holds JSON: that is how browsers of MeshCentral read it.
            context
                .uplink
                .send(&user.answer("ps", &[("value", Value::String(Value::Object(list).to_string()))]))
                .await;
        }),
        ServerMsgBody::PsKill { value } => {
            let pid = value.split('|').next().unwrap_or_default();
            match processes::end(pid) {
                Ok(pid) => {
                    context
                        .uplink
                        .send(&user.log(LOG_KILL, &format!("Process {pid} ended"), &[&pid.to_string()]))
                        .await
                }
                Err(error) => context.uplink.send(&user.say(error.to_string())).await,
            }
        }
        ServerMsgBody::Services => {
            let list = Value::Array(services::running()).to_string();
            context.uplink.send(&user.answer("services", &[("value", Value::String(list))])).await;
        }
        ServerMsgBody::CpuInfo { tag } => beside(context, |context| async move {
            let mut fields = vec![("tag", tag.unwrap_or(Value::Null))];
            let sample = load::sample().await;
            for part in ["cpu", "memory", "thermals"] {
                fields.push((part, sample[part].clone()));
            }
            context.uplink.send(&user.answer("cpuinfo", &fields)).await;
        }),
        ServerMsgBody::OpenUrl { url } => beside(context, |context| async move {
            let opened = browser::open(&url).await;
            if opened.is_ok() {
                context.uplink.send(&user.log(LOG_OPEN, &format!("Opened {url}"), &[&url])).await;
            }
            let fields = [("url", Value::String(url)), ("success", Value::Bool(opened.is_ok()))];
            context.uplink.send(&user.answer("openUrl", &fields)).await;
            if let Err(error) = opened {
                context.uplink.send(&user.say(error.to_string())).await;
            }
        }),
        ServerMsgBody::MessageBox { title, msg, timeout } => {
            let timeout = timeout.map(Duration::from_millis);
            tokio::spawn(show_message(context.clone(), user, title, msg, timeout, LOG_MESSAGE));
        }
        ServerMsgBody::AlertBox { title, msg } => {
            tokio::spawn(show_message(context.clone(), user, title, msg, None, LOG_ALERT));
        }
        ServerMsgBody::GetClip { tag } => beside(context, |context| async move {
            let desktops = context.desktops.clone();
            match tokio::task::spawn_blocking(move || desktops.clipboard()).await {
                Ok(Ok(text)) => {
                    context.uplink.send(&user.log(LOG_CLIPBOARD_READ, "Clipboard read", &[])).await;
                    // An empty one is not answered, as browsers expect.
                    if let Some(text) = text {
                        let tag = tag.unwrap_or(Value::Null);
                        let fields = [("data", Value::String(text)), ("tag", tag)];
                        context.uplink.send(&user.answer("getclip", &fields)).await;
                    }
                }
                Ok(Err(error)) => context.uplink.send(&user.say(error.to_string())).await,
                Err(_) => {}
            }
        }),
        ServerMsgBody::SetClip { data } => beside(context, |context| async move {
            let (desktops, length) = (context.desktops.clone(), data.len().to_string());
            match tokio::task::spawn_blocking(move || desktops.set_clipboard(data)).await {
                Ok(Ok(())) => {
                    let text = format!("Clipboard set to {length} bytes");
                    context.uplink.send(&user.log(LOG_CLIPBOARD_SET, &text, &[&length])).await;
                    context.uplink.send(&user.answer("setclip", &[("success", Value::Bool(true))])).await;
                }
                Ok(Err(error)) => context.uplink.send(&user.say(error.to_string())).await,
                Err(_) => {}
            }
        }),
        ServerMsgBody::Other => log::debug!("a message of a kind this agent does not know"),
        _ if user.session.is_some() => {
            context.uplink.send(&user.say("This agent does not offer that.")).await;
        }
        _ => {}
    }
}

/// Shows a message to whoever sits at the device.
async fn show_message(
    context: Arc<Context>,
    user: User,
    title: String,
    text: String,
    timeout: Option<Duration>,
    number: u32,
) {
    let log = user.log(number, &format!("Message shown: \"{title}\", \"{text}\""), &[&title, &text]);
    let dialog = Dialog {
        title,
        text,
        buttons: vec!["OK".into()],
        timeout: Some(timeout.unwrap_or(MESSAGE_SHOWN).min(MESSAGE_SHOWN)),
    };
    // The log is about what was asked for; whether it could be shown is told to whoever asked.
    context.uplink.send(&log).await;
    if let Err(reason) = consent::show(&context.desktops, dialog).await {
        context.uplink.send(&user.say(format!("The message could not be shown: {reason}"))).await;
    }
}

fn console(context: &Arc<Context>, user: User, line: String) {
    let Some(session) = user.session.clone() else { return };
    if user.rights & RIGHTS_CONSOLE != RIGHTS_CONSOLE {
        log::info!("console refused: no rights");
        return;
    }
    beside(context, |context| async move {
        context.uplink.send(&user.log(LOG_CONSOLE, &format!("Console: {line}"), &[&line])).await;
        let answer = context.console.run(&context, &session, line.trim());
        context.uplink.send(&user.say(answer)).await;
    });
}

async fn power(context: Arc<Context>, request: PowerRequest) {
    let user = User {
        session: None,
        id: request.userid,
        name: request.username,
        address: request.remoteaddr,
        rights: 0,
    };
    let number = request.actiontype.number().to_string();
    let forced = if request.forced { "1" } else { "0" };
    match PowerAction::from_request(request.actiontype) {
        Ok(action) => {
            let text = format!("Power action {action:?}");
            context.uplink.send(&user.log(LOG_POWER, &text, &[&number, forced])).await;
            log::warn!("{text} ordered by {}", user.name.as_deref().unwrap_or("the server"));
            // The log entry should leave before the machine does.
            tokio::time::sleep(Duration::from_millis(500)).await;
            if let Err(error) = action.perform().await {
                log::error!("{error}");
                context
                    .uplink
                    .send(&user.log(LOG_POWER, &format!("Power action failed: {error}"), &[&number, forced]))
                    .await;
            }
        }
        Err(error) => log::warn!("{error}"),
    }
}

async fn run(context: Arc<Context>, request: Box<RunCommands>) {
    let request = *request;
    let user = User { session: request.sessionid, id: None, name: None, address: None, rights: 0 };
    let reply = |kind: &str, fields: &[(&str, Value)]| {
        let mut answer = AgentMsg::reply(kind, user.session.as_deref(), fields);
        answer.responseid = request.responseid.clone();
        FromAgent::Msg(Box::new(answer))
    };
    let refuse = |text: String| {
        if !request.reply {
            return user.say(text);
        }
        reply("runcommands", &[("result", Value::String(text)), ("failed", Value::Bool(true))])
    };
    if request.shell != ShellKind::Sh {
        return context
            .uplink
            .send(&refuse("This device runs Linux: only /bin/sh scripts can be run.".into()))
            .await;
    }
    let Ok(_place) = context.scripts.try_acquire() else {
        return context
            .uplink
            .send(&refuse("Too many scripts are running on this device; try again later.".into()))
            .await;
    };
    let run_as = RunAs::from_number(request.run_as_user.into());
    // With a reply, the whole output comes at its end, and before that as it is written if that is wanted;
    // without, it streams to the console.
    let live = if request.reply { request.live } else { user.session.is_some() };
    let (live, shown) = live.then(|| mpsc::channel::<String>(8)).unzip();
    let show = async {
        if let Some(mut pieces) = shown {
            while let Some(mut text) = pieces.recv().await {
                tokio::time::sleep(LIVE_GATHER).await;
                while let Ok(more) = pieces.try_recv() {
                    text.push_str(&more);
                }
                let message = if request.reply {
                    reply("runoutput", &[("text", Value::String(text))])
                } else {
                    user.say(text)
                };
                context.uplink.send(&message).await;
            }
        }
    };
    let script = run_commands::run(&request.cmds, run_as, run_commands::TIME_LIMIT, live);
    let (result, ()) = tokio::join!(script, show);
    match result {
        Ok(ran) if request.reply => {
            let fields = [("result", Value::String(ran.output)), ("exitcode", ran.exit.into())];
            context.uplink.send_for_sure(&reply("runcommands", &fields)).await;
        }
        Ok(_) => {}
        Err(error) => context.uplink.send(&refuse(error.to_string())).await,
    }
}
