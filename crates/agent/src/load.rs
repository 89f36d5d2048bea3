//! The machine's load of this moment (`cpuinfo`): processor, memory, temperatures.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::hardware::meminfo;

/// How long the processor is watched.
const SAMPLE: Duration = Duration::from_millis(500);

/// Percentages of the processor over half a second, memory in bytes, temperatures in °C.
pub async fn sample() -> Value {
    let before = cpu_times(&fs::read_to_string("/proc/stat").unwrap_or_default());
    tokio::time::sleep(SAMPLE).await;
    let after = cpu_times(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let percent: Vec<f64> =
        before.iter().zip(&after).map(|(before, after)| busy_percent(*before, *after)).collect();
    let (total, free) = (meminfo("MemTotal").unwrap_or(0), meminfo("MemAvailable").unwrap_or(0));
    let share = |part: u64| if total == 0 { 0.0 } else { round(part as f64 * 100.0 / total as f64) };
    json!({
        "cpu": { "total": percent.first().copied().unwrap_or(0.0), "cpus": percent.get(1..).unwrap_or_default() },
        "memory": { "total": total, "free": free, "percentFree": share(free), "percentConsumed": share(total.saturating_sub(free)) },
        "thermals": thermals(),
    })
}

/// (busy, all) ticks of the `cpu…` lines of `/proc/stat`; the first is the sum of all processors.
fn cpu_times(stat: &str) -> Vec<(u64, u64)> {
    stat.lines()
        .take_while(|line| line.starts_with("cpu"))
        .map(|line| {
            let ticks: Vec<u64> =
                line.split_ascii_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
            let all: u64 = ticks.iter().sum();
            let idle: u64 = ticks.iter().skip(3).take(2).sum(); // idle and iowait
            (all - idle, all)
        })
        .collect()
}

fn busy_percent(before: (u64, u64), after: (u64, u64)) -> f64 {
    let all = after.1.saturating_sub(before.1);
    if all == 0 { 0.0 } else { round(after.0.saturating_sub(before.0) as f64 * 100.0 / all as f64) }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn thermals() -> Vec<f64> {
    (0..16)
        .map_while(|zone| crate::host::read_line(&format!("/sys/class/thermal/thermal_zone{zone}/temp")))
        .filter_map(|text| text.parse::<f64>().ok())
        .map(|millidegrees| millidegrees / 1000.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_the_share_of_busy_ticks() {
        let before = cpu_times("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3 4 5 6 7 8\nintr 5\n");
        assert_eq!(before, [(200, 1000), (27, 36)]);
        assert_eq!(busy_percent((200, 1000), (250, 1100)), 50.0);
        assert_eq!(busy_percent((200, 1000), (200, 1000)), 0.0);
    }
}
