//! Lazy changes that are on their way to the disk, so that readers see them all the same.

use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use super::engine::{Engine, EventQuery, Op, PowerChange, StoreError};

/// Changes that wait to be written, oldest first.
#[derive(Default)]
pub(super) struct Pending {
    ops: Mutex<Vec<Op>>,
}

impl Pending {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Op>> {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A document as it will be. The lock is held while the engine is read, so that a change cannot slip from
    /// one to the other unseen.
    pub(super) fn get(&self, engine: &dyn Engine, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let ops = self.lock();
        for op in ops.iter().rev() {
            match op {
                Op::Put { id: put, json } if put == id => return Ok(Some(json.clone())),
                Op::Delete { id: deleted } if deleted == id => return Ok(None),
                _ => {}
            }
        }
        engine.get(id)
    }

    /// Documents with a prefix as they will be, ordered by id.
    pub(super) fn with_prefix(
        &self,
        engine: &dyn Engine,
        prefix: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let ops = self.lock();
        let mut found: std::collections::BTreeMap<String, Vec<u8>> =
            engine.with_prefix(prefix)?.into_iter().collect();
        for op in ops.iter() {
            match op {
                Op::Put { id, json } if id.starts_with(prefix) => {
                    found.insert(id.clone(), json.clone());
                }
                Op::Delete { id } if id.starts_with(prefix) => {
                    found.remove(id);
                }
                _ => {}
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Events, newest first, those that wait before those that are written.
    pub(super) fn events(
        &self,
        engine: &dyn Engine,
        query: &EventQuery,
    ) -> Result<Vec<Map<String, Value>>, StoreError> {
        let ops = self.lock();
        let mut found = Vec::new();
        for op in ops.iter().rev() {
            let Op::Event { targets, json, .. } = op else { continue };
            if found.len() == query.limit {
                break;
            }
            if targets.iter().any(|target| query.any_of.contains(target))
                && let Ok(body) = serde_json::from_slice::<Map<String, Value>>(json)
                && query.matches(&body)
            {
                found.push(body);
            }
        }
        let rest = EventQuery { limit: query.limit - found.len(), ..query.clone() };
        if rest.limit > 0 {
            found.extend(engine.events(&rest)?);
        }
        Ok(found)
    }

    /// Power changes of a device, oldest first.
    pub(super) fn power(
        &self,
        engine: &dyn Engine,
        device: &str,
        since: i64,
    ) -> Result<Vec<PowerChange>, StoreError> {
        let ops = self.lock();
        let mut found = engine.power(device, since)?;
        for op in ops.iter() {
            if let Op::Power { device: of, time, state, previous } = op
                && of == device
                && *time >= since
            {
                found.push(PowerChange { time: *time, state: *state, previous: *previous });
            }
        }
        Ok(found)
    }
}
