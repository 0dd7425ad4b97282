//! The VMM's events (`--event-monitor`): what of its guest's life it tells nowhere else.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What the events say of the VM, the last word counting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Whether vCPUs ran at all.
    pub boot: Boot,
    pub guest: Guest,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Boot {
    #[default]
    Never,
    Once,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guest {
    #[default]
    Fine,
    /// It said by its pvpanic device that it panicked, and has not booted since.
    Panicked,
}

impl Events {
    /// Reads the events, or their end: one that is cut, or no event at all, is passed over. What a
    /// VMM that was taken over writes is no more than text here.
    pub fn read(text: &str) -> Self {
        #[derive(Deserialize)]
        struct Event {
            source: String,
            #[serde(rename = "event")]
            name: String,
            properties: Option<BTreeMap<String, String>>,
        }
        let mut events = Self::default();
        // cloud-hypervisor ends each with an empty line.
        for text in text.split("\n\n") {
            let Ok(event) = serde_json::from_str::<Event>(text) else {
                continue;
            };
            let what = event.properties.unwrap_or_default();
            match (event.source.as_str(), event.name.as_str()) {
                // Not when it has begun: its vCPUs run before that is said, and may have panicked by then.
                ("vm", "booting" | "rebooting" | "restoring") => events.guest = Guest::Fine,
                ("vm", "booted" | "restored" | "rebooted") => events.boot = Boot::Once,
                // A crash kernel that takes over (`crash_loaded`) has panicked before it.
                ("guest", "panic")
                    if what.get("event").is_none_or(|what| what != "unknown_event") =>
                {
                    events.guest = Guest::Panicked;
                }
                _ => {}
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(source: &str, event: &str, properties: &str) -> String {
        format!(
            "{{\n  \"timestamp\": {{\n    \"secs\": 0,\n    \"nanos\": 41\n  }},\n  \"source\": \"{source}\",\n  \
             \"event\": \"{event}\",\n  \"properties\": {properties}\n}}\n\n"
        )
    }

    #[test]
    fn the_last_word_counts() {
        let booted = event("vm", "booted", "null");
        let panicked = event("guest", "panic", "{\"event\": \"panic\"}");
        let rebooting = event("vm", "rebooting", "null");
        let rebooted = event("vm", "rebooted", "null");
        assert_eq!(Events::read(""), Events::default());
        assert_eq!(Events::read(&booted).boot, Boot::Once);
        let read = |texts: &[&str]| Events::read(&texts.concat()).guest;
        assert_eq!(read(&[&booted]), Guest::Fine);
        assert_eq!(read(&[&booted, &panicked]), Guest::Panicked);
        assert_eq!(read(&[&panicked, &booted]), Guest::Panicked);
        let again = [&booted, &panicked, &rebooting, &rebooted];
        assert_eq!(read(&again.map(String::as_str)), Guest::Fine);
    }

    #[test]
    fn a_cut_event_and_nonsense_are_passed_over() {
        let panicked = event("guest", "panic", "null");
        let text = format!("s\": 0\n}}\n\n[]\n\n{panicked}{{\"source\":");
        assert_eq!(Events::read(&text).guest, Guest::Panicked);
    }
}
