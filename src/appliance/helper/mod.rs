//! The root helper, `outpost box serve`: a process for each request, started by `outpost-box.socket`. It does for the
//! server the few things that only root may, and decides for itself what is allowed.

mod clock;
mod installation;
mod machine;
mod outcome;
mod rauc;
mod record;
mod sticks;
#[cfg(test)]
mod tests;

use std::io::{BufRead as _, BufReader, Read, Write};

pub use machine::{Kernel, Linux, Machine};

use super::incidents;
use super::protocol::{Cause, LONGEST_REQUEST, Progress, Reply, Request, Status};

/// A request that is not carried out.
#[derive(Debug)]
struct Refused {
    code: Cause,
    message: String,
}

impl Refused {
    fn new(code: Cause, message: impl Into<String>) -> Refused {
        Refused { code, message: message.into() }
    }

    /// Something did not work: `what` was being done.
    fn failed(what: &str, error: impl std::fmt::Display) -> Refused {
        Refused::new(Cause::Failed, format!("{what}: {error}"))
    }
}

/// Where answers go. A server that went away stops nothing that was begun.
struct Answers<'a> {
    out: &'a mut dyn Write,
}

impl Answers<'_> {
    fn say(&mut self, reply: &Reply) {
        let Ok(mut line) = serde_json::to_vec(reply) else { return };
        line.push(b'\n');
        if let Err(error) = self.out.write_all(&line).and_then(|()| self.out.flush()) {
            log::debug!("nobody listens any more: {error}");
        }
    }

    fn progress(&mut self, percent: u8, step: &str) {
        self.say(&Reply::Progress(Progress { percent, step: step.to_owned() }));
    }
}

/// Serves one connection.
pub fn serve(input: impl Read, out: &mut dyn Write, machine: &Machine) {
    let mut answers = Answers { out };
    let reply = read(input).and_then(|request| {
        // Whoever reads the journal sees what was asked of root.
        if !matches!(request, Request::Status | Request::Sticks) {
            log::info!("asked for {request:?}");
        }
        perform(request, machine, &mut answers)
    });
    let reply = reply.unwrap_or_else(|Refused { code, message }| {
        log::warn!("refused: {message}");
        Reply::Refused { code, message }
    });
    answers.say(&reply);
}

fn read(input: impl Read) -> Result<Request, Refused> {
    let bad = |message: String| Refused::new(Cause::BadRequest, message);
    let mut line = Vec::new();
    let longest = LONGEST_REQUEST as u64;
    BufReader::new(input)
        .take(longest + 1)
        .read_until(b'\n', &mut line)
        .map_err(|error| bad(format!("the request could not be read: {error}")))?;
    if line.len() as u64 > longest {
        return Err(bad(format!("a request has at most {LONGEST_REQUEST} bytes")));
    }
    serde_json::from_slice(&line).map_err(|error| bad(format!("not a request: {error}")))
}

fn perform(request: Request, machine: &Machine, answers: &mut Answers<'_>) -> Result<Reply, Refused> {
    match request {
        Request::Status => status(machine).map(|status| Reply::Status(Box::new(status))),
        Request::Sticks => sticks::bundles(machine).map(|bundles| Reply::Sticks { bundles }),
        Request::Install { file, version } => {
            installation::of_staged(machine, &file, version.as_deref(), answers)
        }
        Request::InstallFromStick { stick, file } => installation::of_stick(machine, &stick, &file, answers),
        Request::Restart => machine.systemctl("reboot").map(|()| Reply::Done),
        Request::PowerOff => machine.systemctl("poweroff").map(|()| Reply::Done),
        Request::FactoryReset => {
            // Read by the initial RAM disk before the data is mounted for anybody else.
            record::write(&machine.state.join("factory-reset"), b"asked for in the app\n")
                .map_err(|error| Refused::failed("the reset could not be noted", error))?;
            machine.systemctl("reboot").map(|()| Reply::Done)
        }
        Request::SetTime { ms } => clock::set(machine, ms).map(|()| Reply::Done),
    }
}

fn status(machine: &Machine) -> Result<Status, Refused> {
    let booted = machine.booted()?;
    let installing = installation::is_running(machine);
    let seen = match rauc::status(machine) {
        // It says nothing else while it installs.
        Err(Refused { code: Cause::Busy, .. }) if installing => rauc::Seen::default(),
        seen => seen?,
    };
    let left = machine.tries_left();
    let update = outcome::last_update(machine);
    let slots = outcome::slots(booted, &seen, left, update.as_ref());
    Ok(Status {
        compatible: seen.compatible,
        booted,
        confirmed: left.is_none_or(|left| left.of(booted) >= machine::TRIES_OF_NEW),
        slots,
        outcome: update.map(|update| outcome::of(machine, update, booted)),
        incidents: incidents::read(&machine.run.join("incidents")),
        installing,
        synchronised: clock::is_synchronised(machine),
    })
}
