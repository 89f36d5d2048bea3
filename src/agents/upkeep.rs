//! What an agent runs: gives it its core, and a new executable when its own is of another build
//! (agent-protocol §5.3, §5.4).

use std::sync::Arc;

use bytes::Bytes;
use outpost_wire::arch::{self, Architecture};
use outpost_wire::command::ServerCommand;
use outpost_wire::handshake::{Capabilities, VerifiedAgent};
use outpost_wire::id::{DeviceId, Hash384};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant};

use super::bundle::Bundle;
use super::core::{Core, CoreName};
use super::update::{self, Candidate, Method, Stage, Transfer, Update};
use crate::live::{CoreChoice, Order};
use crate::site::Site;

/// A core is given so often, and then no more: an agent that does not take it would be given it for ever
/// (agent-protocol §5.3).
const PUSHES: u32 = 5;
/// How long an agent that keeps coming back goes without a core, in case that is what ends it.
const REST: Duration = Duration::from_secs(120);

/// What a session does next for its agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send it this.
    Send(Bytes),
    /// It runs what it is to run: tell it who the server is, ask for what it knows.
    Settled,
    /// It runs no core.
    NoCore,
    /// End the connection: it does not go on with an update.
    Stuck,
}

/// The state of one agent's core and executable.
pub(super) struct Upkeep {
    site: Arc<Site>,
    device: DeviceId,
    architecture: Option<&'static Architecture>,
    capabilities: Capabilities,
    committed: Option<i64>,
    choice: CoreChoice,
    pushes: u32,
    update: Option<Update>,
    /// Until then it is left without a core.
    rests: Option<Instant>,
}

fn send(command: &ServerCommand) -> Step {
    Step::Send(command.encode().into())
}

impl Upkeep {
    /// The upkeep of an agent that has just connected. `restless`: it keeps coming back.
    pub(super) fn new(site: Arc<Site>, device: DeviceId, agent: &VerifiedAgent, restless: bool) -> Upkeep {
        Upkeep {
            site,
            device,
            architecture: arch::by_id(agent.info.agent_id),
            capabilities: agent.info.capabilities,
            committed: agent.commit_date.as_deref().and_then(update::committed),
            choice: CoreChoice::Default,
            pushes: 0,
            update: None,
            rests: restless.then(|| Instant::now() + REST),
        }
    }

    fn runs_cores(&self) -> bool {
        self.capabilities.contains(Capabilities::JAVASCRIPT)
    }

    /// What to begin with, and again when there is another bundle.
    pub(super) fn begin(&mut self) -> Vec<Step> {
        if self.update.is_some() {
            return Vec::new();
        }
        self.pushes = 0;
        if self.rests.is_some() && self.runs_cores() {
            log::warn!(target: "agent", "{} keeps coming back; it goes without a core for a while", self.device);
            return vec![send(&ServerCommand::ClearCore), Step::Settled];
        }
        let bundle = self.site.official.bundle.get();
        let updates = |bundle: &Arc<Bundle>| {
            self.site.config.settings.upkeep.updates
                && !self.capabilities.contains(Capabilities::RECOVERY)
                && self.architecture.is_some_and(|row| row.updates && bundle.manifest.agent(row.id).is_some())
        };
        if bundle.as_ref().is_some_and(updates) {
            return vec![send(&ServerCommand::AskAgentHash)];
        }
        self.ask_core()
    }

    fn ask_core(&self) -> Vec<Step> {
        if self.runs_cores() { vec![send(&ServerCommand::AskCoreHash)] } else { vec![Step::Settled] }
    }

    /// It has said which executable it is.
    pub(super) fn executable(&mut self, executable: Hash384) -> Vec<Step> {
        if self.update.is_some() {
            return Vec::new();
        }
        let Some((bundle, row)) = self.site.official.bundle.get().zip(self.architecture) else {
            return self.ask_core();
        };
        let candidate = Candidate {
            architecture: row.id,
            capabilities: self.capabilities,
            committed: self.committed,
            executable,
        };
        let method = update::method(&bundle, candidate, self.site.config.settings.upkeep)
            .filter(|method| *method == Method::Blocks || self.runs_cores());
        let Some(method) = method else { return self.ask_core() };
        let wanted = bundle.manifest.agent(row.id).and_then(|file| file.executable_hash);
        if !wanted.is_some_and(|wanted| self.site.official.may_update(&self.device, wanted)) {
            log::warn!(
                target: "agent", NODE_ID:% = self.device;
                "{} was updated several times and is still another build; it stays as it is", self.device
            );
            return self.ask_core();
        }
        log::info!(target: "agent", NODE_ID:% = self.device; "{} is of another build and will be updated", self.device);
        self.update = Some(Update::wait(method, &self.site.official.updates));
        Vec::new()
    }

