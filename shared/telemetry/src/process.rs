//! What the process of a function has used so far.

use std::{fs, path::Path, sync::LazyLock, time::Duration, time::Instant};

use rustix::{
    fs::statvfs,
    time::{ClockId, clock_gettime},
};

use crate::{figures::Metric, variable};

/// When the process began, nearly: [`crate::init`] is the first that asks.
pub(crate) static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The memory, the time of processors, the free space in `/tmp` and the age of this process. What the system does not tell is left
/// out.
pub fn metrics() -> Vec<Metric> {
    let function = variable("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|| "none".to_owned());
    let metrics = [
        memory().map(|bytes| Metric::bytes("MemoryUsed", bytes)),
        cpu().map(|time| Metric::time("CpuTime", time)),
        free(Path::new("/tmp")).map(|bytes| Metric::bytes("TmpFree", bytes)),
        Some(Metric::time("ProcessAge", BEGAN.elapsed())),
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

fn free(path: &Path) -> Option<u64> {
    let found = statvfs(path).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_has_used() {
        let block = vec![1_u8; 64 << 20];
        let names: Vec<&str> = metrics().iter().map(|metric| metric.name).collect();
        assert_eq!(names, ["MemoryUsed", "CpuTime", "TmpFree", "ProcessAge"]);
        assert!(memory().unwrap() >= u64::try_from(block.len()).unwrap());
        assert!(cpu().unwrap() > Duration::ZERO && free(Path::new("/tmp")).unwrap() > 0);
        assert_eq!(free(Path::new("/nowhere")), None);
    }
}
