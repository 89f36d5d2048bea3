//! How official agents get their cores and new executables (config §1.4).

use outpost_wire::command::MAX_UPDATE_BLOCK;

use super::reader::Section;

/// The settings of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// `minifyCore`: the minified core, where the bundle has it. Default no.
    pub minify_core: bool,
    /// Not `noAgentUpdate`: agents of another build are updated. Default yes.
    pub updates: bool,
    /// `agentUpdateSystem: 2`: always by the recovery core. Default by blocks where that works.
    pub by_core: bool,
    /// `agentUpdateBlockSize`: bytes of a block, 1024 to 65531. Default 65531.
    pub block_size: usize,
    /// `temporaryAgentUpdate`: agents that are not installed as well. Default no.
    pub temporary: bool,
}

impl Default for Upkeep {
    fn default() -> Upkeep {
        Upkeep {
            minify_core: false,
            updates: true,
            by_core: false,
            block_size: MAX_UPDATE_BLOCK,
            temporary: false,
        }
    }
}

impl Upkeep {
    pub(super) fn read(section: &mut Section<'_>) -> Upkeep {
        let default = Upkeep::default();
        let block_size = section.number("agentupdateblocksize", 1024..=MAX_UPDATE_BLOCK as u64);
        Upkeep {
            minify_core: section.flag("minifycore", default.minify_core),
            updates: !section.flag("noagentupdate", false),
            by_core: section.number("agentupdatesystem", 1..=2) == Some(2),
            block_size: block_size.and_then(|size| usize::try_from(size).ok()).unwrap_or(default.block_size),
            temporary: section.flag("temporaryagentupdate", default.temporary),
        }
    }
}