    /// Waits until something is to be done by itself: the agent's turn to be updated, or a time that is over.
    pub(super) async fn due(&mut self) -> Option<OwnedSemaphorePermit> {
        let at = self.update.as_ref().and_then(Update::deadline).or(self.rests);
        match (&mut self.update, at) {
            (Some(Update::Waiting { turn, .. }), _) => match turn.await {
                Ok(turn) => Some(turn),
                Err(_) => std::future::pending().await,
            },
            (_, Some(at)) => {
                tokio::time::sleep_until(at).await;
                None
            }
            (_, None) => std::future::pending().await,
        }
    }

    /// What [`Upkeep::due`] waited for has come.
    pub(super) async fn go_on(&mut self, turn: Option<OwnedSemaphorePermit>) -> Vec<Step> {
        match (self.update.take(), turn) {
            (Some(Update::Waiting { method: Method::ByCore, .. }), Some(turn)) => {
                self.update = Some(Update::by_core(turn));
                vec![send(&ServerCommand::ClearCore), send(&ServerCommand::AskCoreHash)]
            }
            (Some(Update::Waiting { .. }), Some(turn)) => self.start_transfer(turn).await,
            (Some(Update::Sending(_)), _) => {
                log::warn!(target: "agent", "{} does not go on with its update", self.device);
                vec![Step::Stuck]
            }
            (Some(Update::ByCore { .. }), _) => {
                log::warn!(target: "agent", "{} has not updated itself in time", self.device);
                self.ask_core()
            }
            (update, _) => {
                self.update = update;
                self.rests = None;
                self.begin()
            }
        }
    }

    async fn start_transfer(&mut self, turn: OwnedSemaphorePermit) -> Vec<Step> {
        let bundle = self.site.official.bundle.get();
        let file = bundle
            .as_ref()
            .zip(self.architecture)
            .and_then(|(bundle, row)| bundle.manifest.agent(row.id).map(|file| (bundle, file)));
        // The bundle was removed meanwhile.
        let Some((bundle, file)) = file else { return self.ask_core() };
        let block_size = self.site.config.settings.upkeep.block_size;
        match Transfer::open(bundle, file, block_size, turn).await {
            Ok(transfer) => {
                self.update = Some(Update::Sending(transfer));
                let mut steps = vec![send(&ServerCommand::ClearCore), send(&ServerCommand::UpdateStart)];
                steps.extend(self.next_block().await);
                steps
            }
            Err(error) => {
                log::error!("the agent {} cannot be sent: {error}", file.path);
                self.ask_core()
            }
        }
    }

    /// It has stored a block.
    pub(super) async fn next_block(&mut self) -> Vec<Step> {
        let Some(Update::Sending(transfer)) = &mut self.update else { return Vec::new() };
        match transfer.next().await {
            Ok((messages, was_last)) => {
                if was_last {
                    // It restarts with the new executable, or stays without a core and is tried again when
                    // it comes back.
                    self.update = None;
                    log::info!(target: "agent", NODE_ID:% = self.device; "{} has its update", self.device);
                }
                messages.into_iter().map(Step::Send).collect()
            }
            Err(error) => {
                log::error!("an agent's executable cannot be read: {error}");
                self.update = None;
                vec![Step::Stuck]
            }
        }
    }

    fn wanted(&self) -> Option<CoreName> {
        let row = self.architecture?;
        if matches!(self.update, Some(Update::ByCore { .. })) || self.choice == CoreChoice::Recovery {
            Some(CoreName::recovery(row))
        } else if self.choice == CoreChoice::Tiny {
            Some(CoreName::Tiny)
        } else if self.capabilities.contains(Capabilities::RECOVERY) {
            Some(CoreName::agent_recovery(row))
        } else {
            CoreName::main(row)
        }
    }

