//! What agents run: another core for a while, a newer executable.

use serde::Deserialize;

use super::context::Context;
use super::devices::{MOST_DEVICES, NodeIds};
use super::reply::{Answer, Refusal};
use crate::live::{CoreChoice, Order};
use crate::model::Rights;

/// `uploadagentcore`.
#[derive(Deserialize)]
pub struct UploadCore {
    nodeids: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
    path: Option<String>,
}

/// Has agents run another core until they disconnect; one answer a device.
///
/// # Errors
/// `Invalid nodeids`, an unknown kind, and per device a missing right or agent.
pub async fn upload(context: &Context, request: UploadCore) -> Result<Answer, Refusal> {
    let choice = match request.kind.as_str() {
        "default" => CoreChoice::Default,
        "clear" => CoreChoice::Clear,
        "recovery" => CoreChoice::Recovery,
        "tiny" => CoreChoice::Tiny,
        "custom" => custom(context, request.path.as_deref()).await?,
        other => {
            let shown: String = other.chars().take(40).collect();
            return Err(Refusal::new(format!(
                "type: expected default, clear, recovery, tiny or custom, found `{shown}`"
            )));
        }
    };
    order(context, &request.nodeids, Rights::AGENT_CONSOLE, &Order::Core(choice))
}

/// A core of one's own: a file on this server.
async fn custom(_: &Context, path: Option<&str>) -> Result<CoreChoice, Refusal> {
    match path {
        None | Some("") => Err(Refusal::new("path: the file with the core is missing")),
        // Files of users and groups on the server come with their page.
        Some(_) => Err(Refusal::new("path: there are no files on this server")),
    }
}

/// `updateAgents`: has agents get the executable of the bundle, when theirs is another; one answer a device.
///
/// # Errors
/// `Invalid nodeids`, nothing to update with, and per device a missing right or agent.
pub async fn update(context: &Context, request: NodeIds) -> Result<Answer, Refusal> {
    if context.site.official.bundle.get().is_none() {
        return Err(Refusal::new("No official agents are imported"));
    }
    if !context.site.config.settings.upkeep.updates {
        return Err(Refusal::new("Agents are not updated here: noAgentUpdate is set"));
    }
    order(context, &request.nodeids, Rights::FULL, &Order::Update)
}

fn order(context: &Context, ids: &[String], needed: Rights, order: &Order) -> Result<Answer, Refusal> {
    if ids.is_empty() || ids.len() > MOST_DEVICES {
        return Err(Refusal::new("Invalid nodeids"));
    }
    let one = |id: &String| {
        let (device, _) = context.device(id, needed)?;
        let agent = context.site.agents.get(&device.id).ok_or_else(|| Refusal::new("Agent not connected"))?;
        agent.order(order.clone()).map_err(|_| Refusal::new("Agent not connected"))?;
        Ok(Answer::Ok)
    };
    Ok(Answer::Several(ids.iter().map(one).collect()))
}
