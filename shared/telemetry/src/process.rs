//! What the process of a function has used so far.

use std::{
    fs,
    path::Path,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use rustix::{
    fs::statvfs,
    time::{ClockId, clock_gettime},
};

use crate::{figures::Metric, variable};

/// When the process began, nearly: [`crate::init`] is the first that asks. By the clock on the wall, because any other may stand
/// still while Lambda keeps the process frozen.
pub(crate) static BEGAN: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

/// What a process has used, and what is left of the folder that all of its invocations share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub memory_bytes: u64,
    pub cpu: Duration,
    pub tmp_used_bytes: u64,
    pub tmp_free_bytes: u64,
}

/// What this process has used; `None` where the system does not tell all of it.
pub fn usage() -> Option<Usage> {
    let (tmp_used_bytes, tmp_free_bytes) = space(Path::new("/tmp"))?;
    Some(Usage { memory_bytes: memory()?, cpu: cpu()?, tmp_used_bytes, tmp_free_bytes })
}

/// When this process began.
pub fn began() -> SystemTime {
    *BEGAN
}

/// The memory, the time of processors, the free space in `/tmp` and the age of this process. What the system does not tell is left
/// out.
pub fn metrics() -> Vec<Metric> {
    let function = variable("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|| "none".to_owned());
    let metrics = [
        memory().map(|bytes| Metric::bytes("MemoryUsed", bytes)),
        cpu().map(|time| Metric::time("CpuTime", time)),
        space(Path::new("/tmp")).map(|(_, free)| Metric::bytes("TmpFree", free)),
        Some(Metric::time("ProcessAge", BEGAN.elapsed().unwrap_or_default())),
    ];
    metrics.into_iter().flatten().map(|metric| metric.of("FunctionName", function.clone())).collect()
}

/// What of its memory is in use.
fn memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    kilobytes.parse::<u64>().ok()?.checked_mul(1_024)
}

fn cpu() -> Option<Duration> {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Some(Duration::new(used.tv_sec.try_into().ok()?, used.tv_nsec.try_into().ok()?))
}

/// How much of a file system is in use, and how much this process could still use of it.
fn space(path: &Path) -> Option<(u64, u64)> {
    let found = statvfs(path).ok()?;
    let used = found.f_blocks.checked_sub(found.f_bfree)?.checked_mul(found.f_frsize)?;
    Some((used, found.f_bavail.checked_mul(found.f_frsize)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_has_used() {
        let block = vec![1_u8; 64 << 20];
        let names: Vec<&str> = metrics().iter().map(|metric| metric.name).collect();
        assert_eq!(names, ["MemoryUsed", "CpuTime", "TmpFree", "ProcessAge"]);
        let usage = usage().unwrap();
        assert!(usage.memory_bytes >= u64::try_from(block.len()).unwrap());
        assert!(usage.cpu > Duration::ZERO && usage.tmp_free_bytes > 0, "{usage:?}");
        assert!(began() <= SystemTime::now());
        assert_eq!(space(Path::new("/nowhere")), None);
    }
}