    /// It has said which core it has.
    pub(super) async fn core(&mut self, has: Option<Hash384>) -> Vec<Step> {
        let mut steps = Vec::new();
        if has.is_none() {
            steps.push(Step::NoCore);
        }
        if matches!(self.update, Some(Update::Waiting { .. } | Update::Sending(_))) || self.rests.is_some() {
            return steps;
        }
        let approve = |mut steps: Vec<Step>| {
            steps.extend([send(&ServerCommand::CoreOk), Step::Settled]);
            steps
        };
        let own = matches!(self.choice, CoreChoice::Clear | CoreChoice::Custom(_));
        if own || has.is_some_and(|hash| hash.is_zero()) {
            return approve(steps);
        }
        let Some(bundle) = self.site.official.bundle.get() else {
            if has.is_some() {
                return approve(steps);
            }
            log::info!(
                target: "agent",
                "{} has no core to run, so it can do little more than be online: no official agents are imported",
                self.device
            );
            steps.push(Step::Settled);
            return steps;
        };
        match self.make(&bundle).await {
            Some(core) if has == Some(core.hash) => {
                self.pushes = 0;
                approve(steps)
            }
            Some(_) if self.pushes >= PUSHES => {
                log::warn!(target: "agent", "{} does not take its core", self.device);
                steps.push(Step::Settled);
                steps
            }
            Some(core) => {
                self.pushes += 1;
                if let Some(Update::ByCore { stage: stage @ Stage::Clearing, .. }) = &mut self.update {
                    *stage = Stage::Starting;
                }
                steps.push(Step::Send(core.message(self.capabilities.contains(Capabilities::COMPRESSION))));
                steps
            }
            None if has.is_some() && self.pushes < PUSHES => {
                self.pushes += 1;
                steps.push(send(&ServerCommand::ClearCore));
                steps
            }
            None => {
                steps.push(Step::Settled);
                steps
            }
        }
    }

    async fn make(&mut self, bundle: &Arc<Bundle>) -> Option<Arc<Core>> {
        let minified = self.site.config.settings.upkeep.minify_core;
        match self.site.official.cores.get(bundle, self.wanted()?, minified).await {
            Ok(core) => core,
            Err(error) => {
                log::error!("a core for {} cannot be made: {error}", self.device);
                None
            }
        }
    }

    /// Its core has started and told about itself.
    pub(super) fn started(&mut self) -> Vec<Step> {
        let Some(Update::ByCore { stage: stage @ Stage::Starting, .. }) = &mut self.update else {
            return Vec::new();
        };
        *stage = Stage::Asked;
        let steps = self.where_to_fetch(None);
        if steps.is_empty() {
            self.update = None;
            return self.ask_core();
        }
        steps
    }

    /// Its core asks for the executable of the bundle, because somebody told it to update.
    pub(super) fn wants_executable(&mut self, session: Option<&str>) -> Vec<Step> {
        let settings = self.site.config.settings.upkeep;
        if settings.updates && self.update.is_none() { self.where_to_fetch(session) } else { Vec::new() }
    }

    fn where_to_fetch(&self, session: Option<&str>) -> Vec<Step> {
        let bundle = self.site.official.bundle.get();
        let file = bundle
            .as_ref()
            .zip(self.architecture)
            .filter(|(_, row)| row.updates)
            .and_then(|(bundle, row)| Some((row.id, bundle.manifest.agent(row.id)?.file_hash?)));
        let Some((id, hash)) = file else { return Vec::new() };
        let mut message = json!({
            "action": "agentupdate", "url": format!("*/meshagents?id={id}"),
            "hash": hash.to_hex().to_lowercase(),
            "servertlshash": self.site.identity.web.full_hash.to_hex().to_lowercase(),
        });
        if let Some(session) = session {
            message["sessionid"] = session.into();
        }
        vec![Step::Send(message.to_string().into())]
    }

    /// Somebody wants it to run something else.
    pub(super) fn order(&mut self, order: Order) -> Vec<Step> {
        if self.update.is_some() {
            log::info!(target: "agent", "{} is being updated; what was asked of it is left", self.device);
            return Vec::new();
        }
        self.rests = None;
        self.pushes = 0;
        match order {
            Order::Update => self.begin(),
            Order::Core(choice) => {
                self.choice = choice;
                match &self.choice {
                    CoreChoice::Default | CoreChoice::Recovery | CoreChoice::Tiny => {
                        vec![send(&ServerCommand::AskCoreHash)]
                    }
                    CoreChoice::Clear => vec![send(&ServerCommand::ClearCore)],
                    CoreChoice::Custom(script) => match Core::of(script) {
                        Ok(core) => {
                            let compressed = self.capabilities.contains(Capabilities::COMPRESSION);
                            vec![Step::Send(core.message(compressed))]
                        }
                        Err(error) => {
                            log::error!("a core for {} cannot be made: {error}", self.device);
                            Vec::new()
                        }
                    },
                }
            }
        }
    }
}
